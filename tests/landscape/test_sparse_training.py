"""Sparse kernels in training mode against float64 autograd."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import NETWORKS, network
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_networks import RandomNet, exact, layers, machines, prepare
from torch import Tensor, nn

pytest.importorskip("llvmlite", reason="the extra 'sparse' isn't installed")

from landscape.sparse.batch import SparseTraining
from landscape.sparse.machine import host
from landscape.sparse.trace import CannotRun
from training.models import build_model


def relative(got: Tensor, expected: Tensor) -> float:
    """By the norm, as a flipped ReLU changes single numbers."""
    return float((got.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-12))


def gradients(net: nn.Module, run, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Output, gradient by the input, gradients by parameters of a weighted sum of the output."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = run(x)
    (out * weight.to(out)).sum().backward()
    assert x.grad is not None
    found = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
    return out.detach(), x.grad, {name: one.clone() for name, one in found.items()}


def compare(net: nn.Module, kept: dict[str, Tensor], x: Tensor, machine, bound: float) -> None:
    """Outputs, gradients and running statistics against PyTorch in float64."""
    plain = exact(net).train()
    net.train()
    sparse = SparseTraining(net, kept, x[:1], machine, input_gradient=True)
    weight = torch.randn(plain(x.double()).shape, generator=torch.Generator().manual_seed(5))
    plain = exact(net).train()
    expected = gradients(plain, plain, x.double(), weight)
    got = gradients(net, sparse, x, weight)
    assert relative(got[0], expected[0]) < bound
    assert relative(got[1], expected[1]) < bound
    for name, one in expected[2].items():
        mask = kept.get(name, torch.ones_like(one, dtype=torch.bool))
        total = max(float(one.norm()), 0.02 * float(weight.norm()))  # a sum that cancels has no digits
        assert float((got[2][name] - one * mask).norm()) < bound * total, name
        assert bool((got[2][name][~mask] == 0).all())
    for (name, one), other in zip(net.named_buffers(), plain.buffers(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=bound, atol=bound), name


@given(
    built=st.lists(layers, min_size=1, max_size=3),
    size=st.tuples(st.integers(2, 13), st.integers(2, 13)),
    channels=st.integers(1, 4),
    flat=st.booleans(),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    count=st.sampled_from([2, 3, 16, 21]),
    seed=st.integers(0, 99),
    choice=st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_random_networks(built, size, channels, flat, density, count, seed, choice):
    net = RandomNet(size, channels, built, flat)
    kept = prepare(net, density, seed)
    x = torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    compare(net.double(), kept, x, machines()[choice % len(machines())], 1e-9)


@pytest.mark.parametrize("name", [name for name, (_, traced) in NETWORKS.items() if traced])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_networks_of_every_kind(name: str, dtype: torch.dtype) -> None:
    net = network(name)
    for one in net.modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
    kept = prepare(net, 0.5, 1)
    x = torch.randn(37, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    compare(net.to(dtype), kept, x.to(dtype), host(), 1e-10 if dtype == torch.float64 else 2e-2)


@pytest.mark.parametrize("name", ["resnet20", "resnet32_wide", "vgg19"])
def test_architectures_of_ours(name: str) -> None:
    torch.manual_seed(0)
    net = build_model(name)
    kept = prepare(net, 0.05, 0)
    compare(net.double(), kept, torch.randn(5, 3, 32, 32, dtype=torch.double), host(), 1e-9)


def test_gradcheck_through_the_public_function() -> None:
    net = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)),
    ).double()
    kept = prepare(net, 0.6, 4)
    x = torch.randn(4, 2, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    sparse = SparseTraining(net, kept, x, host(), input_gradient=True)
    names = [name for name, one in net.named_parameters() if one.dim() == 1 or bool(kept[name].all())]

    def run(x: Tensor, *_: Tensor) -> Tensor:
        return sparse(x)

    assert torch.autograd.gradcheck(
        run, (x.requires_grad_(), *(net.get_parameter(name) for name in names)), nondet_tol=0.0
    )


def test_the_first_steps_of_a_training() -> None:
    """The losses of PyTorch's own training, over 50 steps; in float64, for training is chaotic."""
    torch.manual_seed(0)
    first = build_model("resnet20", widths=(8, 16, 32))
    kept = prepare(first, 0.2, 0)
    with torch.no_grad():
        for name, one in first.named_parameters():
            one.mul_(2**0.5) if name.endswith("weight") and one.dim() == 4 else None
            one.fill_(1.0) if "bn" in name and name.endswith("weight") else None
    models = [copy.deepcopy(first).double(), copy.deepcopy(first).double()]
    losses: list[list[float]] = [[], []]
    images, labels = torch.randn(200, 3, 16, 16).double(), torch.randint(0, 10, (200,))
    for number, net in enumerate(models):
        run = net if number == 0 else SparseTraining(net, kept, images[:1], host())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
        for step in range(50):
            part = torch.arange(20 * step, 20 * step + 20) % 200
            optimizer.zero_grad()
            loss = F.cross_entropy(run(images[part]), labels[part])
            loss.backward()
            for name, mask in kept.items():
                net.get_parameter(name).grad.mul_(mask)
            optimizer.step()
            losses[number].append(loss.item())
    assert losses[0][-1] < losses[0][0]
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-8


def small() -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    net = build_model("resnet20", widths=(4, 8, 8))
    return net, prepare(net, 0.4, 2), torch.randn(70, 3, 16, 16)


def test_same_bits_twice_and_for_any_memory_used_before() -> None:
    net, kept, x = small()
    sparse = SparseTraining(net, kept, x[:1], host())
    found, start = [], copy.deepcopy(net.state_dict())
    for count in (70, 3, 70, 33, 70):
        net.load_state_dict(start)  # running statistics move, and sums are taken about them
        net.zero_grad()
        out = sparse(x[:count])
        (out**2).sum().backward()
        if count == 70:
            found.append([out.detach().clone(), *(one.grad.clone() for one in net.parameters())])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_statistics_stay_where_they_are_frozen() -> None:
    net, kept, x = small()
    sparse = SparseTraining(net, kept, x[:1], host())
    before = copy.deepcopy(dict(net.named_buffers()))
    norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        one.track_running_stats = False
    sparse(x)
    assert all(torch.equal(one, before[name]) for name, one in net.named_buffers())
    for one in norms:
        one.track_running_stats = True
    sparse(x)
    assert not torch.equal(net.bn1.running_mean, before["bn1.running_mean"])
    assert int(net.bn1.num_batches_tracked) == int(before["bn1.num_batches_tracked"]) + 1


def test_cumulative_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, bias=True), nn.BatchNorm2d(3, momentum=None), nn.Flatten())
    plain = copy.deepcopy(net)
    sparse = SparseTraining(net, {}, torch.randn(1, 2, 5, 5), host())
    for seed in range(3):
        x = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(seed)) + 3
        sparse(x), plain(x)
    assert torch.allclose(net[1].running_mean, plain[1].running_mean, atol=1e-5)
    assert torch.allclose(net[1].running_var, plain[1].running_var, rtol=1e-4)


def test_variance_of_large_means() -> None:
    """Sums of squares would lose the variance: the mean is a thousand times the deviation."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Flatten())
    nn.init.ones_(net[0].weight)
    x = 1000 + torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sparse = SparseTraining(net, {}, x[:1], host())
    for _ in range(60):  # running means come near
        sparse(x)
    assert relative(sparse(x).detach(), exact(net).train()(x.double()).detach()) < 1e-3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(bad: float) -> None:
    net, kept, x = small()
    x[5, 0, 3, 3] = bad
    sparse = SparseTraining(net, kept, x[:1], host())
    loss = sparse(x).sum()
    assert not bool(loss.isfinite())
    loss.backward()
    assert not all(bool(one.grad.isfinite().all()) for one in net.parameters())


def test_what_autograd_may_ask() -> None:
    net, kept, x = small()
    sparse = SparseTraining(net, kept, x[:1], host())
    with torch.no_grad():
        assert not sparse(x).requires_grad
    first, second = sparse(x), sparse(x)  # two graphs at a time
    (first**2).sum().backward()
    alone = [one.grad.clone() for one in net.parameters()]
    (second**2).sum().backward()
    for one, a in zip(net.parameters(), alone, strict=True):
        assert relative(one.grad, 2 * a) < 1e-2
    sparse(x)  # its graph is thrown away
    gc.collect()
    with pytest.raises(RuntimeError, match="second time"):
        first.sum().backward()
    del first, second
    assert len(sparse._free) == 1
    with pytest.raises(ValueError, match="requires a gradient"):
        sparse(x.clone().requires_grad_())
    with pytest.raises(ValueError, match="expected"):
        sparse(x[:, :2])
    net.conv1.weight.requires_grad_(False)
    net.zero_grad(set_to_none=True)
    sparse(x).sum().backward()
    assert net.conv1.weight.grad is None


def test_a_single_value_per_channel_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    sparse = SparseTraining(net, {}, torch.randn(2, 1, 3, 3), host())
    sparse(torch.randn(2, 1, 3, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        sparse(torch.randn(1, 1, 3, 3))


def test_a_norm_that_went_into_evaluation_mode_is_refused() -> None:
    """Not computed with statistics of the batch, which that mode is meant to avoid."""
    net, kept, x = small()
    sparse = SparseTraining(net, kept, x[:1], host())
    sparse(x)
    net.bn1.eval()
    with pytest.raises(ValueError, match="bn1 is in evaluation mode"):
        sparse(x)
    net.bn1.train()
    sparse(x)


def test_a_norm_without_running_statistics_has_one_mode() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    x = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    sparse = SparseTraining(net, {}, x[:1], host())
    net[1].eval()
    assert torch.allclose(sparse(x), net(x), atol=1e-5)
    assert torch.allclose(SparseTraining(net, {}, x[:1], host())(x), net(x), atol=1e-5)


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Twice(), "more than once"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Dropout(0.5)), "random"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2).eval()), "evaluation mode"),
    ],
)
def test_refusals_say_why(net: nn.Module, reason: str) -> None:
    with pytest.raises(CannotRun, match=reason):
        SparseTraining(net, {}, torch.randn(2, 2, 8, 8), host())


def test_threads_change_no_activation() -> None:
    net, kept, x = small()
    sparse = SparseTraining(net, kept, x[:1], host())
    before, found, start = torch.get_num_threads(), [], copy.deepcopy(net.state_dict())
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            net.load_state_dict(start)
            net.zero_grad()
            out = sparse(x)
            (out**2).sum().backward()
            found.append((out.detach(), torch.cat([one.grad.reshape(-1) for one in net.parameters()])))
    finally:
        torch.set_num_threads(before)
    for out, gradient in found[1:]:
        assert torch.equal(out, found[0][0])
        assert relative(gradient, found[0][1]) < 1e-4
