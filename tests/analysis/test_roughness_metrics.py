"""The roughness family against closed forms, an independent integration and its invariances."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.tri import LinearTriInterpolator, Triangulation
from roughness_surfaces import axis

from analysis.roughness.heights import Heights, heights
from analysis.roughness.metrics import METRICS
from landscape.surface import FloatArray

EVEN, UNEVEN = axis(21), np.sort(np.append(axis(9), [-0.93, -0.2, 0.07, 0.6]))
unhurried = settings(deadline=None)  # other work on the machine is no failure
SHAPES = st.tuples(st.integers(3, 7), st.sampled_from([1, 3, 4, 5, 6, 7]))


def measure(
    values: FloatArray, alpha: FloatArray, beta: FloatArray, reference: str = "mean"
) -> dict[str, float]:
    made = heights(alpha, beta, values, "plane" if reference == "plane" else "mean")
    return {name: metric.compute(made) for name, metric in METRICS.items()}


def grids() -> st.SearchStrategy[FloatArray]:
    # Coarse decimals: the properties are exact statements, apart from rounding.
    numbers = st.integers(-1000, 1000).map(lambda n: n / 100)
    return SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=numbers))


def axes_of(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    rows, columns = values.shape
    return axis(rows) ** 3 + axis(rows), axis(columns) if columns > 1 else np.zeros(1)


@pytest.mark.parametrize("points", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(("a", "b"), [(3.0, 0.0), (2.0, 1.5), (-2.0, 2.0)])
def test_tilted_plane_is_exact(points: FloatArray, a: float, b: float) -> None:
    found = measure(7 + a * points[:, None] + b * points, points, points)
    big, small = max(abs(a), abs(b)), min(abs(a), abs(b))
    assert found["ra"] == pytest.approx(big / 2 + small**2 / (6 * big), rel=1e-12)
    assert found["sq"] == pytest.approx(sqrt((a * a + b * b) / 3), rel=1e-12)
    assert found["sz"] == pytest.approx(2 * (big + small), rel=1e-12)
    assert found["ssk"] == pytest.approx(0, abs=1e-12)
    assert found["sdq"] == pytest.approx(sqrt(a * a + b * b), rel=1e-12)
    assert found["sdc"] == pytest.approx(0, abs=1e-10)


def test_tilted_line_is_exact() -> None:
    found = measure(UNEVEN[:, None] * 4, UNEVEN, np.zeros(1))
    assert found["ra"] == pytest.approx(2, rel=1e-12)
    assert found["sku"] == pytest.approx(1.8, rel=1e-12)
    assert found["sdq"] == pytest.approx(4, rel=1e-12)


def test_a_tilted_plane_is_flat_above_its_own_plane() -> None:
    found = measure(7 + 2 * UNEVEN[:, None] - 3 * UNEVEN, UNEVEN, UNEVEN, "plane")
    assert found["ra"] == 0
    assert np.isnan(found["ssk"])
    assert np.isnan(found["sku"])


# Closed forms on [-1, 1] or its square.
SMOOTH = {
    "parabola": (
        lambda x, y: x**2 + 0 * y,
        {"ra": 4 / (9 * sqrt(3)), "sq": sqrt(4 / 45), "sdq": sqrt(4 / 3), "sdc": 2},
    ),
    "paraboloid": (
        lambda x, y: x**2 + y**2,
        {"sq": sqrt(8 / 45), "sz": 2, "sdq": sqrt(8 / 3), "sdc": sqrt(8)},
    ),
    "saddle": (lambda x, y: x * y, {"ra": 1 / 4, "sq": 1 / 3, "ssk": 0, "sdq": sqrt(2 / 3), "sdc": sqrt(2)}),
    "wave": (
        lambda x, y: 3 * np.sin(pi * x + 1) + 0 * y,
        {"ra": 6 / pi, "sq": 3 / sqrt(2), "ssk": 0, "sku": 3 / 2, "sdq": 3 * pi / sqrt(2)},
    ),
    "egg box": (
        lambda x, y: np.sin(pi * x) * np.sin(pi * y),
        {"ra": 4 / pi**2, "sq": 1 / 2, "ssk": 0, "sku": 9 / 4, "sdq": pi / sqrt(2), "sdc": pi**2},
    ),
}


@pytest.mark.parametrize("shape", SMOOTH)
def test_smooth_surfaces_converge_quadratically(shape: str) -> None:
    function, expected = SMOOTH[shape]
    errors: dict[str, list[float]] = {name: [] for name in expected}
    for points in (21, 41, 81):
        x = axis(points)
        found = measure(function(x[:, None], x), x, x)
        for name, exact in expected.items():
            errors[name].append(abs(found[name] - exact) / (abs(exact) or 1))
    for name, (coarse, _, fine) in errors.items():
        # Twice halved spacing: 16 times less; boundary values of Sdc and crossings of Ra are less regular.
        assert fine < max(coarse / 8, 1e-9), (name, errors[name])
        assert fine < 2e-3, (name, errors[name])


def test_ra_at_the_default_resolution_is_right_to_three_thousandths() -> None:
    x = axis(51)
    for function, expected in SMOOTH.values():
        if "ra" in expected:
            assert measure(function(x[:, None], x), x, x)["ra"] == pytest.approx(expected["ra"], rel=3e-3)


def test_integrals_equal_those_of_the_triangulated_surface() -> None:
    rng = np.random.default_rng(0)
    alpha, beta = np.sort(rng.uniform(-1, 1, 6)), np.sort(rng.uniform(-1, 1, 5))
    values = rng.normal(size=(6, 5))
    made = heights(alpha, beta, values, "mean")
    exact = _dense_heights(alpha, beta, values, made)
    for name, oracle in {
        "ra": np.abs(exact).mean(),
        "sq": sqrt((exact**2).mean()),
        "ssk": (exact**3).mean() / (exact**2).mean() ** 1.5,
        "sku": (exact**4).mean() / (exact**2).mean() ** 2,
    }.items():
        assert METRICS[name].compute(made) == pytest.approx(oracle, rel=2e-3, abs=1e-3), name


def _dense_heights(alpha: FloatArray, beta: FloatArray, values: FloatArray, made: Heights) -> FloatArray:
    """Half a million heights of the same surface, each cell a fan around its centre, by another library."""
    rows, columns = values.shape
    corners = (values[1:, 1:] + values[:-1, 1:] + values[1:, :-1] + values[:-1, :-1]) / 4
    middles = _places((alpha[1:] + alpha[:-1]) / 2, (beta[1:] + beta[:-1]) / 2)
    x, y = np.concatenate([_places(alpha, beta), middles]).T
    triangles = []
    for cell, (i, j) in enumerate(np.ndindex(rows - 1, columns - 1)):
        ring = [i * columns + j, (i + 1) * columns + j, (i + 1) * columns + j + 1, i * columns + j + 1]
        center = values.size + cell
        triangles += [[center, ring[k], ring[(k + 1) % 4]] for k in range(4)]
    interpolate = LinearTriInterpolator(
        Triangulation(x, y, triangles), np.concatenate([values.ravel(), corners.ravel()])
    )
    steps = (np.arange(700) + 0.5) / 700
    dense = interpolate(*_places(alpha[0] + steps * np.ptp(alpha), beta[0] + steps * np.ptp(beta)).T)
    assert dense.count() == dense.size
    return np.asarray(dense - np.mean(dense))


def _places(alpha: FloatArray, beta: FloatArray) -> FloatArray:
    return np.stack(np.meshgrid(alpha, beta, indexing="ij"), axis=-1).reshape(-1, 2)


@unhurried
@given(grids(), st.floats(-50, 50).filter(lambda c: abs(c) > 1e-3), st.floats(-100, 100))
def test_scale_and_shift(values: FloatArray, scale: float, shift: float) -> None:
    alpha, beta = axes_of(values)
    before, after = measure(values, alpha, beta), measure(scale * values + shift, alpha, beta)
    tolerance = {"rel": 1e-6, "abs": 1e-9 * (abs(shift) + abs(scale))}
    for name in ("ra", "sq", "sz", "sdq"):
        assert after[name] == pytest.approx(abs(scale) * before[name], **tolerance)
    if before["sq"] > 1e-3:
        assert after["ssk"] == pytest.approx(np.sign(scale) * before["ssk"], rel=1e-6, abs=1e-6)
        assert after["sku"] == pytest.approx(before["sku"], rel=1e-6)


@unhurried
@given(grids().filter(lambda values: values.shape[1] > 1))
def test_exchange_and_reversal_of_the_axes(values: FloatArray) -> None:
    alpha, beta = axes_of(values)
    expected = measure(values, alpha, beta)
    for other in (
        measure(values.T, beta, alpha),
        measure(values[::-1], -alpha[::-1], beta),
        measure(values[:, ::-1], alpha, -beta[::-1]),
    ):
        assert other == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@unhurried
@given(grids())
def test_order_of_the_averages(values: FloatArray) -> None:
    found = measure(values, *axes_of(values))
    assert 0 <= found["ra"] <= found["sq"] * (1 + 1e-12) <= found["sz"] * (1 + 1e-9)
    if found["sq"] > 0:
        assert found["sku"] >= (1 + found["ssk"] ** 2) * (1 - 1e-9)  # Pearson


@unhurried
@given(grids().filter(lambda values: values.shape[1] == 1), st.lists(st.integers(-2000, 2000), max_size=5))
def test_more_points_on_the_same_polygon_change_nothing(values: FloatArray, extra: list[int]) -> None:
    alpha, beta = axes_of(values)
    more = np.append(alpha, np.unique(extra) / 1000 + 1e-4)
    more = np.sort(more[np.abs(more) <= 2])
    finer = np.interp(more, alpha, values[:, 0])[:, None]
    before, after = measure(values, alpha, beta), measure(finer, more, beta)
    for name in ("ra", "sq", "sz", "sdq"):
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 2), st.floats(-1, 1), st.floats(0, 3))
def test_resolution_matters_little_on_smooth_surfaces(curvature: float, twist: float, phase: float) -> None:
    found = []
    for points in (31, 61):
        x, y = axis(points)[:, None], axis(points)
        values = np.exp(curvature * x**2 + twist * x * y) + np.cos(3 * y + phase)
        found.append(measure(values, axis(points), axis(points))["ra"])
    assert found[0] == pytest.approx(found[1], rel=1e-2)


def test_huge_losses_do_not_overflow() -> None:
    x = axis(11)
    small = measure(x[:, None] ** 2 + x, x, x)
    huge = measure(1e300 * (x[:, None] ** 2 + x), x, x)
    assert huge["sku"] == pytest.approx(small["sku"])
    assert huge["sq"] == pytest.approx(1e300 * small["sq"])


def test_curvature_needs_three_points() -> None:
    found = measure(np.array([[0.0, 1.0], [1.0, 3.0]]), axis(2), axis(2))
    assert np.isnan(found["sdc"])
    assert np.isfinite(found["sdq"])
