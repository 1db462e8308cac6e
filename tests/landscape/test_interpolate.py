"""Polyharmonic splines: exact where they must be, errors as a refit gives them, divergence kept apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.sampling.interpolate import (
    TRANSFORMS,
    Spline,
    best_transform,
    grid_places,
    interpolate_grid,
    left_out_errors,
)
from landscape.surface import BoolArray, FloatArray

ALPHA, BETA = np.linspace(-1, 1, 9), np.linspace(-2, 2, 7)


def scattered(count: int, seed: int = 0) -> FloatArray:
    """Distinct places of a grid of 9 × 7, in random order."""
    order = np.random.default_rng(seed).permutation(len(ALPHA) * len(BETA))
    return grid_places(ALPHA, BETA)[order[:count]]


def smooth(places: FloatArray) -> FloatArray:
    return np.asarray(np.exp(places[:, 0]) + np.sin(2 * places[:, 1]) + 2)


def some(share: float, seed: int = 0) -> BoolArray:
    """A random part of the grid, corners always among it."""
    computed = np.random.default_rng(seed).random((len(ALPHA), len(BETA))) < share
    for i, j in itertools.product((0, -1), repeat=2):
        computed[i, j] = True
    return computed


def grid(function_of: str = "smooth") -> FloatArray:
    x, y = np.meshgrid(ALPHA, BETA, indexing="ij")
    surfaces = {
        "smooth": np.exp(x) + np.sin(y) + 2,
        "quadratic": 3 + x - 2 * y + x * x - x * y + 0.5 * y * y,
        "log quadratic": np.exp(3 * x * x - x * y + y),
        "cube": (x + 2 * y) ** 3,
    }
    return surfaces[function_of]


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 1000), st.sampled_from([3, 5]))
def test_exact_at_the_nodes(count: int, seed: int, power: int) -> None:
    nodes = scattered(count, seed)
    values = np.random.default_rng(seed).normal(size=count)
    np.testing.assert_allclose(Spline.through(nodes, power)(nodes, values), values, atol=1e-8)


@pytest.mark.parametrize("power", [1, 3, 5])
def test_basis_is_the_distance_to_each_node_to_the_power(power: int) -> None:
    spline = Spline.through(scattered(20), power)
    places = scattered(9, 1)
    distance = np.linalg.norm(places[:, None] - spline.nodes, axis=-1)
    np.testing.assert_allclose(spline.basis(places)[:, :20], distance**power, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(12, 40), st.integers(0, 1000), st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_quadratics_are_reproduced(count: int, seed: int, factors: list[float]) -> None:
    def quadratic(places: FloatArray) -> FloatArray:
        x, y = places.T
        return np.asarray(np.stack([x**0, x, y, x * x, x * y, y * y], axis=1) @ np.array(factors))

    spline = Spline.through(scattered(count, seed))
    assert spline.degree == 2
    places = np.random.default_rng(seed).uniform(-1, 1, (20, 2))
    np.testing.assert_allclose(spline(places, quadratic(spline.nodes)), quadratic(places), atol=1e-8)


@pytest.mark.parametrize("count", [10, 25])
def test_left_out_equals_a_refit_without_each_node(count: int) -> None:
    nodes = scattered(count)
    values = smooth(nodes)
    found = Spline.through(nodes).left_out(values)
    for index in range(count):
        rest = np.arange(count) != index
        without = Spline.through(nodes[rest])(nodes[[index]], values[rest])[0]
        assert found[index] == pytest.approx(without, abs=1e-8)


@pytest.mark.parametrize("transform", [*TRANSFORMS, "auto"])
def test_left_out_errors_are_in_the_units_of_the_values(transform: str) -> None:
    nodes = scattered(25)
    values = smooth(nodes)
    name = best_transform(Spline.through(nodes), values) if transform == "auto" else transform
    forward, inverse = TRANSFORMS[name].forward, TRANSFORMS[name].inverse
    rest = np.arange(25) != 7
    without = inverse(Spline.through(nodes[rest])(nodes[[7]], forward(values[rest])))[0]
    found = left_out_errors(nodes, values, transform)
    assert found[7] == pytest.approx(abs(without - values[7]), rel=1e-6)
    assert (found >= 0).all()


def test_a_node_that_the_others_do_not_determine_has_no_residual() -> None:
    line = np.stack([np.linspace(-1, 1, 9), np.zeros(9)], axis=1)
    nodes = np.vstack([line, [[0.0, 1.0]]])
    assert np.isfinite(Spline.through(nodes).left_out(smooth(nodes))).all()


@pytest.mark.parametrize("power", [3, 5])
@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("step", [(0.25, 0.0), (0.0, 0.2), (0.2, 0.1)])
def test_lines_and_few_nodes_do_not_fail(power: int, count: int, step: tuple[float, float]) -> None:
    nodes = np.outer(np.arange(count) - 2, step)
    values = smooth(nodes)
    spline = Spline.through(nodes, power)
    np.testing.assert_allclose(spline(nodes, values), values, atol=1e-8)
    assert np.isfinite(spline(scattered(20), values)).all()
    assert np.isfinite(spline.left_out(values)).all()


def test_columns_equal_single_calls() -> None:
    spline = Spline.through(scattered(20))
    values = np.random.default_rng(0).normal(size=(20, 4))
    places = scattered(9, 1)
    together = spline(places, values)
    assert together.shape == (9, 4)
    for column in range(4):
        np.testing.assert_allclose(together[:, column], spline(places, values[:, column]), atol=1e-12)


def test_grid_columns_equal_single_calls() -> None:
    computed = some(0.5)
    values = grid()[..., None] * np.array([1.0, 1.1, 2.0])
    together = interpolate_grid(ALPHA, BETA, computed, values, transform="log")
    for column in range(3):
        alone = interpolate_grid(ALPHA, BETA, computed, values[..., column], transform="log")
        np.testing.assert_allclose(together[..., column], alone, rtol=1e-10)


def test_grid_keeps_computed_points_and_fills_the_rest() -> None:
    computed = some(0.6)
    values = np.where(computed, grid(), np.nan)
    before = values.copy()
    filled = interpolate_grid(ALPHA, BETA, computed, values)
    assert np.array_equal(filled[computed], grid()[computed])
    np.testing.assert_array_equal(values, before)
    np.testing.assert_allclose(filled, grid(), atol=0.1 * np.ptp(grid()))


@pytest.mark.parametrize(
    ("surface", "transform"), [("quadratic", "none"), ("log quadratic", "log"), ("log quadratic", "auto")]
)
def test_grid_is_exact_where_the_transformed_surface_is_quadratic(surface: str, transform: str) -> None:
    filled = interpolate_grid(ALPHA, BETA, some(0.4), grid(surface), transform=transform)
    np.testing.assert_allclose(filled, grid(surface), rtol=1e-6, atol=1e-6)


def test_best_transform_recognizes_the_scale() -> None:
    spline = Spline.through(scattered(30))
    x, y = spline.nodes.T
    assert best_transform(spline, np.exp(4 * x * x - y)) == "log"
    assert best_transform(spline, (3 + x * x - y) ** 3) == "cube root"
    assert best_transform(spline, 3 + x * x - y * y) == "none"


@given(st.floats(-1e3, 1e3))
def test_transforms_invert(value: float) -> None:
    for transform in TRANSFORMS.values():
        if value > 1e-300 or not transform.needs_positive:
            one = np.array([value])
            np.testing.assert_allclose(transform.inverse(transform.forward(one)), one, rtol=1e-12)


@pytest.mark.parametrize("transform", [*TRANSFORMS, "auto"])
def test_values_that_are_not_positive_have_no_logarithm(transform: str) -> None:
    values = grid() - grid().mean()
    filled = interpolate_grid(ALPHA, BETA, some(0.6), values, transform=transform)
    assert np.isfinite(filled).all()
    assert best_transform(Spline.through(scattered(20)), np.linspace(-1, 1, 20)) != "log"


def test_extreme_values_do_not_overflow() -> None:
    values = np.exp(300 * grid() / grid().max())
    assert not np.isnan(interpolate_grid(ALPHA, BETA, some(0.6), values)).any()


def test_divergence_goes_by_the_nearest_computed_point() -> None:
    computed, values = some(0.6), grid()
    values[np.add.outer(ALPHA, BETA) > 1.5] = np.inf
    filled = interpolate_grid(ALPHA, BETA, computed, values)
    assert not np.isnan(filled).any()
    assert np.array_equal(filled[computed], values[computed])
    places = grid_places(ALPHA, BETA).reshape(*computed.shape, 2)
    for i, j in np.argwhere(~computed):
        distance = np.linalg.norm(places - places[i, j], axis=-1)
        distance[~computed] = np.inf
        nearest = np.isclose(distance, distance.min())  # ties may go either way
        diverged = np.isinf(values[nearest])
        if diverged.all() or not diverged.any():
            assert np.isinf(filled[i, j]) == diverged.all()


def test_points_around_an_unknown_value_stay_unknown() -> None:
    computed, values = some(0.6), grid()
    values[:3] = np.nan
    filled = interpolate_grid(ALPHA, BETA, computed, values)
    assert not np.isinf(filled).any()
    assert np.isnan(filled[0]).all()
    assert np.isfinite(filled[5:]).all()


def test_with_fewer_than_three_finite_points_nothing_is_made_up() -> None:
    for known in ([], [(0, 0)], [(0, 0), (3, 3)]):
        computed = np.zeros(grid().shape, bool)
        for index in known:
            computed[index] = True
        filled = interpolate_grid(ALPHA, BETA, computed, grid())
        assert np.array_equal(np.isnan(filled), ~computed)


def test_complete_grid_is_returned_as_it_is() -> None:
    values = grid()
    values[2, 3] = np.inf
    assert np.array_equal(interpolate_grid(ALPHA, BETA, np.ones(values.shape, bool), values), values)


@pytest.mark.parametrize("along", ["alpha", "beta"])
def test_lines(along: str) -> None:
    axis = np.linspace(-1, 1, 21)
    values = np.exp(axis**2)
    computed = np.zeros(21, bool)
    computed[::4] = True
    line = (axis, np.zeros(1)) if along == "alpha" else (np.zeros(1), axis)
    shape = (21, 1) if along == "alpha" else (1, 21)
    filled = interpolate_grid(*line, computed.reshape(shape), values.reshape(shape))
    np.testing.assert_allclose(filled.ravel(), values, atol=0.1)


def test_grid_places_have_one_unit_per_half_axis() -> None:
    places = grid_places(np.array([0.0, 1.0, 2.0]), np.array([-5.0, 5.0])).reshape(3, 2, 2)
    assert places[:, 0, 0].tolist() == [-1.0, 0.0, 1.0]
    assert places[0, :, 1].tolist() == [-1.0, 1.0]
    assert grid_places(np.zeros(1), np.zeros(1)).tolist() == [[0.0, 0.0]]
