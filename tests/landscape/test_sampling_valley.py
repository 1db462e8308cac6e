"""The valley in which the network lies: found, resolved in log loss, never deeper than what was evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from landscape.sampling import LOG_TOLERANCE, Index, adaptive
from landscape.sampling.interpolate import DEEPEST, TRANSFORMS, grid_places, interpolate_grid, left_out_grid
from landscape.surface import BoolArray, FloatArray

EXACT = np.load(Path(__file__).with_name("exact_surfaces.npz"))
AXIS = np.linspace(-1, 1, 51)
Field = Callable[[FloatArray, FloatArray], FloatArray]


def default_run(
    exact: FloatArray, axes: tuple[FloatArray, FloatArray] = (AXIS, AXIS), **options: float | None
) -> tuple[FloatArray, BoolArray, float, float]:
    """The shown surface, where it was evaluated, and both stated errors, at the command's tolerance."""
    sampler = adaptive(*axes, 0.005, **options)  # type: ignore[arg-type]
    computed = np.zeros(exact.shape, dtype=bool)

    def losses(indices: list[Index]) -> FloatArray:
        return np.array([exact[index] for index in indices])

    for batch in sampler.batches(losses):  # type: ignore[arg-type]
        for index in batch:
            computed[index] = True
    shown = interpolate_grid(*axes, computed, exact, bounded=True)
    return shown, computed, sampler.relative_error, sampler.log_error


def ra(surface: FloatArray, span: float) -> float:
    """Mean absolute deviation within a span, by the trapezoidal rule."""
    inside = np.abs(AXIS) <= span + 1e-9
    part = surface[inside][:, inside]
    line = np.ones(len(part))
    line[[0, -1]] = 0.5
    area = np.outer(line, line) / line.sum() ** 2
    return float((area * np.abs(part - (area * part).sum())).sum())


@pytest.mark.parametrize("name", EXACT.files)
def test_real_networks_at_default_settings(name: str) -> None:
    exact = EXACT[name]
    shown, computed, stated, log_stated = default_run(exact)
    log_error = np.abs(np.log(shown / exact))
    assert computed.sum() < 300
    assert np.abs(shown - exact).max() / np.ptp(exact) <= stated <= 0.005
    assert log_error.max() <= log_stated
    assert log_error.max() < 0.1
    assert np.quantile(log_error, 0.98) < LOG_TOLERANCE
    assert ra(shown, 0.25) == pytest.approx(ra(exact, 0.25), rel=0.01)
    assert ra(np.log(shown), 0.25) == pytest.approx(ra(np.log(exact), 0.25), rel=0.01)
    assert shown.min() == pytest.approx(exact.min(), rel=0.05)


def grid(field: Field, first: FloatArray = AXIS, second: FloatArray = AXIS) -> FloatArray:
    return np.asarray(field(*np.meshgrid(first, second, indexing="ij")))


VALLEYS: dict[str, Field] = {
    "steep": lambda x, y: 0.3 + 40 * (x**2 + y**2) + 3000 * (x**2 + y**2) ** 2,
    "off the centre": lambda x, y: 0.05 + 900 * ((x - 0.44) ** 2 + (y + 0.28) ** 2),
    "narrow gorge": lambda x, y: np.exp(6 * np.abs(x - 0.3 * y) + y**2) / 20,
    "two": lambda x, y: np.minimum(0.2 + 50 * (x**2 + y**2), 0.1 + 80 * ((x - 0.6) ** 2 + (y - 0.6) ** 2)),
}


@pytest.mark.parametrize("name", VALLEYS)
def test_valleys_are_resolved_in_log_loss(name: str) -> None:
    exact = grid(VALLEYS[name])
    shown, computed, _, log_stated = default_run(exact)
    log_error = np.abs(np.log(shown / exact))
    assert computed.sum() < 400
    assert log_error.max() <= 1.5 * log_stated + 1e-6  # two of these have kinks of any steepness
    assert log_error.max() < 0.2
    assert shown.min() == pytest.approx(exact.min(), rel=LOG_TOLERANCE)


def test_points_lie_around_the_network_wherever_that_is() -> None:
    first, second = np.linspace(-0.5, 1.5, 41), np.linspace(-1, 1, 41)
    exact = grid(VALLEYS["steep"], first, second)
    for options, least in (({}, 9), ({"log_tolerance": None}, 0)):
        _, computed, _, _ = default_run(exact, (first, second), **options)  # type: ignore[arg-type]
        inside = computed[np.abs(first) <= 0.25][:, np.abs(second) <= 0.25]
        assert inside.sum() >= least


def test_more_points_are_taken_where_the_caller_allows_them() -> None:
    exact = EXACT["resnet20_erk98"]
    *_, before = default_run(exact)
    shown, computed, _, log_stated = default_run(exact, max_points=400)
    assert before > log_stated
    assert computed.sum() == 400
    assert np.abs(np.log(shown / exact)).max() <= log_stated


def test_values_that_are_not_positive_have_no_log_error() -> None:
    exact = grid(lambda x, y: x**2 + y**2 - 0.3, AXIS[::2], AXIS[::2])
    shown, computed, stated, log_stated = default_run(exact, (AXIS[::2], AXIS[::2]))
    assert np.isnan(log_stated)
    assert np.abs(shown - exact).max() / np.ptp(exact) <= stated + 1e-9 <= 0.005
    assert computed.sum() < 200


def sparse_points(count: int, seed: int) -> BoolArray:
    computed = np.zeros((51, 51), dtype=bool)
    computed.flat[np.random.default_rng(seed).permutation(51 * 51)[:count]] = True
    computed[::50, ::50] = computed[25, 25] = True
    return computed


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", EXACT.files)
def test_no_valley_is_shown_where_nothing_so_low_was_evaluated(name: str, transform: str) -> None:
    """Few scattered points: the spline overshoots, by far and below zero, wherever it isn't held."""
    exact, overshoots = EXACT[name], 0
    for seed in range(4):
        computed = sparse_points(40, seed)
        free = interpolate_grid(AXIS, AXIS, computed, exact, transform=transform)
        held = interpolate_grid(AXIS, AXIS, computed, exact, transform=transform, bounded=True)
        lowest = exact[computed].min()
        overshoots += int(free.min() < (1 - DEEPEST) * lowest)
        assert held.min() >= (1 - DEEPEST) * lowest * (1 - 1e-12)
        assert np.array_equal(held[computed], exact[computed])
        assert (held >= free - 1e-9).all()
        # Nowhere far below the nearest of the evaluated points, where these lie all around.
        places = grid_places(AXIS, AXIS)
        near = KDTree(places[computed.ravel()]).query(places, k=12)[1]
        around = exact[computed][near].min(axis=1).reshape(held.shape)
        assert (held >= (1 - DEEPEST) * np.minimum(around, held[25, 25]) - 1e-9).mean() > 0.99
    assert overshoots or transform == "log"


def test_a_slope_is_not_held_up_by_what_lies_above_it() -> None:
    """Points in a cluster on the high side: the corners of the triangle around a place count, too."""
    exact = grid(lambda x, y: np.exp(3 * x + 0.2 * y))
    computed = np.zeros((51, 51), dtype=bool)
    computed[::50, ::10] = computed[20:31:2, 20:31:2] = True
    free = interpolate_grid(AXIS, AXIS, computed, exact, transform="log")
    held = interpolate_grid(AXIS, AXIS, computed, exact, transform="log", bounded=True)
    np.testing.assert_allclose(held, free, rtol=1e-9)
    np.testing.assert_allclose(held, exact, rtol=1e-6)


def test_negative_surfaces_are_held_by_a_share_of_their_range() -> None:
    exact = grid(lambda x, y: np.sin(9 * x) * np.cos(7 * y) - 5)
    computed = sparse_points(30, 3)
    held = interpolate_grid(AXIS, AXIS, computed, exact, bounded=True)
    known = exact[computed]
    assert held.min() >= known.min() - 0.011 * np.ptp(known)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_log_errors_of_left_out_points_stay_finite(transform: str) -> None:
    """Plain losses over five orders of magnitude: a spline through them predicts below zero in the valley."""
    exact = EXACT["resnet20_erk98"]
    errors = left_out_grid(AXIS, AXIS, sparse_points(60, 1), exact, transform=transform, log=True)
    assert errors.max() <= np.log(exact.max() / exact.min()) + 1
