"""Rank correlation with an interval and a permutation test. Needs no torch, and no scipy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import factorial
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.uncertainty import CONFIDENCE
from landscape.errors import UserError

FloatArray = npt.NDArray[np.float64]

MOST_EXACT = 8  # pairs; 40,320 orders
RESAMPLES = 9_999


class RankCorrelation(NamedTuple):
    """Spearman's rho, its 95 % interval and the two-sided p-value; NaN where x or y is constant."""

    rho: float
    low: float
    high: float
    p_value: float


def rank_correlation(
    x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray, seed: int = 0
) -> RankCorrelation:
    """Spearman's rank correlation of n pairs; equal values share their mean rank.

    The interval is the bias-corrected and accelerated bootstrap's over pairs (Efron, "Better bootstrap
    confidence intervals", 1987; 9,999 resamples, acceleration from the jackknife). The p-value is the share
    of orders of y with a correlation at least as far from zero: all of them for up to 8 pairs, else 9,999
    drawn ones and the observed one (Phipson and Smyth, 2010). Both take pairs for independent: runs that
    share a seed or a method are not, and make the interval too narrow.

    Parameters
    ----------
    x, y
        Shape ``[n]``, n ≥ 3, finite.
    seed
        Of bootstrap and permutations.

    Raises
    ------
    UserError
        When the lengths differ, there are fewer than three pairs, or a number isn't finite.

    >>> round(rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]).rho, 6)
    0.8
    """
    first, second = _checked(x, "x"), _checked(y, "y")
    if len(first) != len(second) or len(first) < 3:
        raise UserError(f"{len(first)} and {len(second)} values; expected as many of both, three or more")
    n = len(first)
    rho = float(_spearman(first, second, np.ones((1, n)))[0])
    if np.isnan(rho):
        return RankCorrelation(rho, rho, rho, rho)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    drawn = _spearman(first, second, weights)
    left_out = _spearman(first, second, 1.0 - np.eye(n))
    low, high = _bca(rho, drawn[~np.isnan(drawn)], left_out[~np.isnan(left_out)])
    return RankCorrelation(rho, low, high, _p_value(first, second, generator))


def _checked(values: Sequence[float] | FloatArray, name: str) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise UserError(f"{name} has shape {found.shape}; expected one number per pair")
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise UserError(f"value {wrong[0] + 1} of {name} is {found[wrong[0]]}; expected finite numbers")
    return found


def _midranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Ranks, ``[samples, n]``, in samples that hold value i `weights[:, i]` times."""
    distinct, place = np.unique(values, return_inverse=True)
    held = weights @ (place[:, None] == np.arange(len(distinct))).astype(np.float64)
    ranks: FloatArray = (np.cumsum(held, axis=1) - (held - 1) / 2)[:, place]
    return ranks


def _spearman(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Correlation of the ranks in each sample, ``[samples]``; NaN where a sample is constant."""
    middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
    first, second = _midranks(x, weights) - middle, _midranks(y, weights) - middle
    products, squares = (weights * first * second).sum(axis=1), (weights * first**2).sum(axis=1)
    scale = np.sqrt(squares * (weights * second**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(products / scale, -1.0, 1.0))


def _bca(value: float, drawn: FloatArray, left_out: FloatArray) -> tuple[float, float]:
    """Efron's interval; the plain percentile one where every resample lies on one side of the value."""
    if not len(drawn):
        return float("nan"), float("nan")
    normal = NormalDist()
    tail = (1 - CONFIDENCE) / 2
    below = (float((drawn < value).mean()) + float((drawn <= value).mean())) / 2
    levels = [tail, 1 - tail]
    if 0 < below < 1 and len(left_out):
        shift = normal.inv_cdf(below)
        gaps = left_out.mean() - left_out
        scale = 6 * float((gaps**2).sum()) ** 1.5
        bend = float((gaps**3).sum()) / scale if scale > 0 else 0.0
        quantiles = [shift + normal.inv_cdf(level) for level in levels]
        levels = [normal.cdf(shift + one / (1 - bend * one)) for one in quantiles]
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)


def _p_value(x: FloatArray, y: FloatArray, generator: np.random.Generator) -> float:
    n = len(x)
    middle, one = (n + 1) / 2, np.ones((1, n))
    first, second = _midranks(x, one)[0] - middle, _midranks(y, one)[0] - middle
    observed = abs(float(first @ second))
    tolerance = 1e-12 * float(np.abs(first) @ np.abs(second))
    if n <= MOST_EXACT:
        orders = second[np.array(list(permutations(range(n))))]
        return int((np.abs(orders @ first) >= observed - tolerance).sum()) / factorial(n)
    orders = generator.permuted(np.tile(second, (RESAMPLES, 1)), axis=1)
    return (1 + int((np.abs(orders @ first) >= observed - tolerance).sum())) / (1 + RESAMPLES)
