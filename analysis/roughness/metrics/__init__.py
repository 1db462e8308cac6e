"""Roughness metrics, each a pure function of `Heights` in its own file; one line in METRICS adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from analysis.roughness.heights import FloatArray, Heights
from analysis.roughness.metrics.ra import ra
from analysis.roughness.metrics.sdc import sdc
from analysis.roughness.metrics.sdq import sdq
from analysis.roughness.metrics.sku import sku
from analysis.roughness.metrics.sq import sq
from analysis.roughness.metrics.ssk import ssk
from analysis.roughness.metrics.sz import sz


def root_mean_square(errors: FloatArray, weights: FloatArray) -> float:
    """Bound on the root mean square over the area of an error that is linear between points."""
    return sqrt(float((weights * errors**2).sum()))


def largest(errors: FloatArray, weights: FloatArray) -> float:
    """Bound on the error anywhere."""
    return float(errors.max())


@dataclass(frozen=True)
class RoughnessMetric:
    """A metric and what is known about it.

    Attributes
    ----------
    compute
        From heights to the number.
    name, meaning
        For tables and help.
    error_factors
        How far the metric can move, above the mean and above the plane as reference, per unit of error in
        the loss; NaN where there is no such bound (ratios and derivatives).
    error_norm
        What the unit is, from the bounds on the errors of the points and the points' shares of the area.
    signed
        True where values below zero exist, so that intervals aren't cut at zero.
    """

    compute: Callable[[Heights], float]
    name: str
    meaning: str
    error_factors: tuple[float, float] = (float("nan"), float("nan"))
    error_norm: Callable[[FloatArray, FloatArray], float] = root_mean_square
    signed: bool = False


METRICS: dict[str, RoughnessMetric] = {
    "ra": RoughnessMetric(ra, "Ra", "mean absolute height", error_factors=(1.0, 1.0)),
    "sq": RoughnessMetric(sq, "Sq", "root mean square height", error_factors=(1.0, 1.0)),
    "sz": RoughnessMetric(
        sz, "Sz", "maximum height, peak to pit", error_factors=(2.0, 8.0), error_norm=largest
    ),
    "ssk": RoughnessMetric(ssk, "Ssk", "skewness of the heights", signed=True),
    "sku": RoughnessMetric(sku, "Sku", "kurtosis of the heights, 3 for a normal distribution"),
    "sdq": RoughnessMetric(sdq, "Sdq", "root mean square slope"),
    "sdc": RoughnessMetric(sdc, "Sdc", "root mean square curvature"),
}
