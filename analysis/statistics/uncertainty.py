"""Standard errors and 95 % intervals of numbers that are functions of whole surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, isnan, nan, pi, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from landscape.intervals import with_interval

FloatArray = npt.NDArray[np.float64]
CONFIDENCE = 0.95
LARGEST = 700.0  # exponent that doesn't overflow yet


@dataclass(frozen=True, repr=False)
class Estimate:
    """A number, its 95 % interval and what the interval is made of.

    With the parts that are known, and t at the Welch-Satterthwaite degrees of freedom, the interval is
    ``value ± (t · √(stderr_examples² + stderr_planes²) + error_interpolation)`` for signed numbers. Positive
    ones have it on the log scale, a factor each way: over planes they are skewed, and a symmetric interval
    covers 0.88 to 0.92 instead of 0.95 and begins below zero. Examples and planes are crossed, and each part
    holds their interaction, so the interval errs on the wide side.

    Attributes
    ----------
    value
        Mean over the planes, the geometric one of positive numbers; inf where the surface isn't finite, NaN
        where the number is undefined.
    low, high
        The interval; NaN where neither examples nor planes say anything about the spread.
    stderr_examples
        From the jackknife over blocks of examples; NaN without blocks.
    stderr_planes
        Of the mean over random planes; NaN with one plane, whose interval then is for that plane alone.
    error_interpolation
        Estimate of what interpolated grid points can have changed, from predicting computed points by the
        others; 0 where all were computed, NaN if unknown.
    """

    value: float
    low: float = nan
    high: float = nan
    stderr_examples: float = nan
    stderr_planes: float = nan
    error_interpolation: float = nan

    def __str__(self) -> str:
        """The number and its interval, such as "0.034 [0.019, 0.048]"."""
        return with_interval(self.value, self.low, self.high)

    def __repr__(self) -> str:
        """The same with what the interval is made of, as far as it is known."""
        parts = {
            "examples ±": self.stderr_examples,
            "planes ±": self.stderr_planes,
            "interpolation": self.error_interpolation,
        }
        known = [f"{name} {value:.2g}" for name, value in parts.items() if not isnan(value)]
        return f"Estimate({self}{'; ' if known else ''}{', '.join(known)})"


def estimate(
    values: FloatArray,
    replicates: FloatArray,
    block_counts: npt.NDArray[np.int64],
    *,
    error: float = 0.0,
    signed: bool = False,
) -> Estimate:
    """Combine what planes and example blocks say.

    Parameters
    ----------
    values
        Shape ``[P]``: the number on each plane.
    replicates
        Shape ``[P, K]``: the number on each plane with one block of examples left out; K may be 0.
    block_counts
        Shape ``[K]``: examples in each block; blocks without any say nothing.
    error
        Interpolation error to add to the interval; NaN = unknown, then not added.
    signed
        Whether values below zero exist. Where they don't, mean, jackknife and t are those of the logarithms;
        of a number that is zero on some plane they are plain, and the interval is cut at zero.
    """
    if replicates.shape[1] == len(block_counts) and not (block_counts > 0).all():
        replicates, block_counts = replicates[:, block_counts > 0], block_counts[block_counts > 0]
    if not signed and (values > 0).all() and np.isfinite(values).all():
        return _positive(values, replicates, block_counts, error)
    value, planes, blocks = float(values.mean()), len(values), replicates.shape[1]
    # Planes share their examples: leaving a block out of all of them at once keeps what they have in common.
    by_examples = jackknife(value, replicates.mean(axis=0), block_counts)
    by_planes = float(values.std(ddof=1)) / sqrt(planes) if planes > 1 else nan
    half = _half_width([(by_examples, blocks - 1), (by_planes, planes - 1)])
    half += 0.0 if isnan(error) else error
    low = value - half if signed else max(value - half, 0.0)
    return Estimate(value, low if half == half else nan, value + half, by_examples, by_planes, error)


def _positive(
    values: FloatArray, replicates: FloatArray, block_counts: npt.NDArray[np.int64], error: float
) -> Estimate:
    """By logarithms; the parts are given back in the units of the number."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a replicate that isn't positive makes its part NaN
        logs = np.log(np.where(replicates > 0, replicates, nan)).mean(axis=0)
    middle = float(np.log(values).mean())
    by_examples = jackknife(middle, logs, block_counts)
    by_planes = float(np.log(values).std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else nan
    half = _half_width([(by_examples, len(logs) - 1), (by_planes, len(values) - 1)])
    value = float(values[0]) if len(values) == 1 else exp(middle)
    factor = exp(min(half, LARGEST)) * (1.0 if isnan(error) else 1 + error / value)
    return Estimate(value, value / factor, value * factor, value * by_examples, value * by_planes, error)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a probability from the share of `count` trials that came true.

    Wilson, "Probable inference" (Journal of the American Statistical Association 22, 1927): it has a width
    where all or none came true, and stays within 0 to 1.
    """
    if count < 1 or not 0 <= share <= 1:
        return nan, nan
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(middle - half, 0.0) if share > 0 else 0.0, min(middle + half, 1.0) if share < 1 else 1.0


def positive_interval(value: float, stderr: float) -> tuple[float, float]:
    """95 % interval of a positive number from its standard error, on the log scale; for zero (0, …)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    if not value > 0:
        return value - z * stderr, value + z * stderr
    factor = exp(min(z * stderr / value, LARGEST))
    return value / factor, value * factor


def jackknife(value: float, replicates: FloatArray, block_counts: npt.NDArray[np.int64]) -> float:
    """Standard error from leaving out one block of examples at a time; NaN below two blocks.

    The delete-m jackknife for blocks of unequal size m (Busing, Meijer and van der Leeden, "Delete-m
    jackknife for unequal m", Statistics and Computing 9, 1999); for equal blocks the usual one.
    """
    blocks = len(replicates)
    if blocks < 2:
        return nan
    share = block_counts / block_counts.sum()
    inverse = 1 / share
    pseudo = inverse * value - (inverse - 1) * replicates
    center = blocks * value - ((1 - share) * replicates).sum()
    return sqrt(float(((pseudo - center) ** 2 / (inverse - 1)).mean()))


def t_quantile(degrees: float) -> float:
    """Two-sided 95 % quantile of Student's t, for at least one degree of freedom (real).

    With ``t = √ν tan u`` the density is that of ``cos(u)^(ν-1)``, integrated here on a fine grid. Equals
    ``scipy.stats.t.ppf(0.975, ν)`` to 1e-6 without the half second that importing it takes.
    """
    u = np.linspace(0.0, min(pi / 2, 12 / sqrt(degrees)), 20_001)
    density = np.cos(u) ** (degrees - 1)
    share = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
    return float(sqrt(degrees) * np.tan(np.interp(CONFIDENCE * share[-1], share, u)))


def _half_width(parts: list[tuple[float, int]]) -> float:
    """Half the 95 % interval of a sum of independent errors (standard error, degrees of freedom)."""
    known = [(stderr**2, degrees) for stderr, degrees in parts if not isnan(stderr)]
    if not known:
        return nan
    variance = sum(part for part, _ in known)
    if variance == 0:
        return 0.0
    # Welch and Satterthwaite: the t distribution whose spread of the variance matches the sum's.
    degrees = variance**2 / sum(part**2 / degrees for part, degrees in known)
    return t_quantile(degrees) * sqrt(variance)
