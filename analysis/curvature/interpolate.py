"""Between the computed points of a curvature map, and how wrong that may be.

λmax spans orders of magnitude over a plane, so it is interpolated and judged in logarithms; λmin changes
sign, so it goes through an inverse hyperbolic sine; the ratio is of order one and goes as it is. Points are
chosen by log λmax. On twelve tiny ReLU networks and 60 of 441 points that left log λmax off by 0.66 and
asinh λmin by 0.19 (rms), against 0.90 and 0.36 when λmax itself chose, 0.93 and 0.42 when the ratio did; the
ratio was off by 0.14 each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landscape.sampling import LEFT_OUT_QUANTILE
from landscape.sampling.interpolate import Spline, grid_places, interpolate_grid, thinned
from landscape.surface import BoolArray, FloatArray

FEWEST = 8  # points from which an error can be told
LARGEST_TO_RMS = (
    8.0  # largest error on the grid over the rms left-out one: these maps are rougher than losses
)
SMALLEST = 1e-4  # share of the median below which λmax isn't told from 0


@dataclass(frozen=True)
class Scale:
    """An increasing map under which a metric is smoother, and its inverse."""

    forward: Callable[[FloatArray], FloatArray]
    inverse: Callable[[FloatArray], FloatArray]


# A spline may overshoot far outside its nodes: the inverses saturate instead of overflowing.
LINEAR = Scale(np.asarray, np.asarray)
LOG = Scale(np.log, lambda x: np.exp(np.minimum(x, LARGEST)))
LARGEST = 700.0


def asinh(unit: float) -> Scale:
    """Linear far below `unit`, logarithmic far above it, for either sign."""
    most = LARGEST - max(0.0, math.log(unit))
    return Scale(lambda x: np.arcsinh(x / unit), lambda x: unit * np.sinh(np.clip(x, -most, most)))


def scale_of(name: str, values: FloatArray) -> Scale:
    """For a metric with these values at computed points."""
    finite = values[np.isfinite(values)]
    if name == "lambda_ratio" or not finite.any():
        return LINEAR
    if name == "lambda_max" and (finite > 0).all():
        return LOG
    return asinh(float(np.median(np.abs(finite[finite != 0]))))


class Steering:
    """What the sampler is told: about log λmax, defined for any sign. The first points fix its unit."""

    def __init__(self) -> None:
        self._scale: Scale | None = None

    def __call__(self, values: FloatArray) -> FloatArray:
        """From λmax; inf where the network diverged."""
        if self._scale is None:
            sizes = np.abs(values[np.isfinite(values) & (values != 0)])
            unit = max(sizes.min(), SMALLEST * np.median(sizes)) if sizes.size else 1.0
            self._scale = asinh(float(unit))
        return self._scale.forward(values)


def fill(
    name: str, alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray
) -> tuple[FloatArray, float]:
    """A metric on the whole grid, and its stated error in its own units.

    Parameters
    ----------
    name
        Of the metric.
    alpha, beta
        The grid.
    computed, values
        ``[alpha, beta]``; inf where the network diverged, NaN where λmax is 0.

    Returns
    -------
    values, error
        Computed entries unchanged. The error is NaN with fewer than `FEWEST` finite points.
    """
    if computed.all():
        return values, 0.0
    scale = scale_of(name, values[computed])
    known = np.full(values.shape, np.nan)
    known[computed] = scale.forward(values[computed])
    between = interpolate_grid(alpha, beta, computed, known, transform="none")
    finite = np.isfinite(between)
    between[finite] = scale.inverse(between[finite])
    told = values[computed & ~np.isnan(values)]
    if (told >= 0).all():  # what overshoots to the other sign
        between = np.maximum(between, 0.0)
    elif (told <= 0).all():
        between = np.minimum(between, 0.0)
    filled = np.where(computed, values, between)
    return filled, _stated(*_left_out(alpha, beta, computed, values, scale))


def log_error(alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray) -> float:
    """What log λmax is off by between the points in half of the cases: the median over left-out points.

    On the tiny networks about 1.3 times the true median, since leaving a point out widens the hole. NaN with
    too few points, or where λmax isn't positive throughout.
    """
    if computed.all():
        return 0.0
    finite = values[computed & np.isfinite(values)]
    if len(finite) < FEWEST or not (finite > 0).all():
        return math.nan
    predicted, given = _left_out(alpha, beta, computed, values, LOG)
    return float(np.median(np.abs(np.log(predicted / given))))


def _left_out(
    alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray, scale: Scale
) -> tuple[FloatArray, FloatArray]:
    """What all others predict at each finite computed point, and what is there."""
    finite = computed.ravel() & np.isfinite(values).ravel()
    few = thinned(int(finite.sum()))
    nodes, given = grid_places(alpha, beta)[finite][few], values.ravel()[finite][few]
    if len(given) < FEWEST:
        return given[:0], given[:0]
    return scale.inverse(Spline.through(nodes).left_out(scale.forward(given))), given


def _stated(predicted: FloatArray, given: FloatArray) -> float:
    """The largest error on the grid as the sampler judges it: from the errors at left-out points."""
    if not len(given):
        return math.nan
    missed = np.abs(predicted - given)
    rms = LARGEST_TO_RMS * float(np.sqrt(np.mean(missed**2)))
    return max(float(np.quantile(missed, LEFT_OUT_QUANTILE)), rms)
