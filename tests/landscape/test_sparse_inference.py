"""Sparse kernels in evaluation mode against float64 PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("llvmlite", reason="the extra 'sparse' isn't installed")

from sparse_networks import RandomNet, exact, layers, machines, prepare

from landscape.sparse.inference import SparseNet
from landscape.sparse.layout import cover
from landscape.sparse.machine import host
from landscape.sparse.trace import CannotRun
from landscape.threads import one_thread
from training.models import build_model

SHAPES = {"resnet20": (3, 32, 32), "resnet32_wide": (3, 32, 32), "vgg19": (3, 32, 32)}


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@given(
    built=st.lists(layers, min_size=1, max_size=3),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    channels=st.integers(1, 4),
    flat=st.booleans(),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    count=st.sampled_from([1, 3, 16, 21]),
    double=st.booleans(),
    seed=st.integers(0, 99),
    choice=st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_random_networks(built, size, channels, flat, density, count, double, seed, choice):
    net = RandomNet(size, channels, built, flat).eval()
    kept = prepare(net, density, seed)
    x = torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed))
    machine = machines()[choice % len(machines())]
    with torch.no_grad(), one_thread():
        expected = exact(net)(x.double())
        if double:
            net, x = net.double(), x.double()
        sparse = SparseNet(net, kept, x[:1], machine)
        assert relative(sparse(x), expected) < (1e-12 if double else 2e-5)
        assert torch.equal(sparse(x), sparse(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", SHAPES)
def test_architectures_of_ours(name, layout):
    torch.manual_seed(0)
    net = build_model(name).eval()
    kept = prepare(net, 0.1, 0)
    x = torch.randn(17, *SHAPES[name]).contiguous(memory_format=layout)
    with torch.no_grad(), one_thread():
        assert relative(SparseNet(net, kept, x[:1], host())(x), exact(net)(x.double())) < 1e-5


def test_refresh_follows_the_parameters_and_a_mask_not_the_zeros():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    ).eval()
    kept = prepare(net, 0.5, 1)
    with torch.no_grad():
        net[0].weight.zero_()  # zero now, kept all the same
        x = torch.randn(5, 2, 6, 6)
        sparse = SparseNet(net, kept, x, host())
        for seed in range(3):
            prepare(net, 0.5, 1)
            for one in net.parameters():
                one.mul_(1 + seed)
            sparse.refresh()
            assert relative(sparse(x), exact(net)(x.double())) < 1e-5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_visible(bad):
    """Where a kept weight reads it, as with PyTorch; one image doesn't touch another."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    x = torch.randn(20, 1, 6, 6)
    x[3, 0, 2, 2] = bad
    with torch.no_grad():
        got, expected = SparseNet(net, {}, x, host())(x), net(x)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.isinf(), expected.isinf())
    good = expected.isfinite()
    assert torch.allclose(got[good], expected[good], atol=1e-5)


def test_several_threads_at_a_time():
    from concurrent.futures import ThreadPoolExecutor

    torch.manual_seed(0)
    net = build_model("resnet20").eval()
    kept = prepare(net, 0.2, 3)
    x = torch.randn(64, 3, 32, 32)
    sparse = SparseNet(net, kept, x[:1], host())
    expected = sparse(x)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: sparse(x), range(12)):
            assert torch.equal(got, expected)


@pytest.mark.parametrize("count", [1, 16, 17, 70])
def test_one_call_in_threads(count):
    net = build_model("resnet20", widths=(4, 8, 8)).eval()
    kept = prepare(net, 0.3, 3)
    x = torch.randn(count, 3, 16, 16)
    sparse = SparseNet(net, kept, x[:1], host())
    for threads in (1, 2, 3):
        assert torch.equal(sparse.in_threads(threads, x), sparse(x))


class Forked(nn.Module):
    """Asks for something that the kernels can't do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 4, 3, padding=1)
        if kind == "hooks":
            self.conv.register_forward_hook(lambda *_: None)
        if kind == "circular":
            self.conv.padding_mode = "circular"

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "branch" and x.sum() > 0:
            return x
        y = self.conv(x)
        if self.kind == "product":
            y = y * y
        if self.kind == "overwritten":
            y = F.relu(y, inplace=True) + y
        if self.kind == "broadcast":
            y = y + y.mean((2, 3), keepdim=True)
        if self.kind == "gelu":
            y = F.gelu(y)
        return y


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("branch", "traced"),
        ("product", "uses mul"),
        ("overwritten", "overwrites"),
        ("broadcast", "different shapes"),
        ("gelu", "uses gelu"),
        ("hooks", "hooks"),
        ("circular", "circular"),
    ],
)
def test_refusals_say_why(kind, reason):
    with pytest.raises(CannotRun, match=reason):
        SparseNet(Forked(kind).eval(), {}, torch.randn(2, 3, 8, 8), host())


def test_output_may_be_a_map():
    net = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True)).eval()
    x = torch.randn(19, 3, 9, 7)
    with torch.no_grad():
        assert relative(SparseNet(net, {}, x, host())(x), exact(net)(x.double())) < 1e-5


def test_wrong_inputs_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 5, 3)).eval()
    sparse = SparseNet(net, {}, torch.randn(1, 3, 8, 8), host())
    assert sparse(torch.zeros(0, 3, 8, 8)).shape == (0, 5, 6, 6)
    with pytest.raises(ValueError, match="expected"):
        sparse(torch.zeros(1, 3, 9, 8))


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16]))
def test_covers_are_exact(height, width, most):
    seen = np.zeros((height, width), dtype=int)
    for part in cover(height, width, most):
        assert part.rows * part.columns <= most
        seen[part.y : part.y + part.rows * part.tiles_y, part.x : part.x + part.columns * part.tiles_x] += 1
    assert (seen == 1).all()


def test_the_callers_network_stays_as_it_is():
    net = build_model("resnet20")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CannotRun, match="training mode"):
        SparseNet(net, {}, torch.randn(1, 3, 32, 32), host())
    SparseNet(net.eval(), {}, torch.randn(1, 3, 32, 32), host())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
