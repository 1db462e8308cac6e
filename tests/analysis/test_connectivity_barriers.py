"""Barriers of curves: closed forms, the jackknife by brute force, and what must hold for any curve."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.connectivity.barriers import barrier, chord, mean_along
from analysis.statistics.uncertainty import t_quantile
from landscape.errors import UserError
from landscape.surface import FloatArray, Metric, Plane, Split, Surface

T = np.linspace(0, 1, 11)
CURVES = arrays(np.float64, 11, elements=st.floats(-100, 100))


def line(values: FloatArray, blocks: FloatArray | None = None, name: str = "loss") -> Surface:
    loss = Metric(
        values[:, None], np.zeros((len(values), 1)), 0.0, None if blocks is None else blocks[:, None]
    )
    counts = np.full(0 if blocks is None else blocks.shape[1], 5)
    split = Split(100, {"loss": loss, name: loss}, counts)
    t = np.linspace(0, 1, len(values))
    return Surface(t, np.zeros(1), (Plane({}, np.ones((len(values), 1), bool), {"test": split}),))


def test_a_bump_on_a_slope() -> None:
    found = barrier(line(1 + 3 * T + 0.8 * T * (1 - T)))
    assert found.t == 0.5
    assert found.height.value == pytest.approx(0.2, abs=1e-14)
    assert np.isnan(found.height.low)  # nothing is known about the examples


def test_a_valley_has_no_barrier() -> None:
    found = barrier(line((T - 0.3) ** 2))
    assert (found.height.value, found.t) == (0.0, 0.0)


def test_accuracy_falls_where_loss_rises() -> None:
    found = barrier(line(0.9 - 0.4 * np.sin(np.pi * T), name="accuracy"), metric="accuracy")
    assert found.height.value == pytest.approx(0.4)
    assert found.t == 0.5


def test_divergence_is_an_infinite_barrier() -> None:
    values = np.where(np.abs(T - 0.6) < 0.15, inf, 1.0)
    found = barrier(line(values))
    assert found.height.value == inf
    assert found.t == T[5]
    assert np.isnan(mean_along(line(values), "test"))


def test_the_interval_is_the_largest_of_those_at_each_t() -> None:
    draw = np.random.default_rng(1)
    blocks = 1 + draw.normal(size=(11, 6)) + np.sin(np.pi * T)[:, None]
    found = barrier(line(blocks.mean(1), blocks)).height
    lows, highs = [], []
    for t, values in zip(T, blocks, strict=True):
        rises = values - (1 - t) * blocks[0] - t * blocks[-1]
        half = t_quantile(5) * rises.std(ddof=1) / np.sqrt(6)  # a mean's jackknife is its standard error
        lows.append(rises.mean() - half)
        highs.append(rises.mean() + half)
    assert (found.low, found.high) == pytest.approx((max(lows), max(highs)))
    assert found.low <= found.value <= found.high


def test_the_interval_covers_small_barriers() -> None:
    """Examples differ in whether there is a bump: most have a small one."""
    covered = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        bumps = 0.05 + 0.5 * draw.normal(size=16)
        blocks = np.sin(np.pi * T)[:, None] * bumps + 0.02 * draw.normal(size=(11, 16))
        found = barrier(line(blocks.mean(1), blocks)).height
        covered += found.low <= 0.05 <= found.high
    assert covered >= 88  # 95 expected, 2.2 standard deviation


def test_what_the_points_have_in_common_cancels() -> None:
    common = np.random.default_rng(0).normal(size=6)
    blocks = np.sin(np.pi * T)[:, None] + 100 * common
    found = barrier(line(blocks.mean(1), blocks)).height
    assert found.value == pytest.approx(1.0)
    assert found.stderr_examples < 1e-10


@given(CURVES, st.floats(-10, 10), st.floats(-10, 10))
def test_slopes_and_direction_do_not_matter(values: FloatArray, offset: float, slope: float) -> None:
    height = barrier(line(values)).height.value
    assert height >= 0
    assert height == pytest.approx((values - chord(T, values)).max(), abs=1e-12)
    assert barrier(line(values[::-1])).height.value == pytest.approx(height, abs=1e-9)
    assert barrier(line(values + offset + slope * T)).height.value == pytest.approx(height, abs=1e-9)


def test_the_mean_is_that_of_the_piecewise_linear_curve() -> None:
    assert mean_along(line(np.array([0.0, 1.0, 0.0])), "test") == pytest.approx(0.5)


def test_other_surfaces_are_refused() -> None:
    flat = line(T)
    wide = Surface(T * 2, np.zeros(1), flat.planes)
    with pytest.raises(UserError, match="expected a line with α from 0 to 1"):
        barrier(wide)
    with pytest.raises(UserError, match="has no accuracy on test"):
        barrier(flat, metric="accuracy")
    with pytest.raises(UserError, match="unfinished"):
        barrier(line(np.where(T == 0.5, np.nan, 1.0)))
