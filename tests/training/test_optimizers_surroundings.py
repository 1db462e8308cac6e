"""SAM and S2-SAM inside autocast, around a base that maximizes, or whose state or weights are replaced."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.optimizers import S2SAM, SAM, FriendlySAM
from training.optimizers.perturbing import Perturbing

Make = Callable[[torch.optim.Optimizer, nn.Module], Perturbing]
KINDS: dict[str, Make] = {
    "sam": lambda base, net: SAM(base, rho=0.5, model=net),
    "asam": lambda base, net: SAM(base, rho=0.5, model=net, adaptive="asam"),
    "fsam": lambda base, net: FriendlySAM(base, rho=0.5, model=net),
    "fsam official": lambda base, net: FriendlySAM(base, rho=0.5, model=net, average="official", sigma=0.5),
    "s2sam": lambda base, net: S2SAM(base, rho=0.5),
    "s2sam sam": lambda base, net: S2SAM(base, rho=0.5, model=net, first_step="sam"),
    "s2sam asam": lambda base, net: S2SAM(base, rho=0.5, adaptive="asam"),
    "s2sam official": lambda base, net: S2SAM(base, rho=0.5, adaptive="official"),
    "s2sam subtract": lambda base, net: S2SAM(base, rho=0.5, restore="subtract"),
}


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)


def descend(net: nn.Module, optimizer: Perturbing, sign: float = 1.0, steps: int = 3) -> None:
    """Some steps on the loss times `sign`."""
    images, labels = examples()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images.to(next(net.parameters()).dtype)).float(), labels) * sign
        loss.backward()
        return loss.detach()

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def alike(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(mine, its) for mine, its in zip(one.parameters(), other.parameters(), strict=True))


def half() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", KINDS)
def test_one_autocast_around_a_step_is_one_in_each_pass(kind: str) -> None:
    """Autocast keeps its casts of the weights until its outermost block ends."""
    around, inside = network(), network()
    for net, whole in ((around, True), (inside, False)):
        optimizer, images, labels = KINDS[kind](sgd(net), net), *examples()

        def closure(optimizer: Perturbing = optimizer, net: nn.Module = net, whole: bool = whole) -> Tensor:
            optimizer.zero_grad()
            with nullcontext() if whole else half():
                loss = F.cross_entropy(net(images).float(), labels)  # noqa: B023
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        for _ in range(3):
            with half() if whole else nullcontext():
                optimizer.step(closure)  # type: ignore[arg-type]
    assert alike(around, inside)


@pytest.mark.parametrize("restore", ["copy", "subtract"])
def test_autocast_before_and_after_a_block_is_at_the_weights(restore: str) -> None:
    net, (images, _) = network(), examples()
    optimizer = S2SAM(sgd(net), rho=0.5, restore=restore)  # type: ignore[arg-type]
    descend(net, optimizer)
    with half():
        before = net(images)
        with optimizer.perturbed():
            above = net(images)
        after = net(images)
    if restore == "copy":
        assert torch.equal(before, after)
    assert (before - above).abs().max() > 0.01 > (before - after).abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_maximizing_is_minimizing_the_negative(kind: str) -> None:
    low, high = network(), network()
    descend(low, KINDS[kind](sgd(low), low))
    base = torch.optim.SGD(high.parameters(), lr=0.1, momentum=0.9, maximize=True)
    descend(high, KINDS[kind](base, high), -1.0)
    assert alike(low, high)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_that_maximize_and_others(kind: str) -> None:
    """A saddle: each group's worst point nearby is on its own side; a group that is added, too."""
    low, high = (torch.ones(2, dtype=torch.float64).requires_grad_() for _ in range(2))
    both = torch.ones(4, dtype=torch.float64).requires_grad_()
    factors = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def run(base: torch.optim.Optimizer, loss: Callable[[], Tensor], more: list[Tensor]) -> None:
        optimizer = KINDS[kind](base, nn.Identity())
        if more:
            optimizer.add_param_group({"params": more, "maximize": True})

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        for _ in range(3):
            optimizer.step(closure)  # type: ignore[arg-type]

    run(torch.optim.SGD([low], lr=0.1), lambda: (factors * (low**2 - high**2)).sum() / 2, [high])
    run(torch.optim.SGD([both], lr=0.1), lambda: (factors.repeat(2) * both**2).sum() / 2, [])
    torch.testing.assert_close(torch.cat([low, high]), both, rtol=1e-12, atol=0)


def _square(net: nn.Module) -> Tensor:
    loss = torch.stack([one.square().sum() for one in net.parameters()]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["itself", "copy", "pickle", "loaded before"])
def test_a_state_loaded_into_the_base_leaves_the_groups_shared(kind: str, way: str) -> None:
    """As the refusal of another optimizer's state advises: schedules and new groups must reach the base."""
    net = network()
    optimizer = KINDS[kind](sgd(net), net)
    descend(net, optimizer)
    if way == "copy":
        optimizer = copy.deepcopy(optimizer)
    if way == "pickle":
        optimizer = pickle.loads(pickle.dumps(optimizer))
    if way == "loaded before":
        for _ in range(3):
            optimizer.load_state_dict(optimizer.state_dict())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.0)
    optimizer.base.load_state_dict(sgd(net).state_dict())
    optimizer.step(lambda: _square(net))  # type: ignore[arg-type]
    assert optimizer.param_groups is optimizer.base.param_groups
    assert len(optimizer.base._optimizer_load_state_dict_post_hooks) == 1  # type: ignore[attr-defined]
    schedule.step()
    assert optimizer.base.param_groups[0]["lr"] == 0
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.base.param_groups) == 2


@pytest.mark.parametrize("adaptive", ["none", "official"])
@pytest.mark.parametrize("away", ["frozen", "removed"])
def test_a_gradient_from_before_a_parameter_was_away_is_forgotten(away: str, adaptive: str) -> None:
    """It comes back as one without a previous gradient, which isn't perturbed."""
    stays, leaves = (torch.ones(1, dtype=torch.float64).requires_grad_() for _ in range(2))
    optimizer = S2SAM(torch.optim.SGD([stays], lr=0.1), rho=0.1, adaptive=adaptive)  # type: ignore[arg-type]
    optimizer.add_param_group({"params": [leaves]})
    moves: list[bool] = []

    def step() -> None:
        optimizer.zero_grad()
        before = leaves.item()
        with optimizer.perturbed():
            moves.append(leaves.item() != before)
            (stays**2 + 4 * leaves**2).sum().backward()
        optimizer.step()

    step()
    step()
    group = optimizer.param_groups[1]
    if away == "frozen":
        leaves.requires_grad_(False)
    else:
        optimizer.param_groups.remove(group)
    step()
    step()
    assert not optimizer.state.get(leaves)
    if away == "frozen":
        leaves.requires_grad_(True)
    else:
        optimizer.add_param_group(group)
    step()
    step()
    assert moves == [False, True, False, False, False, True]


def test_an_average_from_before_a_parameter_was_away_is_forgotten() -> None:
    stays, leaves = (torch.ones(1, dtype=torch.float64).requires_grad_() for _ in range(2))
    optimizer = FriendlySAM(torch.optim.SGD([stays, leaves], lr=0.1), batch_norm="both", decay=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (stays**2 + 4 * leaves**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(closure)  # type: ignore[arg-type]
    leaves.requires_grad_(False)
    optimizer.step(closure)  # type: ignore[arg-type]
    assert optimizer.state[stays]
    assert not optimizer.state.get(leaves)
    leaves.requires_grad_(True)
    gradient = 8 * leaves.item()
    optimizer.step(closure)  # type: ignore[arg-type]
    assert optimizer.state[leaves]["gradient_average"].item() == gradient / 2


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_type_after_some_steps(kind: str) -> None:
    """They come back exactly, and go on as those of an optimizer that got the state in that type."""
    net = network()
    optimizer = KINDS[kind](torch.optim.SGD(net.parameters(), lr=0.1), net)
    descend(net, optimizer)
    net.double()
    with torch.no_grad():
        for one in net.parameters():
            one.add_(1e-10)
    other = copy.deepcopy(net)
    again = KINDS[kind](torch.optim.SGD(other.parameters(), lr=0.1), other)
    again.load_state_dict(optimizer.state_dict())
    descend(net, optimizer)
    descend(other, again)
    assert alike(net, other)
