"""Paired permutation test and rank correlation against scipy, and against what they promise."""

from __future__ import annotations

import itertools
import subprocess
import sys
from math import inf, isnan, nan

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.correlation import rank_correlation
from analysis.statistics.median import median_interval
from analysis.statistics.paired import permutation_test
from landscape.errors import UserError


def draws(n: int, seed: int = 0, shift: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(shift, 1.0, n)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_exact_p_value_is_scipys(n: int) -> None:
    values = draws(n)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert permutation_test(values).p_value == pytest.approx(min(theirs.pvalue, 1.0), rel=1e-12)


def test_ties_and_zeros_count_as_scipy_counts_them() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.3, 0.0, -0.1, -0.2, 0.3])
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert permutation_test(values).p_value == pytest.approx(theirs.pvalue, rel=1e-12)
    assert permutation_test(np.zeros(7)).p_value == 1.0


def test_drawn_p_value_is_near_the_t_tests_for_many_normal_pairs() -> None:
    values = draws(60, shift=0.25)
    found = permutation_test(values)
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert found == permutation_test(values)
    assert found != permutation_test(values, seed=1)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_interval_holds_just_the_shifts_that_are_not_rejected(n: int) -> None:
    values = draws(n, seed=n)
    found = permutation_test(values)
    step = 1e-9
    for limit, sign in ((found.low, -1), (found.high, 1)):
        assert permutation_test(values - (limit - sign * step)).p_value > 0.05
        assert permutation_test(values - (limit + sign * step)).p_value <= 0.05
    assert found.interval == "permutation"


def test_drawn_interval_is_near_students_and_covers() -> None:
    values = draws(100, seed=3)
    found = permutation_test(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    covered = sum(one.low <= 0.5 <= one.high for one in (permutation_test(draws(8, s)) for s in range(200)))
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3.1


def test_few_pairs_get_students_interval() -> None:
    values = draws(4)
    found = permutation_test(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-5)
    assert found.interval == "t"
    single = permutation_test([2.0])
    assert (single.n, single.mean, single.p_value, single.interval) == (1, 2.0, 1.0, "none")
    assert isnan(single.low)
    assert isnan(single.effect)


def test_effect_and_shift_of_units() -> None:
    values = draws(9)
    found, scaled = permutation_test(values), permutation_test(-1000 * values)
    assert found.effect == pytest.approx(values.mean() / values.std(ddof=1))
    assert scaled.effect == pytest.approx(-found.effect)
    assert scaled.p_value == found.p_value
    assert (scaled.low, scaled.high) == pytest.approx((-1000 * found.high, -1000 * found.low))


def test_differences_that_are_equal_up_to_rounding_have_no_effect_size() -> None:
    values = np.array([0.929, 0.917, 0.901, 0.883]) - np.array([0.939, 0.927, 0.911, 0.893])
    assert 0 < values.std(ddof=1) < 1e-13
    assert isnan(permutation_test(values).effect)
    assert isnan(permutation_test(np.zeros(4)).effect)
    assert permutation_test([1.0, 1.0 + 1e-6]).effect == pytest.approx(np.sqrt(2) * 1e6, rel=1e-3)


def test_a_median_of_nothing_or_of_nan_is_refused() -> None:
    with pytest.raises(UserError, match="no values"):
        median_interval([])
    with pytest.raises(UserError, match="NaN among them"):
        median_interval([1.0, nan, 2.0])
    assert median_interval([1.0, inf, 2.0, 3.0, 4.0, 5.0]) == (3.5, 1.0, inf)


@pytest.mark.parametrize(("values", "word"), [([], "shape"), ([1.0, nan], "2 of 2 is nan"), ([inf], "inf")])
def test_differences_that_are_none_are_refused(values: list[float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        permutation_test(values)


@pytest.mark.parametrize("n", [3, 8, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_rho_is_scipys(n: int, ties: bool) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(2, n))
    if ties:
        x, y = np.round(x), np.round(y + x)
    assert rank_correlation(x, y).rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_exact_p_value_of_rho_is_that_of_all_orders(ties: bool) -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 6))
    x = np.round(x) if ties else x
    found = rank_correlation(x, y)
    every = [abs(stats.spearmanr(x, y[list(one)]).statistic) for one in itertools.permutations(range(6))]
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= abs(found.rho) - 1e-9), rel=1e-12)


def test_drawn_p_value_of_rho_is_near_the_approximate_one() -> None:
    x, y = np.random.default_rng(6).normal(size=(2, 40))
    y = y + 0.25 * x
    assert rank_correlation(x, y).p_value == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)


def test_interval_of_rho_is_scipys_bootstrap() -> None:
    generator = np.random.default_rng(7)
    x = generator.normal(size=25)
    y = x + generator.normal(size=25)

    def statistic(a: object, b: object) -> float:
        return float(stats.spearmanr(a, b).statistic)

    theirs = stats.bootstrap(
        (x, y), statistic, paired=True, vectorized=False, n_resamples=2_000, method="BCa", rng=generator
    ).confidence_interval
    found = rank_correlation(x, y)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.05)
    assert found == rank_correlation(x, y, seed=0)


def test_perfect_and_constant_order() -> None:
    found = rank_correlation(range(10), np.exp(np.arange(10.0)))
    assert (found.rho, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p_value < 0.001
    assert all(isnan(one) for one in rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [([1, 2], [1, 2], "three"), ([1, 2, 3], [1, 2], "3 and 2"), ([1, 2, nan], [1, 2, 3], "3 of x is nan")],
)
def test_values_without_rank_are_refused(x: list[float], y: list[float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        rank_correlation(x, y)


def test_statistics_load_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, analysis.statistics.paired, analysis.statistics.correlation; "
        "assert not {'torch', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
