"""Fused convolutions on a pretended GPU: the CPU's numbers, what is fused, and mistakes that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pretended_cudnn
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import directions, examples, images, network
from pretended_gpu import pretended_gpu
from torch import Tensor, nn

from landscape.engine import Engine, fuse_cuda
from landscape.engine.fold import FoldedNet, fold
from landscape.losses import classification

POINTS = [(0.0, 0.0), (0.7, -0.4), (-1.0, 0.9), (0.7, -0.4)]
RELU, ADD_RELU = "cudnn_convolution_relu", "cudnn_convolution_add_relu"
FUSED = {"resnet option A": 13, "resnet option B": 13, "vgg": 3, "preactivation": 1, "tangled": 2}
"""Convolutions that a ReLU follows; the two of shortcuts B, and those that are summed only, stay."""


def engine(device: str, name: str = "resnet option B", scale: float = 0.3, **options: Any) -> Engine:
    told = {"batch_size": 13, "sparse": "off"} | options
    return Engine(network(name), examples(), classification, along(name, scale), device=device, **told)


def along(name: str, scale: float = 0.3) -> list[dict[str, Tensor]]:
    return directions(network(name), scale=scale)


def losses(one: Engine) -> list[float]:
    return [one.evaluate(point)["test"].mean("loss") for point in POINTS]


def folded(model: nn.Module) -> FoldedNet:
    net = fold(model.eval(), model)
    net.refresh()
    return net


def refused(monkeypatch: pytest.MonkeyPatch, name: str, operation: Callable[..., Tensor]) -> str:
    """Why an engine on such a cuDNN is unfused; its numbers are right in any case."""
    monkeypatch.setitem(pretended_cudnn.OPERATIONS, name, operation)
    with pretended_gpu():
        one = engine("cuda")
        found = losses(one)
    assert one.about["fused"] == 0
    assert one.about["folded"] is one.about["cuda_graph"] is True
    assert found == pytest.approx(losses(engine("cpu")), rel=1e-5)
    return str(one.about["unfused_because"])


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float64"])
def test_points_of_a_captured_graph_in_every_type(dtype: str) -> None:
    with pretended_gpu() as gpu:
        one = engine("cuda", dtype=dtype)
        found = losses(one)
    assert one.about["cuda_graph"] is True
    assert one.about["fused"] == (0 if dtype == "float64" else FUSED["resnet option B"])
    assert one.about["unfused_because"] is None
    assert not gpu.unguarded
    assert found[1] == found[3] != found[0]
    exact = {"tf32": "float32", "bfloat16": "float32"}.get(dtype, dtype)
    assert found == pytest.approx(
        losses(engine("cpu", dtype=exact)), rel=2e-2 if dtype == "bfloat16" else 1e-5
    )


@pytest.mark.parametrize("name", FUSED)
def test_every_convolution_that_a_relu_follows(name: str) -> None:
    with pretended_gpu():
        one = engine("cuda", name)
        found = losses(one)
    assert one.about["fused"] == FUSED[name]
    assert one.about["unfused_because"] is None
    assert found == pytest.approx(losses(engine("cpu", name)), rel=1e-5)


def test_another_plane_has_the_bits_of_a_fresh_engine() -> None:
    with pretended_gpu() as gpu:
        one, other = engine("cuda"), engine("cuda", scale=0.2)
        before, captures = losses(one), gpu.captures
        assert one.set_directions(along("resnet option B", 0.2))
        assert losses(one) == losses(other) != before
        assert gpu.captures == captures


def test_nothing_that_is_read_later_is_overwritten() -> None:
    net, x = folded(network("resnet option B")), images(4)[0].contiguous(memory_format=torch.channels_last)
    fuse_cuda.fuse(net, x)
    calls = [node for node in net.module.graph.nodes if node.op == "call_function"]
    names = [str(node.target) for node in calls]
    assert sum(RELU in name for name in names) == 7
    assert sum(ADD_RELU in name for name in names) == 6
    assert not any("add" in name for name in names if ADD_RELU not in name)
    assert all(node.args[3] == 1.0 for node in calls if ADD_RELU in str(node.target))


@pytest.mark.parametrize(
    ("name", "operation", "says"),
    [
        (RELU, lambda *_: (_ for _ in ()).throw(RuntimeError("unable to find an engine")), "fails"),
        (RELU, lambda x, w, b, *how: F.conv2d(x, w, b, *how), "differs by"),
        (RELU, lambda x, w, b, *how: F.relu(F.conv2d(x, w, None, *how)), "differs by"),
        (RELU, lambda x, w, b, *how: F.relu(F.conv2d(x, w, b.roll(1), *how)), "differs by"),
        (ADD_RELU, lambda x, w, z, a, b, *how: F.conv2d(x, w, b, *how) + z, "differs by"),
        (ADD_RELU, lambda x, w, z, a, b, *how: F.relu(F.conv2d(x, w, b, *how)) + z, "differs by"),
        (ADD_RELU, lambda x, w, z, a, b, *how: F.relu(F.conv2d(x, w, b, *how) + x.mean()), "differs by"),
    ],
    ids=[
        "no engine",
        "no ReLU",
        "no bias",
        "wrong bias",
        "sum without ReLU",
        "ReLU before the sum",
        "wrong sum",
    ],
)
def test_planted_mistakes_of_the_operations(
    name: str, operation: Callable[..., Tensor], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"the fused network {says}" in refused(monkeypatch, name, operation)


def test_planted_bits_that_differ_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(10_000))

    def atomic(x: Tensor, w: Tensor, b: Tensor, *how: Any) -> Tensor:
        return pretended_cudnn.convolution_relu(x, w, b * (1 + 2e-7 * (next(calls) % 5)), *how)

    assert refused(monkeypatch, RELU, atomic) == "the fused network differs from itself"


def test_planted_output_that_is_read_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    memory: dict[tuple[Any, ...], Tensor] = {}

    def reading(x: Tensor, w: Tensor, b: Tensor, *how: Any) -> Tensor:
        result = pretended_cudnn.convolution_relu(x, w, b, *how)
        place = (w.data_ptr(), x.shape)
        result = result + 0.0 * memory.get(place, torch.zeros(()))
        memory[place] = result.clone()
        return result

    assert refused(monkeypatch, RELU, reading) == "the fused network differs from itself"


def test_planted_relu_that_drops_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    def relu(*given: Any) -> Tensor:
        return pretended_cudnn.convolution_relu(*given).nan_to_num(0.0)

    def add_relu(*given: Any) -> Tensor:
        return pretended_cudnn.convolution_add_relu(*given).nan_to_num(0.0)

    monkeypatch.setitem(pretended_cudnn.OPERATIONS, ADD_RELU, add_relu)
    assert refused(monkeypatch, RELU, relu) == "the fused network differs from itself"


def test_planted_residual_that_was_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    def over(x: Tensor, w: Tensor, z: Tensor, a: float, b: Tensor, *how: Any) -> Tensor:
        result = pretended_cudnn.convolution_add_relu(x, w, z, a, b, *how)
        return z.copy_(result).clone()

    class Again(nn.Module):
        """The shortcut is read once more after the sum."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.stem(x))
            return self.head((F.relu(self.conv(y) + y) - y).mean((2, 3)))

    torch.manual_seed(0)
    model = Again()

    def made(device: str) -> Engine:
        return Engine(model, examples(), classification, directions(model), device=device, sparse="off")

    with pretended_gpu():
        right = made("cuda")
        monkeypatch.setitem(pretended_cudnn.OPERATIONS, ADD_RELU, over)
        wrong = made("cuda")
        found = losses(wrong)
    assert right.about["fused"] == 2
    assert wrong.about["fused"] == 0
    assert "the fused network differs by" in wrong.about["unfused_because"]
    assert found == pytest.approx(losses(made("cpu")), rel=1e-5)


def test_planted_weights_that_are_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fuse_cuda.fuse

    def packing(net: FoldedNet, example: Tensor) -> int:
        for conv in net.convolutions:
            weight, bias = conv.parameters()
            kept = weight.clone(), None if bias is None else bias.clone()
            conv.pack = lambda _weight, _bias, kept=kept: kept
        return usual(net, example)

    monkeypatch.setattr(fuse_cuda, "fuse", packing)
    with pretended_gpu():
        assert "the fused network differs by" in engine("cuda").about["unfused_because"]


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (torch.version, "hip", "6.4"),
        (torch.backends.cudnn, "version", lambda: 8200),
        (torch.backends.cudnn, "version", lambda: None),
        (torch.backends.cudnn, "is_available", lambda: False),
    ],
    ids=["ROCm", "an old cuDNN", "no version", "none"],
)
def test_unfused_where_the_operations_are_not(
    place: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended_gpu():
        assert fuse_cuda.available(torch.float32)
        assert not fuse_cuda.available(torch.float64)
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            assert not fuse_cuda.available(torch.float32)


def test_an_engine_where_they_are_not_is_folded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse_cuda, "available", lambda dtype: False)
    with pretended_gpu() as gpu:
        about = engine("cuda").about
    assert (about["folded"], about["fused"], about["unfused_because"]) == (True, 0, None)
    assert about["cuda_graph"] is True
    assert not gpu.unguarded


def test_refusals_of_the_pretended_operations() -> None:
    x, w, b = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), torch.randn(4)
    how = ((1, 1), (1, 1), (1, 1), 1)
    relu, both = pretended_cudnn.convolution_relu, pretended_cudnn.convolution_add_relu
    wrong: list[Callable[[], Tensor]] = [
        lambda: relu(x.double(), w.double(), b.double(), *how),
        lambda: relu(x, w, b.bfloat16(), *how),
        lambda: relu(x, w, torch.randn(3), *how),
        lambda: relu(x[0], w, b, *how),
        lambda: relu(x, w, b, (1, 1), "same", (1, 1), 1),
        lambda: both(x, w, torch.randn(2, 4, 1, 1), 1.0, b, *how),
    ]
    for one in wrong:
        with pytest.raises(RuntimeError, match="cuDNN"):
            one()
    expected = F.relu(F.conv2d(x, w, b, padding=1) + 1.0)
    torch.testing.assert_close(both(x, w, torch.ones_like(expected), 1.0, b, *how), expected)
