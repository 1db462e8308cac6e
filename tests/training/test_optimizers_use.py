"""SAM and S2-SAM in loops: without a closure, accumulation, scaling, masks, exceptions, interruptions."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.errors import UserError
from training import masks
from training.optimizers import OPTIMIZERS, S2SAM, SAM, S2SAMConfig, SAMConfig
from training.optimizers.flat import Flat

BASES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01),
}
Batches = list[tuple[Tensor, Tensor]]


def network(seed: int = 0) -> nn.Sequential:
    """Convolution, batch norm and classifier, as the loop lays them out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)
        )
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def batches(count: int, size: int = 6) -> Batches:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, 6, 6, generator=generator),
            torch.randint(3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def train(net: nn.Module, optimizer: Any, data: Iterable[tuple[Tensor, Tensor]], zero: bool = False) -> None:
    """With a closure; `zero` keeps gradients as zeros where they are otherwise taken away."""
    for images, labels in data:

        def closure(sync: bool = True, images: Tensor = images, labels: Tensor = labels) -> Tensor:
            optimizer.zero_grad(set_to_none=not zero)
            loss = F.cross_entropy(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        optimizer.step(closure)


def train_open(net: nn.Module, optimizer: S2SAM, data: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Without a closure."""
    for images, labels in data:
        optimizer.zero_grad()
        with optimizer.perturbed():
            F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether parameters and buffers are the same bits."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.mark.parametrize("base", BASES)
def test_with_and_without_a_closure(base: str) -> None:
    one, other, plain = network(), network(), network()
    train(one, S2SAM(BASES[base](one.parameters())), batches(4))
    train_open(other, S2SAM(BASES[base](other.parameters())), batches(4))
    train(plain, BASES[base](plain.parameters()), batches(4))
    assert alike(one, other)
    assert not alike(one, plain)


@pytest.mark.parametrize("name", ["sam", "asam", "s2sam"])
@pytest.mark.parametrize("restore", ["copy", "subtract"])
def test_however_gradients_are_zeroed(name: str, restore: str) -> None:
    """In PyTorch 2 zeroing takes gradients away by default; code that expects them there would do nothing."""
    one, other = network(), network()
    for net, zero in ((one, True), (other, False)):
        train(net, OPTIMIZERS[name](restore=restore).build(net), batches(4), zero)  # type: ignore[call-arg]
    assert alike(one, other)


def test_accumulation_is_the_big_batch() -> None:
    """Backward passes inside one `perturbed` are taken at one point."""
    images, labels = torch.randn(4, 6, 5, dtype=torch.float64), torch.randint(3, (4, 6))
    nets = [nn.Linear(5, 3, dtype=torch.float64) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, pieces in zip(nets, (1, 3), strict=True):
        optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.5)
        for batch, true in zip(images, labels, strict=True):
            optimizer.zero_grad()
            with optimizer.perturbed():
                for part, target in zip(batch.chunk(pieces), true.chunk(pieces), strict=True):
                    (F.cross_entropy(net(part), target) / pieces).backward()
            optimizer.step()
    torch.testing.assert_close(nets[0].weight, nets[1].weight, rtol=0, atol=1e-12)


def direction(optimizer: S2SAM, weight: Tensor) -> Tensor:
    """Where the next perturbation points."""
    before = weight.detach().clone()
    with optimizer.perturbed():
        return weight.detach() - before


def test_a_scaler_that_skips_keeps_the_previous_gradient() -> None:
    torch.manual_seed(0)
    net, images = nn.Linear(5, 1), torch.randn(3, 5)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(factor: float) -> None:
        optimizer.zero_grad()
        with optimizer.perturbed():
            scaler.scale((net(images) ** 2).mean() * factor).backward()
        scaler.step(optimizer)
        scaler.update()

    plain = copy.deepcopy(net)
    step(1.0)
    (plain(images) ** 2).mean().backward()
    kept = optimizer.state[net.weight]["previous_gradient"].clone()
    torch.testing.assert_close(kept, plain.weight.grad)  # unscaled
    up, weights = direction(optimizer, net.weight), net.weight.detach().clone()
    step(float("inf"))
    assert scaler.get_scale() == 512
    assert torch.equal(net.weight, weights)
    assert torch.equal(optimizer.state[net.weight]["previous_gradient"], kept)
    assert torch.equal(direction(optimizer, net.weight), up)
    assert optimizer.steps == 1
    step(1.0)
    assert not torch.equal(net.weight, weights)
    assert not torch.equal(direction(optimizer, net.weight), up)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("adaptive", ["none", "asam", "official"])
def test_no_perturbation_from_a_gradient_without_a_norm(bad: float, adaptive: str) -> None:
    """The square of 1e30 is no float32 either."""
    weight = nn.Parameter(torch.ones(4))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.0), adaptive=adaptive)  # type: ignore[arg-type]
    with optimizer.perturbed():
        weight.grad = torch.tensor([1.0, bad, -2.0, 0.0])
    optimizer.state[weight]["previous_gradient"] = weight.grad.clone()
    optimizer._ready = False
    assert not direction(optimizer, weight).any()


def test_sam_is_not_perturbed_by_it_either() -> None:
    net = nn.Linear(2, 1)
    before, seen = net.weight.detach().clone(), []

    def closure() -> float:
        seen.append(net.weight.detach().clone())
        for one in net.parameters():
            one.grad = torch.full_like(one, float("nan") if len(seen) == 1 else 0.0)
        return 0.0

    SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=1.0, batch_norm="both").step(closure)
    assert torch.equal(seen[1], before)
    assert torch.equal(net.weight, before)


def test_the_raw_gradient_is_kept() -> None:
    """Whatever the base does to it, clipping here, comes after."""
    weight = nn.Parameter(torch.ones(4))
    base = torch.optim.SGD([weight], lr=0.1)

    def clip(*_: object) -> None:
        assert weight.grad is not None
        weight.grad.clamp_(max=1.0)

    base.register_step_pre_hook(clip)
    optimizer = S2SAM(base)
    with optimizer.perturbed():
        (weight * torch.arange(4.0)).sum().backward()
    optimizer.step()
    assert optimizer.state[weight]["previous_gradient"].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(weight.detach(), torch.tensor([1.0, 0.9, 0.9, 0.9]))


def test_memory_of_the_direction_is_given_back() -> None:
    """During forward and backward pass there are the previous gradient and the copied weights, no more."""
    weight = nn.Parameter(torch.ones(64))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1))
    for _ in range(3):
        optimizer.zero_grad()
        with optimizer.perturbed():
            (weight**2).sum().backward()
            held = [part for part in vars(optimizer).values() if isinstance(part, Flat)]
            assert sum(part.vectors[0].untyped_storage().nbytes() for part in held) <= 4 * 64
        optimizer.step()


def test_zero_gradient() -> None:
    weight = nn.Parameter(torch.ones(4))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1))
    with optimizer.perturbed():
        weight.grad = torch.zeros(4)
    optimizer.step()
    assert not direction(optimizer, weight).any()


@pytest.mark.parametrize("name", ["sam", "s2sam"])
@pytest.mark.parametrize("restore", ["copy", "subtract"])
def test_an_exception_leaves_the_weights(name: str, restore: str) -> None:
    net = network()
    optimizer: Any = OPTIMIZERS[name](restore=restore, rho=2.0).build(net)  # type: ignore[call-arg]
    train(net, optimizer, batches(2))
    before = [one.detach().clone() for one in net.parameters()]
    calls = 0

    def closure() -> float:
        nonlocal calls
        calls += 1
        if name == "s2sam" or calls == 2:
            assert not torch.equal(before[0], net[0].weight)
            raise KeyboardInterrupt
        F.cross_entropy(net(batches(1)[0][0]), batches(1)[0][1]).backward()  # type: ignore[no-untyped-call]
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    for one, old in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(one.detach(), old, rtol=0, atol=0 if restore == "copy" else 1e-5)
    assert net[1].track_running_stats
    train(net, optimizer, batches(1))  # goes on


def test_evaluation_sees_the_weights() -> None:
    """Between two steps, and between the gradient and its step."""
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()), rho=1.0)
    train_open(net, optimizer, batches(2))
    before = [one.detach().clone() for one in net.parameters()]
    optimizer.zero_grad()
    with optimizer.perturbed():
        F.cross_entropy(net(batches(1)[0][0]), batches(1)[0][1]).backward()  # type: ignore[no-untyped-call]
        assert not torch.equal(net[0].weight, before[0])
    assert all(torch.equal(one, old) for one, old in zip(net.parameters(), before, strict=True))


def test_a_gradient_that_was_broken_off_makes_no_step() -> None:
    """Not even when the one before it was complete and its step skipped."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1))
    with optimizer.perturbed():
        weight.sum().backward()
    with pytest.raises(KeyboardInterrupt), optimizer.perturbed():
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="inside"):
        optimizer.step()


def test_learning_rate_and_groups_are_the_bases() -> None:
    weight, late = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for lr in (0.05, 0.025):
        optimizer.zero_grad()
        with optimizer.perturbed():
            (weight**2).sum().backward()
        optimizer.step()
        scheduler.step()
        assert optimizer.base.param_groups[0]["lr"] == lr
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 7.0
    optimizer.add_param_group({"params": [late]})
    assert optimizer.base.param_groups[0]["lr"] == 7.0
    assert optimizer.base.param_groups[1]["params"] == [late]
    up = optimizer.state[weight]["previous_gradient"].clone()
    assert torch.equal(direction(optimizer, weight) > 0, up > 0)  # kept when another parameter came
    assert not direction(optimizer, late).any()


def test_a_parameter_without_gradient_and_a_frozen_one() -> None:
    """One that had a gradient, and has none in the next step, is not perturbed by the older one."""
    always, once, never, frozen = (nn.Parameter(torch.ones(2)) for _ in range(4))
    frozen.requires_grad_(False)
    optimizer = S2SAM(torch.optim.SGD([always, once, never, frozen], lr=0.1), rho=1.0)
    for step in range(2):
        optimizer.zero_grad()
        with optimizer.perturbed():
            ((always**2).sum() + ((once**2).sum() if step == 0 else 0)).backward()
        optimizer.step()
        assert direction(optimizer, always).any()
        assert bool(direction(optimizer, once).any()) == (step == 0)
        assert not direction(optimizer, never).any()
    assert frozen not in optimizer.state


def test_norm_over_two_types() -> None:
    """Both parts count in one length, 0.5 along (3, 4)."""
    wide, narrow = nn.Parameter(torch.zeros(1, dtype=torch.float64)), nn.Parameter(torch.zeros(1))
    optimizer = S2SAM(torch.optim.SGD([wide, narrow], lr=0.0), rho=0.5)
    with optimizer.perturbed():
        (3 * wide.sum() + 4 * narrow.sum()).backward()
    optimizer.step()
    assert float(direction(optimizer, wide)) == pytest.approx(0.3)
    assert float(direction(optimizer, narrow)) == pytest.approx(0.4)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


CONFIGS = {
    "s2sam": S2SAMConfig(),
    "asam": S2SAMConfig(adaptive="asam"),
    "official": S2SAMConfig(adaptive="official", rho=0.01),
    "sqrt": S2SAMConfig(rho_schedule="sqrt", rho_c=0.1),
    "sam": SAMConfig(rho_schedule="sqrt", rho_c=0.1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_resumes_exactly(name: str) -> None:
    whole, half = network(), network()
    train(whole, CONFIGS[name].build(whole), batches(6))
    optimizer = CONFIGS[name].build(half)
    train(half, optimizer, batches(6)[:3])
    state = saved_and_loaded({"model": half.state_dict(), "optimizer": optimizer.state_dict()})
    again = network(seed=9)
    again.load_state_dict(state["model"])
    resumed = CONFIGS[name].build(again)
    resumed.load_state_dict(state["optimizer"])
    train(again, resumed, batches(6)[3:])
    assert alike(again, whole)


@pytest.mark.parametrize("base", BASES)
def test_any_base_resumes_exactly(base: str) -> None:
    whole, half = network(), network()
    train(whole, S2SAM(BASES[base](whole.parameters())), batches(5))
    optimizer = S2SAM(BASES[base](half.parameters()))
    train(half, optimizer, batches(5)[:3])
    resumed = S2SAM(BASES[base](half.parameters()))
    resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    train(half, resumed, batches(5)[3:])
    assert alike(half, whole)


def test_the_length_of_the_perturbation_is_resumed_as_learning_rates_are() -> None:
    """Also where a loop of one's own changed it; states from before lengths were kept leave it alone."""
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()), rho=0.5)
    train(net, optimizer, batches(2))
    optimizer.rho = 0.3
    state = saved_and_loaded(optimizer.state_dict())
    whole, half = copy.deepcopy(net), copy.deepcopy(net)
    resumed = S2SAM(BASES["sgd"](half.parameters()))
    resumed.load_state_dict(state)
    assert resumed.rho == 0.3
    going_on = S2SAM(BASES["sgd"](whole.parameters()), rho=0.3)
    older = saved_and_loaded(optimizer.state_dict())
    del older["perturbation"]
    going_on.load_state_dict(older)
    assert going_on.rho == 0.3
    train(half, resumed, batches(2))
    train(whole, going_on, batches(2))
    assert alike(half, whole)
    for other, what in (
        (S2SAM(BASES["sgd"](net.parameters()), adaptive="asam"), "adaptive 'none'"),
        (SAM(optimizer.base, model=net), "optimizer 'S2SAM', loaded into SAM"),
    ):
        with pytest.raises(UserError, match=f"optimizer state of S2SAM with {what}.*the same"):
            other.load_state_dict(state)


def test_a_copy_goes_on_by_itself() -> None:
    """With model and optimizer in one copy, as ``copy.deepcopy`` of a trainer does."""
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()))
    train(net, optimizer, batches(3))
    other, its = copy.deepcopy((net, optimizer))
    train(net, optimizer, batches(2))
    train(other, its, batches(2))
    assert alike(net, other)
    assert its.base.param_groups is its.param_groups


def test_another_optimizers_state_is_refused() -> None:
    net = network()
    with pytest.raises(UserError, match="needs base and steps"):
        S2SAM(BASES["sgd"](net.parameters())).load_state_dict(BASES["sgd"](net.parameters()).state_dict())


def test_a_change_of_the_mask_zeroes_the_previous_gradient() -> None:
    """The perturbation then has its full length in the rest; a weight grown there starts unperturbed."""
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()), rho=0.5)
    train(net, optimizer, batches(2))
    mask = {"0.weight": torch.rand(net[0].weight.shape) < 0.5, "4.weight": torch.rand(3, 64) < 0.5}
    masks.apply_to_weights(net, mask)
    masks.apply_to_state(optimizer, net, mask)
    for name, part in mask.items():
        weight = net.get_parameter(name)
        assert not optimizer.state[weight]["previous_gradient"][~part].any()
        assert optimizer.state[weight]["previous_gradient"][part].any()
        assert not optimizer.base.state[weight]["momentum_buffer"][~part].any()
    before = [one.detach().clone() for one in net.parameters()]
    with optimizer.perturbed():
        moved = [one.detach() - old for one, old in zip(net.parameters(), before, strict=True)]
    assert float(torch.cat([one.flatten() for one in moved]).norm()) == pytest.approx(0.5, rel=1e-5)
    assert not moved[0][~mask["0.weight"]].any()


def test_a_state_that_was_cleared_means_a_first_step() -> None:
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()))
    train(net, optimizer, batches(2))
    optimizer.state.clear()
    assert not direction(optimizer, net[0].weight).any()
    train(net, optimizer, batches(1))
    assert direction(optimizer, net[0].weight).any()


@pytest.mark.parametrize(("which", "passes"), [("first", 1), ("both", 2)])
def test_sam_and_running_statistics(which: str, passes: int) -> None:
    """After the first pass alone they are those of a forward pass at the weights."""
    net, reference = network(), network()
    images, labels = batches(1)[0]
    optimizer = SAMConfig(batch_norm=which).build(net)  # type: ignore[arg-type]
    train(net, optimizer, [(images, labels)])
    reference(images)
    assert int(net[1].num_batches_tracked) == passes
    assert torch.equal(net[1].running_mean, reference[1].running_mean) == (passes == 1)
    assert torch.equal(net[1].running_var, reference[1].running_var) == (passes == 1)
    assert net[1].track_running_stats


def test_s2sam_statistics_come_from_its_only_pass() -> None:
    net = network()
    optimizer = S2SAM(BASES["sgd"](net.parameters()), rho=1.0)
    train(net, optimizer, batches(3))
    assert int(net[1].num_batches_tracked) == 3
    first = network()
    train(first, S2SAMConfig(first_step="sam").build(first), batches(3))
    assert int(first[1].num_batches_tracked) == 3


@pytest.mark.parametrize(("perturbation", "asked"), [("global", [True, True]), ("process", [False, True])])
def test_sam_of_each_process(perturbation: str, asked: list[bool]) -> None:
    """Only the first gradient is this process's own."""
    net = nn.Linear(2, 1)
    syncs = []

    def closure(sync: bool = True) -> float:
        syncs.append(sync)
        net(torch.ones(1, 2)).sum().backward()
        return 0.0

    SAMConfig(perturbation=perturbation).build(net).step(closure)  # type: ignore[arg-type]
    assert syncs == asked


def test_sam_gradients_of_the_first_pass_are_gone() -> None:
    """A closure that doesn't zero them gets those of the second pass alone."""
    net = nn.Linear(2, 1)
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.0), batch_norm="both")

    def closure() -> float:
        net(torch.ones(1, 2)).sum().backward()
        return 0.0

    optimizer.step(closure)
    assert torch.equal(net.weight.grad, torch.ones(1, 2))
