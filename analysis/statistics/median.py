"""A median and an interval for it that assumes nothing about the distribution. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, isnan, nan
from statistics import median

from landscape.errors import UserError

CONFIDENCE = 0.95


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median of independent draws, and the narrowest pair of order statistics that holds it.

    The r-th smallest and the r-th largest of n hold the population's median unless fewer than r draws fall
    on one side of it, which has a binomial probability (Conover, "Practical Nonparametric Statistics",
    section 3.2); r is the largest with 95 % or more. Below six draws there is none, and both ends are NaN.

    Raises
    ------
    UserError
        Without values, and for NaN, which has no place in their order.

    >>> median_interval([3, 1, 2, 6, 5, 4, 7])
    (4, 1, 7)
    >>> median_interval([1, 2, 3])
    (2, nan, nan)
    """
    if not len(values):
        raise UserError("a median of no values; expected one or more")
    if any(map(isnan, values)):
        raise UserError(
            "a median of values with NaN among them; expected numbers: leave these out, and say so"
        )
    ranked = sorted(values)
    count = len(ranked)
    outside, below = 0.0, 0
    while below < count // 2:
        outside += 2 * comb(count, below) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        below += 1
    if not below:
        return median(ranked), nan, nan
    return median(ranked), ranked[below - 1], ranked[count - below]
