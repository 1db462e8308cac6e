"""Maps against explicit Hessians of moved networks, closed forms, and themselves after an interruption."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import devices
from hessian_cases import convolutional, examples, explicit, kept, random_mask, seeded
from torch import Tensor, nn

from analysis.curvature import Plan, curvature_map
from analysis.curvature import map as map_module
from analysis.curvature.directions import plane_directions
from analysis.curvature.map_record import KEY, METRICS
from analysis.curvature.points import PointSolver
from analysis.hessian import HessianOperator, eigenvector_plane, hessian_spectrum
from landscape import BetweenPlane, RandomPlane, compute_surface, load_surface
from landscape.examples import Examples
from landscape.keeping import pace
from landscape.losses import LossResult, regression
from landscape.planes import PlaneSpec
from landscape.progress import Progress
from landscape.provenance import digest
from landscape.surface import Surface

EXACT = Plan(max_points=9, eigenvalue_tolerance=1e-9, max_products=400)
OPTIONS: dict[str, Any] = {"dtype": "float64", "device": "cpu"}


def sparse() -> tuple[nn.Module, dict[str, Tensor]]:
    """A network of 99 parameters, half of its weights pruned."""
    model = convolutional()
    mask = random_mask(model)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name in mask:
                one.mul_(mask[name])
    return model, mask


def surface_of(model: nn.Module, data: Any, **options: Any) -> Surface:
    given = {"points": 3, "exact_grid": True, **OPTIONS, **options}
    return compute_surface(model, data, **given)


def at(
    model: nn.Module, directions: Sequence[Mapping[str, Tensor]], coordinates: Sequence[float]
) -> nn.Module:
    """A moved copy."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, one in moved.named_parameters():
            for coordinate, direction in zip(coordinates, directions, strict=True):
                one += coordinate * direction[name].double()
    return moved


def ends(
    model: nn.Module,
    surface: Surface,
    point: tuple[int, int],
    inside: np.ndarray[Any, np.dtype[np.bool_]],
    data: tuple[Tensor, Tensor],
    directions: Sequence[Mapping[str, Tensor]],
) -> tuple[float, float]:
    """Largest and smallest eigenvalue of the explicit Hessian at a grid point."""
    coordinates = [float(surface.alpha[point[0]]), float(surface.beta[point[1]])][: surface.dim]
    whole = explicit(at(model, directions, coordinates), data)[2]
    values = np.linalg.eigvalsh(whole[np.ix_(inside, inside)])
    return float(values[-1]), float(values[0])


def state(model: nn.Module) -> str:
    return digest(dict(model.state_dict()))


def agrees(
    found: Surface, model: nn.Module, mask: Mapping[str, Tensor], number: int = 0, **options: Any
) -> None:
    """Every point, to 1e-6."""
    data = options.pop("data", examples())
    params = {name: one.detach() for name, one in model.named_parameters()}
    directions = options.pop("directions", None) or plane_directions(found, number, params, mask)
    high, low, ratio = (found.metric(name, plane=number) for name in METRICS)
    assert high.computed is not None
    assert high.computed.all()
    for point in np.ndindex(found.shape):
        index = (point[0], point[1])
        expected = ends(model, found, index, kept(model, mask), data, directions)
        np.testing.assert_allclose([high.values[index], low.values[index]], expected, rtol=1e-6)
        assert ratio.values[index] == pytest.approx(abs(expected[1] / expected[0]), rel=1e-6)
    assert (high.error, low.error, ratio.error) == (0.0, 0.0, 0.0)
    assert np.isnan(high.stderr).all()


@pytest.mark.parametrize("device", devices())
def test_every_point_agrees_with_the_explicit_hessian(device: str) -> None:
    model, mask = sparse()
    before = state(model)
    surface = surface_of(model, examples(), mask=mask, points=(3, 2))
    options = OPTIONS | {"device": device}
    found = curvature_map(surface, model, examples(), mask=mask, plan=EXACT, **options)
    agrees(found, model, mask)
    assert state(model) == before
    assert KEY not in surface.about
    entry = found.about[KEY]["data"]["0"]
    assert entry["converged"]
    assert entry["products"] == sum(point[4] for point in entry["points"])
    assert max(max(point[2], point[3]) for point in entry["points"]) < 1e-4


def test_the_mask_of_zeros_and_none() -> None:
    model, mask = sparse()
    zeros = surface_of(model, examples(), points=(3, 1))
    found = curvature_map(zeros, model, examples(), plan=EXACT, **OPTIONS)
    agrees(found, model, mask)  # 10 % of exact zeros: inferred
    dense = surface_of(model, examples(), mask="none", points=(3, 1))
    agrees(curvature_map(dense, model, examples(), plan=EXACT, **OPTIONS), model, {})


def test_lines_and_several_planes() -> None:
    model, mask = sparse()
    planes = [RandomPlane(0), RandomPlane(5)]
    surface = surface_of(model, examples(), mask=mask, plane=planes, dim=1)
    second = curvature_map(surface, model, examples(), mask=mask, planes=[1], plan=EXACT, **OPTIONS)
    assert set(second.planes[0].splits["data"].metrics) == {"loss", "accuracy"}
    agrees(second, model, mask, 1)
    both = curvature_map(second, model, examples(), mask=mask, plan=EXACT, **OPTIONS)
    agrees(both, model, mask, 0)
    assert both.metric("lambda_max", plane=1) is second.metric("lambda_max", plane=1)


def test_another_split_and_fewer_examples() -> None:
    model, mask = sparse()
    data = {"train": examples(), "test": examples(1, 17)}
    surface = surface_of(model, data, mask=mask, points=(3, 1))
    options: dict[str, Any] = {"mask": mask, "plan": EXACT, **OPTIONS}
    found = curvature_map(surface, model, data, split="test", examples=7, **options)
    few = tuple(one[:7] for one in data["test"])
    moved = plane_directions(found, 0, dict(model.named_parameters()), mask)
    for i in range(3):
        expected = ends(model, found, (i, 0), kept(model, mask), (few[0], few[1]), moved)
        one = found.metric("lambda_max", split="test").values[i, 0]
        assert one == pytest.approx(expected[0], rel=1e-6)
    assert found.about[KEY]["test"]["0"]["settings"]["examples"]["count"] == 7
    assert "lambda_max" not in found.planes[0].splits["train"].metrics
    again = curvature_map(found, model, data, **options)
    assert set(again.about[KEY]) == {"train", "test"}


def test_a_line_to_another_network_leaves_the_mask() -> None:
    model, mask = sparse()
    other = {name: one.detach() for name, one in convolutional(1).named_parameters()}
    surface = surface_of(
        model, examples(), mask=mask, plane=BetweenPlane(other), dim=1, keep_directions=True, span=0.5
    )
    found = curvature_map(surface, model, examples(), mask=mask, plan=EXACT, **OPTIONS)
    params = {name: one.detach() for name, one in model.named_parameters()}
    agrees(found, model, {}, directions=plane_directions(found, 0, params, mask))


def test_recalibrated_batch_norm() -> None:
    """With statistics of the point, held while differentiating."""
    model, mask = sparse()
    data = examples()
    surface = surface_of(model, data, mask=mask, points=(3, 1), batch_norm="recalibrate")
    found = curvature_map(surface, model, data, mask=mask, plan=EXACT, **OPTIONS)
    directions = plane_directions(found, 0, dict(model.named_parameters()), mask)
    for i in range(3):
        moved = at(model, directions, [float(found.alpha[i])])
        seen = moved[0](data[0]).detach()  # type: ignore[index]
        norm = moved[1]  # type: ignore[index]
        norm.running_mean.copy_(seen.mean((0, 2, 3)))
        norm.running_var.copy_(seen.var((0, 2, 3)))
        inside = kept(model, mask)
        values = np.linalg.eigvalsh(explicit(moved, data)[2][np.ix_(inside, inside)])
        assert found.metric("lambda_max").values[i, 0] == pytest.approx(values[-1], rel=1e-6)


def test_eigenvectors_that_the_file_did_not_keep() -> None:
    model, mask = sparse()
    trace: dict[str, Any] = {"density_probes": 0, "max_probes": 8, "trace_tolerance": 0.9}
    spectrum = hessian_spectrum(model, examples(), mask=mask, top=2, bottom=0, **trace, **OPTIONS)
    plane = eigenvector_plane(spectrum)
    surface = surface_of(model, examples(), mask=mask, plane=plane, span=0.1, dim=1)
    options: dict[str, Any] = {"mask": mask, "plan": EXACT, **OPTIONS}
    found = curvature_map(surface, model, examples(), eigenvectors=spectrum.top.directions, **options)
    agrees(found, model, mask, directions=plane.given[:1])


class Quadratic(nn.Module):
    """``½ wᵀ A w`` for every example."""

    def __init__(self, eigenvalues: Sequence[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, len(eigenvalues), dtype=torch.float64)[None])
        self.register_buffer("a", torch.tensor(eigenvalues, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.a * self.weight.square()).sum().expand(len(inputs)) / 2  # type: ignore[no-any-return]


def value(model: Any, batch: Any) -> LossResult:
    """The output itself is the loss."""
    return model(batch[0]), len(batch[0])


@pytest.mark.parametrize(
    ("eigenvalues", "ratio"),
    [([3.0, 1.0, -2.0], 2 / 3), ([5.0, 4.0, 1.0], 0.2), ([-1.0, -4.0], 4.0), ([2.0, 0.0], 0.0)],
)
def test_quadratics_have_constant_maps(eigenvalues: list[float], ratio: float) -> None:
    model, data = Quadratic(eigenvalues), (torch.zeros(3, 1, dtype=torch.float64),)
    options: dict[str, Any] = {"loss": value, **OPTIONS}
    surface = surface_of(model, data, mask="none", plane=RandomPlane(0, "none", False), points=9, **options)
    found = curvature_map(surface, model, data, plan=Plan(max_points=30), **options)
    high, low, share = (found.metric(name) for name in METRICS)
    assert high.computed is not None
    assert high.computed.sum() == 30
    np.testing.assert_allclose(high.values, max(eigenvalues), rtol=1e-9)
    np.testing.assert_allclose(low.values, min(eigenvalues), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(share.values, ratio, rtol=1e-9, atol=1e-12)
    assert max(high.error, low.error, share.error) < 1e-9


def test_linear_regression_is_constant() -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(4, 1).double(), (torch.randn(9, 4).double(), torch.zeros(9, 1).double())
    options: dict[str, Any] = {"loss": regression, **OPTIONS}
    found = curvature_map(surface_of(model, data, **options), model, data, plan=EXACT, **options)
    design = torch.cat([data[0], torch.ones(9, 1)], 1)
    expected = np.linalg.eigvalsh((2 * design.T @ design / 9).numpy())
    np.testing.assert_allclose(found.metric("lambda_max").values, expected[-1], rtol=1e-8)
    np.testing.assert_allclose(found.metric("lambda_min").values, expected[0], rtol=1e-8)


def test_where_the_network_diverges_its_curvature_is_inf() -> None:
    class Exploding(Quadratic):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).exp()

    model, data = Exploding([1.0, 2.0]), (torch.zeros(3, 1, dtype=torch.float64),)
    options: dict[str, Any] = {"loss": value, **OPTIONS}
    plane = RandomPlane(0, "none", False)
    surface = surface_of(model, data, mask="none", plane=plane, points=11, span=40.0, **options)
    found = curvature_map(surface, model, data, plan=Plan(max_points=60), **options)
    assert np.isinf(surface.loss).any()
    for name in METRICS:
        metric = found.metric(name)
        computed = np.asarray(metric.computed)
        assert np.isinf(metric.values[computed & np.isinf(surface.loss)]).all()
        assert np.isfinite(metric.values[computed & (surface.loss < 1e100)]).all()
        assert not np.isnan(metric.values).any()
    assert found.metric("lambda_max").values[found.center] > 0  # type: ignore[index]
    assert all(point[2] is None for point in found.about[KEY]["data"]["0"]["points"] if point[4] == 0)


@pytest.mark.parametrize(
    ("planes", "dim", "limit", "stops"), [(2, 1, 5, [1, 5, 6]), (1, 2, 28, [2, 27])], ids=["lines", "plane"]
)
def test_interrupted_it_goes_on_to_the_same_bits(
    planes: int, dim: int, limit: int, stops: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(pace, "SHARE", float("inf"))
    model, data, path = tiny(), points(), tmp_path / "x.surface.h5"
    specs = [RandomPlane(number, skip_vectors=False) for number in range(planes)]
    surface = surface_of(model, data, points=9, dim=dim, path=path, plane=specs)
    options: dict[str, Any] = {"plan": Plan(max_points=limit), **OPTIONS}
    whole = curvature_map(surface, model, data, **options)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            curvature_map(load_surface(path), model, data, path=path, progress=Stop(path, stop), **options)
        number = (stop - 1) // limit
        partial = load_surface(path).metric("lambda_max", plane=number)
        assert partial.computed is not None
        assert partial.computed.sum() == stop - limit * number
        assert np.array_equal(np.isnan(partial.values), ~partial.computed)
    curvature_map(load_surface(path), model, data, path=path, **options)
    found = load_surface(path)
    assert found.loss.tobytes() == surface.loss.tobytes()
    for number in range(planes):
        entries = [one.about[KEY]["data"][str(number)] for one in (found, whole)]
        assert entries[0] | {"seconds": 0} == entries[1] | {"seconds": 0}
        for name in METRICS:
            one, other = (surface.metric(name, plane=number) for surface in (found, whole))
            assert one.values.tobytes() == other.values.tobytes()
            assert np.array_equal(one.computed, other.computed)
            assert repr(one.error) == repr(other.error)


class Stop:
    """A listener that interrupts after so many points; those before are on disk, in a whole file."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.after, self.called = path, after, False

    def __call__(self, state: Progress) -> None:
        if self.called:
            entries = load_surface(self.path).about[KEY]["data"].values()
            assert sum(len(one["points"]) for one in entries) >= state.done - 1
        self.called = True
        if state.done == self.after:
            raise KeyboardInterrupt


def tiny() -> nn.Module:
    """12 parameters."""
    return seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), 0)


def points() -> tuple[Tensor, Tensor]:
    """Of two classes."""
    inputs = torch.randn(11, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long()


def test_a_finished_map_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask = sparse()
    surface = surface_of(model, examples(), mask=mask, points=(3, 1))
    options: dict[str, Any] = {"mask": mask, "plan": Plan(max_points=9), **OPTIONS}
    found = curvature_map(surface, model, examples(), **options)
    monkeypatch.setattr(HessianOperator, "multiply", None)
    assert curvature_map(found, model, examples(), **options) is found


def test_overwrite_replaces_a_map_of_other_settings() -> None:
    model, mask = sparse()
    surface = surface_of(model, examples(), mask=mask, points=(3, 1))
    found = curvature_map(surface, model, examples(), mask=mask, plan=Plan(max_points=2), **OPTIONS)
    options: dict[str, Any] = {"mask": mask, "plan": EXACT, **OPTIONS}
    anew = curvature_map(found, model, examples(), overwrite=True, **options)
    agrees(anew, model, mask)


def test_a_list_of_batches_is_used_as_it_is() -> None:
    model, mask = sparse()
    inputs, targets = examples()
    batches = Examples.from_batches([(inputs[:9], targets[:9]), (inputs[9:], targets[9:])])
    planes: list[PlaneSpec] = [RandomPlane(3)]
    surface = surface_of(model, batches, mask=mask, plane=planes, points=(3, 1))
    found = curvature_map(surface, model, batches, mask=mask, plan=EXACT, **OPTIONS)
    agrees(found, model, mask)


def test_the_directions_of_one_plane_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[PointSolver]] = []

    def counted(*arguments: Any, **options: Any) -> PointSolver:
        solver = PointSolver(*arguments, **options)
        assert sum(one() is not None for one in made) <= 1
        made.append(weakref.ref(solver))
        return solver

    monkeypatch.setattr(map_module, "PointSolver", counted)
    model, mask = sparse()
    planes: list[PlaneSpec] = [RandomPlane(seed) for seed in range(4)]
    surface = surface_of(model, examples(), mask=mask, plane=planes, points=(3, 1))
    curvature_map(surface, model, examples(), mask=mask, plan=Plan(max_points=1), **OPTIONS)
    assert len(made) >= 4
