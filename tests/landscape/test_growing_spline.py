"""The spline that grows by a node: the one that is fitted at once, whatever the order of the nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from landscape.sampling.growing import TAIL, GrowingSpline, determining
from landscape.sampling.interpolate import Spline, grid_places
from landscape.sampling.nearest import Nearest
from landscape.surface import FloatArray

PLACES = grid_places(np.linspace(-1, 1, 13), np.linspace(-1, 1, 11))


def shuffled(count: int, seed: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).permutation(len(PLACES))[:count]]


def grown(order: list[int], power: int) -> GrowingSpline:
    tail = determining(PLACES[order])
    assert tail is not None
    first = [order[one] for one in tail]
    spline = GrowingSpline(PLACES, first, power)
    for one in order:
        if one not in first:
            spline.add(one)
    return spline


def surface(nodes: list[int]) -> FloatArray:
    x, y = PLACES[nodes].T
    return np.asarray(np.exp(x) + np.sin(3 * y) + np.abs(x - y))


@pytest.mark.parametrize("power", [3, 5])
@settings(max_examples=15)
@given(count=st.integers(10, 140), seed=st.integers(0, 99))
def test_equals_the_spline_fitted_at_once(power: int, count: int, seed: int) -> None:
    spline = grown(shuffled(count, seed), power)
    values, whole = surface(spline.nodes), Spline.through(PLACES[spline.nodes], power)
    np.testing.assert_allclose(spline(values), whole(PLACES, values), atol=1e-6)
    np.testing.assert_allclose(spline.left_out(values), whole.left_out(values), atol=1e-6)


def test_exact_at_the_nodes() -> None:
    spline = grown(shuffled(90, 1), 3)
    values = np.random.default_rng(0).normal(size=90)
    np.testing.assert_allclose(spline(values)[spline.nodes], values, atol=1e-9)


def test_left_out_equals_a_refit_without_each_node() -> None:
    spline = grown(shuffled(25, 2), 3)
    nodes, values = PLACES[spline.nodes], surface(spline.nodes)
    found = spline.left_out(values)
    for index in range(25):
        rest = np.arange(25) != index
        without = Spline.through(nodes[rest])(nodes[[index]], values[rest])[0]
        assert found[index] == pytest.approx(without, abs=1e-8)


def test_places_on_a_line_or_too_few_determine_no_quadratic() -> None:
    line = np.stack([np.linspace(-1, 1, 9), np.zeros(9)], axis=1)
    assert determining(line) is None
    assert determining(PLACES[:5]) is None
    circle = np.stack([np.cos(np.arange(12.0)), np.sin(np.arange(12.0))], axis=1)
    assert determining(circle) is None  # x² + y² = 1 for all of them
    found = determining(np.vstack([circle, [[0.0, 0.0]]]))
    assert found is not None
    assert len(set(found)) == TAIL


@given(seed=st.integers(0, 99), count=st.integers(1, 40))
@settings(max_examples=10)
def test_nearest_nodes_are_those_of_a_tree(seed: int, count: int) -> None:
    places = np.random.default_rng(seed).uniform(-1, 1, (80, 2))
    nearest = Nearest(places, 3)
    for one in range(count):
        nearest.add(one)
    known = min(count, 3)
    distance, index = KDTree(places[:count]).query(places, k=range(1, known + 1))
    np.testing.assert_allclose(nearest.distance[:known].T, distance, atol=1e-12)
    assert np.array_equal(nearest.index[:known].T, index)
    assert np.isinf(nearest.distance[known:]).all()
    if count > 1:
        gaps = KDTree(places[:count]).query(places[:count], k=[2])[0][:, 0]
        np.testing.assert_allclose(nearest.gaps(), gaps, atol=1e-12)
