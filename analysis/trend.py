"""Does a number rise along ordered levels, such as sparsities? A permutation test. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod, sqrt

import numpy as np
import numpy.typing as npt

from analysis.uncertainty import t_quantile
from landscape.errors import UserError

FloatArray = npt.NDArray[np.float64]

MOST_EXACT = 50_000  # orders that are enumerated; more are drawn
RESAMPLES = 99_999
ROUNDING = 1e-12


@dataclass(frozen=True)
class Trend:
    """What rows of values on ordered levels say.

    Attributes
    ----------
    rows
        Number of rows.
    change
        Mean over the rows of the change from the first level to the last along the least-squares line: what
        the test is of.
    low, high
        95 % interval of it by Student's t over rows, which assumes normal changes; NaN for one row.
    p_value
        Two-sided, of the permutation test of the mean slope over the levels' numbers.
    """

    rows: int
    change: float
    low: float
    high: float
    p_value: float


def trend_test(rows: Sequence[Sequence[float]], *, seed: int = 0) -> Trend:
    """Permutation test of a trend over ordered levels, within rows.

    If the level didn't matter, every order of a row's values would be as likely. The statistic is the mean
    over rows of the least-squares slope over 0, 1, …: Page's L ("Ordered hypotheses for multiple
    treatments", 1963) with values instead of ranks. All orders are tried up to 50,000, else 99,999 drawn ones
    and the observed one, which counts itself.

    Parameters
    ----------
    rows
        Finite values of one unit each (a method and a seed), from the lowest level to the highest; two or
        more per row, not necessarily as many in each.
    seed
        Of the drawn orders.

    Raises
    ------
    UserError
        Without rows, for a row of fewer than two values, or a value that isn't finite.

    >>> found = trend_test([[1.0, 2.0, 3.0], [1.0, 3.0, 4.0]])
    >>> found.change, round(found.p_value * 36)
    (2.5, 2)
    """
    values = [_checked(row) for row in rows]
    if not values:
        raise UserError("no rows; expected at least one row of two or more values")
    scores = [_scores(row) for row in values]
    observed = float(np.mean([row[0] for row in scores]))
    slopes = _all_orders(scores) if prod(map(len, scores)) <= MOST_EXACT else _drawn(values, seed)
    scale = float(np.mean([np.abs(row).max() for row in scores]))
    p_value = float((np.abs(slopes) >= abs(observed) - ROUNDING * scale).mean())
    changes = np.array([float(_slope(row)) * (len(row) - 1) for row in values])
    half = float("nan")
    if len(changes) > 1:
        half = t_quantile(len(changes) - 1) * float(changes.std(ddof=1)) / sqrt(len(changes))
    mean = float(changes.mean())
    return Trend(len(values), mean, mean - half, mean + half, p_value)


def _checked(row: Sequence[float]) -> FloatArray:
    values = np.asarray(row, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UserError(f"a row of {list(row)}; expected two or more finite values")
    return values


def _slope(values: FloatArray) -> FloatArray:
    """Least-squares slope over 0, 1, … along the last axis."""
    count = values.shape[-1]
    level = np.arange(count) - (count - 1) / 2
    return np.asarray(values @ level / (level @ level))


def _scores(row: FloatArray) -> FloatArray:
    """Slopes of all orders of a row, the observed one first; only that one where there are too many."""
    if factorial(len(row)) > MOST_EXACT:
        return np.repeat(_slope(row)[None], MOST_EXACT + 1)
    return _slope(row[np.array(list(permutations(range(len(row)))))])


def _all_orders(scores: Sequence[FloatArray]) -> FloatArray:
    return np.array([np.mean(chosen) for chosen in product(*scores)])


def _drawn(values: Sequence[FloatArray], seed: int) -> FloatArray:
    """Mean slopes of drawn orders, and the observed one."""
    generator = np.random.default_rng(seed)
    parts = [
        np.append(_slope(generator.permuted(np.tile(row, (RESAMPLES, 1)), axis=1)), _slope(row))
        for row in values
    ]
    return np.asarray(np.mean(parts, axis=0))
