"""The GPU paths on a pretended GPU: numbers of the CPU, and the mistakes that it is there to catch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGpu, pretended_gpu
from torch import Tensor, nn

import landscape.engine
from analysis.curvature.points import PointSolver
from analysis.hessian import HessianOperator
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.engine.batch_norm import Recalibration
from landscape.engine.weights import Weights
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import LossResult, classification
from landscape.planes import GivenPlane, RandomPlane

POINTS = [(0.0, 0.0), (0.4, -0.3), (1.0, 0.7), (0.4, -0.3)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ).eval()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 3, 6, 6, generator=generator), torch.arange(20) % 3


def directions(seed: int = 2) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    params = dict(network().named_parameters())
    return [
        {name: 0.5 * torch.randn(one.shape, generator=generator) for name, one in params.items()}
        for _ in range(2)
    ]


def engine(device: str, loss: Any = classification, seed: int = 2, **options: Any) -> Engine:
    examples = {"test": Examples.from_tensors(*data())}
    return Engine(network(), examples, loss, directions(seed), device=device, batch_size=7, **options)


def losses(one: Engine) -> list[float]:
    return [one.evaluate(point)["test"].mean("loss") for point in POINTS]


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float64"])
def test_a_captured_engine_in_every_type(dtype: str) -> None:
    with pretended_gpu() as gpu:
        one = engine("cuda", dtype=dtype)
        found = losses(one)
    assert one.about["cuda_graph"] is True
    assert gpu.replays >= len(POINTS)
    assert not gpu.unguarded
    expected = losses(engine("cpu", dtype="float32" if dtype == "tf32" else dtype))
    assert found == pytest.approx(expected, rel=2e-2 if dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_directions_are_not_captured_again_and_give_a_fresh_engines_bits(dtype: str) -> None:
    with pretended_gpu() as gpu:
        one = engine("cuda", dtype=dtype)
        before, captures = losses(one), gpu.captures
        assert one.set_directions(directions(3))
        found = losses(one)
        assert gpu.captures == captures == 1
        assert found == losses(engine("cuda", dtype=dtype, seed=3)) != before
        assert one.set_directions(directions())
        assert losses(one) == before


def test_planes_of_a_surface_share_a_capture() -> None:
    planes = [RandomPlane(seed=0), RandomPlane(seed=1)]
    shared: dict[str, Any] = {"plane": planes, "points": 3, "exact_grid": True, "sparse": "off"}
    with pretended_gpu() as gpu:
        found = compute_surface(network(), data(), device="cuda", **shared)
    assert gpu.captures == 1
    expected = compute_surface(network(), data(), device="cpu", **shared)
    for mine, cpus in zip(found.planes, expected.planes, strict=True):
        values = (one.splits["data"].metrics["loss"].values for one in (mine, cpus))
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_a_network_data_and_directions_that_lie_there(tmp_path: Path) -> None:
    told: dict[str, Any] = {"points": 3, "exact_grid": True, "keep_directions": True, "sparse": "off"}
    with pretended_gpu() as gpu:
        model, inputs = network().to("cuda"), tuple(one.to("cuda") for one in data())
        ways = [{name: value.to("cuda") for name, value in way.items()} for way in directions()]
        told["path"] = tmp_path / "there.surface.h5"
        found = compute_surface(model, inputs, plane=GivenPlane(ways), **told)
        captures = gpu.captures
        again = compute_surface(model, inputs, plane=GivenPlane(ways), device="cuda:0", **told)
        assert gpu.captures == captures + 1  # to look whether it is the same function, no more
        assert all(gpu.has(one) for one in model.parameters())
    told["path"] = tmp_path / "here.surface.h5"
    expected = compute_surface(network(), data(), plane=GivenPlane(directions()), device="cpu", **told)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    np.testing.assert_array_equal(found.loss, again.loss)


def test_an_engine_that_cannot_look_elsewhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    one, others = engine("cpu", sparse="off"), directions(3)
    assert one.set_directions(others)
    assert losses(one) == losses(engine("cpu", sparse="off", seed=3))
    assert not one.set_directions(others[:1])
    assert not one.set_directions([{name: way[name] for name in list(way)[:2]} for way in others])
    with pytest.raises(UserError, match="the direction has shape"):
        one.set_directions([{**way, "0.weight": torch.ones(1)} for way in others])
    with pretended_gpu():
        captured = engine("cuda")
        monkeypatch.setattr(
            Weights,
            "turn",
            lambda self, ways: setattr(self, "directions", [-2.0 * one for one in self.directions]),
        )
        assert not captured.set_directions(others)  # in new memory, which the graph doesn't read


def test_parameters_begin_where_vector_loads_may() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(1, 2)).double()
    values = {name: one.detach().clone() for name, one in module.named_parameters()}
    weights = Weights(module, [{name: torch.ones_like(one) for name, one in values.items()}])
    assert all(one.data_ptr() % 16 == 0 for one in module.parameters())
    weights.aim([0.5])
    weights.write()
    assert all(torch.equal(one, values[name] + 0.5) for name, one in module.named_parameters())


def test_batch_norm_estimated_anew_waits_for_nothing_per_norm() -> None:
    with pretended_gpu() as gpu:
        one = engine("cuda", batch_norm="recalibrate")
        gpu.waits.clear()
        found = losses(one)
    assert one.about["cuda_graph"] == "no: the network isn't one fixed sequence of operations"
    assert found == pytest.approx(losses(engine("cpu", batch_norm="recalibrate")), rel=1e-5)
    assert not gpu.unguarded
    assert gpu.waits == {"copy_": len(POINTS), "copy from cuda to cpu": 2 * len(POINTS)}, gpu.waits


def test_a_loss_that_waits_is_never_captured() -> None:
    def waiting(model: Any, batch: Any) -> LossResult:
        values, count, *_ = classification(model, batch)
        return values + 0.0 * values.sum().item(), count

    with pretended_gpu() as gpu:
        one = engine("cuda", waiting)
        found = losses(one)
        assert gpu.sync_debug == 0
    assert "called a synchronizing CUDA operation" in one.about["cuda_graph"]
    assert not gpu.replays
    assert found == pytest.approx(losses(engine("cpu")), rel=1e-5)


def test_products_of_the_hessian() -> None:
    vector = np.linspace(-1.0, 1.0, 131, dtype=np.float32)
    vector = vector[: HessianOperator(network(), data()).size]
    with pretended_gpu() as gpu:
        found = HessianOperator(network(), data(), device="cuda") @ vector
    assert not gpu.unguarded
    np.testing.assert_allclose(found, HessianOperator(network(), data()) @ vector, rtol=1e-4, atol=1e-6)


def test_sharpness_and_surface() -> None:
    measures: Any = ["sam", "asam", "gaussian", "fisher_rao"]
    with pretended_gpu() as gpu:
        found = sharpness(network(), data(), measures=measures, device="cuda")
        surface = compute_surface(network(), data(), points=3, exact_grid=True, device="cuda")
    assert not gpu.unguarded
    for name, one in sharpness(network(), data(), measures=measures, device="cpu").items():
        assert found[name].value == pytest.approx(one.value, rel=1e-3), name
    expected = compute_surface(network(), data(), points=3, exact_grid=True, device="cpu")
    np.testing.assert_allclose(surface.loss, expected.loss, rtol=1e-5)
    assert surface.about["hardware"]["gpu"] == "a pretended GPU"


def test_a_point_of_the_map_of_curvatures() -> None:
    def solver(device: str) -> PointSolver:
        examples = Examples.from_tensors(*data())
        return PointSolver(network(), directions(), examples, device=device, recalibrated_on=examples)

    with pretended_gpu() as gpu:
        found = solver("cuda").operator((0.1, 0.2)).gradient()
        gpu.waits.clear()
        solver("cuda").seconds_per_product()
        assert gpu.waits["_local_scalar_dense"] >= 2
    assert not gpu.unguarded
    expected = solver("cpu").operator((0.1, 0.2)).gradient()
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-6)


def on_the_host(self: Weights) -> None:
    self._now.copy_(self.start)
    for direction, coordinate in zip(self.directions, self.coordinates.tolist(), strict=True):
        self._now.add_(direction, alpha=coordinate)


def told_by_the_host(self: Weights) -> None:
    self._now.copy_(self.start)
    for direction, coordinate in zip(self.directions, self.last, strict=True):  # type: ignore[attr-defined]
        self._now.add_(direction, alpha=coordinate)


def remembered(self: Weights, coordinates: Any) -> None:
    self.last = list(coordinates)  # type: ignore[attr-defined]


def new_memory(self: Weights, coordinates: Any) -> None:
    self.coordinates = torch.tensor(list(coordinates), dtype=self.start.dtype, device=self.start.device)


@pytest.mark.parametrize(
    ("mistakes", "says"),
    [
        ({"write": on_the_host}, "synchronizing CUDA operation"),
        ({"aim": remembered, "write": told_by_the_host}, "repeated off the centre"),
        ({"aim": new_memory}, "repeated off the centre"),
    ],
    ids=["coordinates read by the host", "coordinates kept by the host", "coordinates in new memory"],
)
def test_planted_mistakes_of_a_capture(
    mistakes: dict[str, Callable[..., None]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mistake in mistakes.items():
        monkeypatch.setattr(Weights, name, mistake)
    with pretended_gpu():
        assert says in engine("cuda").about["cuda_graph"]


def test_planted_weights_in_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Weights.__init__

    def built(self: Weights, module: nn.Module, along: Any) -> None:
        usual(self, module, along)
        self.module = module  # type: ignore[attr-defined]

    def aim(self: Weights, coordinates: Any) -> None:
        now = self.start.clone()
        for direction, coordinate in zip(self.directions, coordinates, strict=True):
            now.add_(direction, alpha=coordinate)
        for name, one in self.module.named_parameters():  # type: ignore[attr-defined]
            one.data = self._part(now, name)

    monkeypatch.setattr(Weights, "__init__", built)
    monkeypatch.setattr(Weights, "aim", aim)
    monkeypatch.setattr(Weights, "write", lambda self: None)
    with pretended_gpu():
        assert "repeated off the centre" in engine("cuda").about["cuda_graph"]


def test_planted_labels_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Examples.batches
    monkeypatch.setattr(Examples, "batches", lambda self, size: [(x, y.cpu()) for x, y in usual(self, size)])
    with pretended_gpu(), pytest.raises(Exception, match="on the same device"):
        engine("cuda")


def test_planted_precision_context_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landscape.engine, "numerics", lambda device, tf32: nullcontext())
    with pretended_gpu() as gpu:
        losses(engine("cuda"))
    assert gpu.unguarded


def test_a_recalibration_that_reads_its_counts_on_the_device_is_seen() -> None:
    with pretended_gpu() as gpu:
        module = network().to("cuda")
        batches = Examples.from_tensors(*data()).to("cuda", torch.float32).batches(10)
        one = Recalibration(module, classification, batches)
        module[1].num_batches_tracked = module[1].num_batches_tracked.to("cuda")
        gpu.waits.clear()
        one.run()
        assert gpu.waits["_local_scalar_dense"] >= len(batches)
        assert isinstance(gpu, PretendedGpu)
