"""The trend test against enumeration by hand and scipy's Page test."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from scipy.stats import page_trend_test, ttest_1samp

import analysis.trend
from analysis.trend import trend_test
from landscape.errors import UserError


def test_p_value_of_ranks_is_pages() -> None:
    # On ranks the slope is a linear function of Page's L, whose exact one-sided p-value scipy gives.
    rows = [[1, 2, 3, 4], [2, 1, 3, 4], [1, 3, 2, 4]]
    one_sided = page_trend_test(rows, method="exact").pvalue
    assert trend_test(rows).p_value == pytest.approx(2 * one_sided, rel=1e-9)


def test_drawn_orders_agree_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(3, 4)) + 0.3 * np.arange(4)
    exact = trend_test(rows.tolist()).p_value
    monkeypatch.setattr(analysis.trend, "MOST_EXACT", 100)
    drawn = trend_test(rows.tolist(), seed=3).p_value
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 99_999))


def test_rows_of_different_length_and_the_change() -> None:
    found = trend_test([[1.0, 2.0], [0.0, 1.0, 5.0], [2.0, 2.5, 2.2]])
    assert found.rows == 3
    assert found.change == pytest.approx((1 + 5 + 0.2) / 3)
    interval = ttest_1samp([1.0, 5.0, 0.2], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high], rtol=1e-5)


def test_falling_rows_are_as_significant_as_rising_ones() -> None:
    rows = [[0.0, 1.0, 3.0], [0.5, 1.0, 1.1]]
    falling = [[-value for value in row] for row in rows]
    assert trend_test(rows).p_value == trend_test(falling).p_value == pytest.approx(2 / 36)


def test_one_row_has_no_interval_and_equal_values_no_trend() -> None:
    found = trend_test([[1.0, 1.0, 1.0]])
    assert np.isnan(found.low)
    assert found.p_value == 1


@pytest.mark.parametrize("rows", [[], [[1.0]], [[1.0, nan]]])
def test_refused(rows: list[list[float]]) -> None:
    with pytest.raises(UserError, match="expected"):
        trend_test(rows)
