"""Which points, and what lies between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.curvature.interpolate import Steering, fill, log_error
from analysis.curvature.sampler import START, choose_points

AXIS = np.linspace(-1, 1, 21)
X, Y = np.meshgrid(AXIS, AXIS, indexing="ij")
SMOOTH = np.exp(1 + 2 * X - Y**2 + np.sin(3 * X * Y) / 4)  # over two orders of magnitude


def sampled(values: np.ndarray, limit: int) -> np.ndarray:  # type: ignore[type-arg]
    """Where a map with these λmax would be computed."""
    alpha, beta = (AXIS[:1] if count == 1 else np.linspace(-1, 1, count) for count in values.shape)
    steering, computed = Steering(), np.zeros(values.shape, bool)
    for batch in choose_points(alpha, beta, 1e-6, limit).batches(
        lambda indices: steering(np.array([values[index] for index in indices]))
    ):
        for index in batch:
            assert not computed[index]
            computed[index] = True
    return computed


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 25), st.integers(1, 25)), st.integers(1, 80))
def test_the_limit_holds_and_the_middle_is_there(shape: tuple[int, int], limit: int) -> None:
    values = np.exp(np.add.outer(np.linspace(-1, 1, shape[0]), np.linspace(0, 1, shape[1]) ** 2))
    computed = sampled(values, limit)
    assert 1 <= computed.sum() <= limit
    assert computed[(shape[0] - 1) // 2, (shape[1] - 1) // 2]
    if limit >= values.size and (values.size <= 64 or min(shape) < 5):
        assert computed.all()


def test_even_points_reach_the_ends() -> None:
    line = sampled(SMOOTH[:, :1], 5)
    assert np.flatnonzero(line).tolist() == [0, 5, 10, 15, 20]
    few = sampled(SMOOTH, START - 1)
    assert np.flatnonzero(few.any(1)).tolist() == np.flatnonzero(few.any(0)).tolist() == [0, 5, 10, 15, 20]


def test_what_is_computed_stays_and_the_error_covers() -> None:
    computed = sampled(SMOOTH, 40)
    for name, values in (
        ("lambda_max", SMOOTH),
        ("lambda_min", -SMOOTH / 10 + 0.2),
        ("lambda_ratio", np.cos(2 * X + Y) ** 2),
    ):
        known = np.where(computed, values, np.nan)
        filled, error = fill(name, AXIS, AXIS, computed, known)
        assert np.array_equal(filled[computed], values[computed])
        assert np.abs(filled - values).max() <= error < 1.5 * np.ptp(values)
    assert 0 < log_error(AXIS, AXIS, computed, SMOOTH) < 0.1


def test_signs_are_kept() -> None:
    """What has one sign at all points has it between them, however rough it is."""
    draw = np.random.default_rng(0)
    computed = draw.random((21, 21)) < 0.15
    rough = np.where(computed, 10 ** draw.uniform(-3, 3, (21, 21)), np.nan)
    assert (fill("lambda_max", AXIS, AXIS, computed, rough)[0] > 0).all()
    assert (fill("lambda_ratio", AXIS, AXIS, computed, np.minimum(rough, 1))[0] >= 0).all()
    assert (fill("lambda_min", AXIS, AXIS, computed, -rough)[0] <= 0).all()
    ratio = np.minimum(rough, 1)
    ratio[tuple(np.argwhere(computed)[0])] = np.nan  # λmax is 0 there
    filled = fill("lambda_ratio", AXIS, AXIS, computed, ratio)[0]
    assert (filled[~np.isnan(filled)] >= 0).all()


def test_negative_and_zero_lambda_max() -> None:
    values = np.where(X > 0, SMOOTH, -SMOOTH)
    values[10, 10] = 0.0
    computed = sampled(values, 40)
    filled, error = fill("lambda_max", AXIS, AXIS, computed, np.where(computed, values, np.nan))
    assert np.isfinite(filled).all()
    assert error > 0
    assert np.isnan(log_error(AXIS, AXIS, computed, values))
    assert np.isfinite(Steering()(np.zeros(3))).all()


def test_divergence_spreads_to_its_neighbours_only() -> None:
    values = np.where(X + Y > 1.2, np.inf, SMOOTH)
    computed = sampled(values, 60)
    filled, error = fill("lambda_max", AXIS, AXIS, computed, np.where(computed, values, np.nan))
    assert np.isinf(filled[-1, -1])
    assert np.isfinite(filled[X + Y < 0.6]).all()
    assert np.isfinite(error)


@pytest.mark.parametrize("count", [2, 7])
def test_with_too_few_points_the_error_is_unknown(count: int) -> None:
    computed = np.zeros((21, 1), bool)
    computed[np.linspace(0, 20, count).astype(int)] = True
    filled, error = fill("lambda_max", AXIS, AXIS[:1], computed, np.where(computed, SMOOTH[:, :1], np.nan))
    assert np.isnan(error)
    assert np.isnan(filled).any() == (count < 3)
