"""Paired comparison of two groups of runs by their differences, assuming no distribution. Needs no torch.

Under the hypothesis that nothing differs, each pair's difference is as likely to have the other sign, so the
observed mean is compared with the means under all changes of sign (Fisher, "The Design of Experiments", 1935,
section 21). With n pairs the smallest possible p-value is 2 / 2^n: six pairs are the fewest that reach 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

from analysis.statistics.uncertainty import CONFIDENCE, t_quantile
from landscape.errors import UserError

FloatArray = npt.NDArray[np.float64]

MOST_EXACT = 16  # pairs; 2^15 distinct changes of sign
RESAMPLES = 100_000  # changes of sign drawn where there are more pairs
ROUNDING = 1e-12  # share of the sum of |differences| by which equal means may differ
EQUAL = 1e-9  # share of the largest by which equal differences may differ: each is one of larger numbers


@dataclass(frozen=True)
class PairedTest:
    """What n paired differences say.

    Attributes
    ----------
    n
        Number of pairs.
    mean
        Mean difference.
    low, high
        95 % interval of it: the shifts that the permutation test doesn't reject at 0.05. Fewer than six pairs
        can't reject anything, so there it is Student's t interval, which assumes normal differences;
        NaN for a single pair.
    effect
        Standardized mean difference d_z: mean over standard deviation of the differences (Cohen,
        "Statistical Power Analysis", 1988, section 2.3.5). NaN for one pair and where all are equal.
    p_value
        Two-sided, of the sign-flip permutation test of the mean.
    interval
        Where `low` and `high` come from: "permutation", "t", or "none" for a single pair.
    """

    n: int
    mean: float
    low: float
    high: float
    effect: float
    p_value: float
    interval: str = "permutation"


def permutation_test(differences: Sequence[float] | FloatArray, *, seed: int = 0) -> PairedTest:
    """Sign-flip permutation test of the mean of paired differences, with interval and effect size.

    All 2^n changes of sign for up to 16 pairs, else 100,000 drawn ones and the observed one, which counts
    among them (Phipson and Smyth, "Permutation p-values should never be zero", 2010). The interval inverts
    the test: for a group A of the pairs, flipping A leaves ``abs(mean(d - m))`` as large or larger exactly
    where m lies between the means of A and of the other pairs, so its limits are order statistics of such
    means (typical values; Hartigan, "Using subsample values as typical values", 1969).

    Parameters
    ----------
    differences
        Shape ``[n]``, n ≥ 1, finite: second minus first of each pair.
    seed
        Of the drawn changes of sign.

    Raises
    ------
    UserError
        When there is no difference or one isn't finite.

    >>> found = permutation_test([0.3, 0.1, 0.4, 0.1, 0.5, 0.9])
    >>> found.n, found.p_value
    (6, 0.03125)
    """
    values = _checked(differences)
    n, mean = len(values), float(values.mean())
    spread = float(values.std(ddof=1)) if n > 1 else nan
    flipped = _groups(n, seed)
    sums = flipped @ values
    total = float(values.sum())
    extreme = np.abs(total - 2 * sums) >= abs(total) - ROUNDING * np.abs(values).sum()
    # The unchanged signs are not among the groups; they are as extreme as themselves.
    p_value = (1 + int(extreme.sum())) / (1 + len(flipped))
    low, high = _inverted(values, flipped, sums)
    interval = "permutation"
    if not isfinite(high - low):
        low, high, interval = _student(mean, spread, n)
    effect = nan if all_equal(values) else mean / spread
    return PairedTest(n, mean, low, high, effect, p_value, interval)


def all_equal(values: FloatArray) -> bool:
    """Whether numbers have no spread but that of rounding; one number has none."""
    return bool(np.ptp(values) <= EQUAL * np.abs(values).max())


def _checked(differences: Sequence[float] | FloatArray) -> FloatArray:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise UserError(f"differences of shape {values.shape}; expected one number per pair, one or more")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise UserError(
            f"difference {wrong[0] + 1} of {len(values)} is {values[wrong[0]]}; expected finite numbers: "
            "leave out pairs in which a run diverged, and say so"
        )
    return values


def _groups(n: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which pairs change sign, bool ``[groups, n]``: each group or its complement once, or drawn ones."""
    if n > MOST_EXACT:
        return np.random.default_rng(seed).integers(0, 2, (RESAMPLES, n), dtype=np.int8).astype(bool)
    # A group and its complement give opposite means; the first pair is never in the group we list.
    numbers = np.arange(1, 2 ** (n - 1), dtype=np.int64)
    bits = (numbers[:, None] >> np.arange(n - 1)) & 1
    return np.concatenate([np.zeros((len(numbers), 1), bool), bits.astype(bool)], axis=1)


def _inverted(values: FloatArray, flipped: npt.NDArray[np.bool_], sums: FloatArray) -> tuple[float, float]:
    """Smallest and largest shift that the test doesn't reject; infinite where it can't reject any."""
    needed = floor((1 - CONFIDENCE) * (1 + len(flipped)) + ROUNDING)
    if needed < 1:
        return -inf, inf
    inside = flipped.sum(axis=1)
    outside = len(values) - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = sums / inside, (values.sum() - sums) / outside
    improper = (inside == 0) | (outside == 0)  # can be drawn; no shift makes it less extreme
    lower = np.where(improper, -inf, np.fmin(first, second))
    upper = np.where(improper, inf, np.fmax(first, second))
    place = needed - 1
    low = float(np.partition(lower, place)[place])
    high = float(-np.partition(-upper, place)[place])
    return low, high


def _student(mean: float, spread: float, n: int) -> tuple[float, float, str]:
    if n < 2:
        return nan, nan, "none"
    half = t_quantile(n - 1) * spread / sqrt(n)
    return mean - half, mean + half, "t"
