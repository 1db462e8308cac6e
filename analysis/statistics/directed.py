"""Directed tests of a few hypotheses stated beforehand: sign flips, Holm's correction. Needs no torch.

With n units the smallest possible p-value is 2⁻ⁿ, so six units are the fewest that can pass the first step of
Holm's correction over three hypotheses (0.05 / 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, nan

import numpy as np
import numpy.typing as npt

from analysis.statistics.paired import all_equal, permutation_test
from landscape.checks.arguments import number
from landscape.errors import UserError

FloatArray = npt.NDArray[np.float64]

MOST = 20  # units; 2^20 changes of sign
ROUNDING = 1e-12
# Quantiles of the normal distribution: 5 % one-sided and 80 % power.
LEVEL_QUANTILE, POWER_QUANTILE = 1.6449, 0.8416


@dataclass(frozen=True)
class Directed:
    """What n units say about a directed hypothesis.

    Attributes
    ----------
    n
        Number of units.
    mean, low, high
        Mean and its 95 % interval, which inverts the two-sided test (`analysis.statistics.paired`).
    p_value, p_opposite
        One-sided: in the claimed direction, and in the other one.
    units_needed
        Units that would show a mean like this one at 5 % in 4 of 5 repetitions, at the spread that was
        seen (normal approximation); inf where the mean has the other sign, NaN without a spread.
    """

    n: int
    mean: float
    low: float
    high: float
    p_value: float
    p_opposite: float
    units_needed: float


def directed_test(values: Sequence[float], sign: int) -> Directed:
    """One-sided sign-flip test that the mean of `values` has this sign.

    All 2ⁿ changes of sign are counted, the observed one among them (Fisher, "The Design of
    Experiments", 1935, section 21).

    Parameters
    ----------
    values
        One finite number per independent unit, such as a training seed; at most 20.
    sign
        +1 or −1: the claimed one.

    Raises
    ------
    UserError
        Without values, for more than 20, another sign, and as
        `analysis.statistics.paired.permutation_test`.

    >>> found = directed_test([0.3, 0.1, 0.4, 0.1, 0.5, 0.9], +1)
    >>> found.p_value, found.p_opposite
    (0.015625, 1.0)
    """
    if len(values) > MOST:
        raise UserError(f"{len(values)} units; expected at most {MOST}")
    if number("sign", sign) not in (1, -1):
        raise UserError(f"sign {sign}: expected +1 or -1, the sign that is claimed")
    two_sided = permutation_test(values)
    claimed = sign * np.asarray(values, np.float64)
    flips = 1 - 2 * ((np.arange(2 ** len(claimed))[:, None] >> np.arange(len(claimed))) & 1)
    sums, observed, rounding = flips @ claimed, claimed.sum(), ROUNDING * np.abs(claimed).sum()
    spread = float(claimed.std(ddof=1)) if not all_equal(claimed) else nan
    return Directed(
        two_sided.n,
        two_sided.mean,
        two_sided.low,
        two_sided.high,
        float((sums >= observed - rounding).mean()),
        float((sums <= observed + rounding).mean()),
        _needed(float(claimed.mean()), spread),
    )


def _needed(mean: float, spread: float) -> float:
    if mean <= 0:
        return inf
    return ceil(((LEVEL_QUANTILE + POWER_QUANTILE) * spread / mean) ** 2) if spread > 0 else nan


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the given order (Holm, Scandinavian J. of Statistics 6, 1979).

    Raises
    ------
    UserError
        For numbers outside 0 to 1 and NaN: one that is unknown would change what the others are corrected by.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    wrong = [one for one in p_values if not 0 <= number("a p-value", one) <= 1]
    if wrong:
        raise UserError(
            f"a p-value is {wrong[0]}; expected 0 to 1: leave out tests that give none, and say so"
        )
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
