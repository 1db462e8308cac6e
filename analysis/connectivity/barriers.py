"""How high a curve between two networks rises above them. Needs no torch.

The error barrier of Frankle et al. ("Linear Mode Connectivity and the Lottery Ticket Hypothesis", 2020) and
Entezari et al. ("The Role of Permutation Invariance in Linear Mode Connectivity", 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np
import numpy.typing as npt

from analysis.roughness.heights import trapezoid_weights
from analysis.statistics.uncertainty import Estimate, estimate
from landscape.errors import UserError
from landscape.surface import Surface

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Barrier:
    """The largest rise of a curve above the straight line between its end values.

    Attributes
    ----------
    height
        ``max_t L(t) − ((1−t) L(0) + t L(1))`` over the computed t, for the accuracy the largest fall: never
        negative, since it is 0 at both ends. The 95 % interval reaches from the largest lower to the largest
        upper end of the intervals at each t, which are jackknives over blocks of examples; all points share
        their examples, so what these have in common cancels. A jackknife of the maximum itself would trust
        a valley too much (coverage 79 % in a simulation of small barriers, this one 95 %).
    t
        Where the maximum is; 0 where nothing rises.
    """

    height: Estimate
    t: float


def barrier(surface: Surface, split: str | None = None, metric: str = "loss") -> Barrier:
    """The barrier on a line whose α is t, from 0 to 1.

    Parameters
    ----------
    surface
        One-dimensional, complete, with α from 0 to 1, such as `analysis.connectivity.connect` computes.
    split
        By default the first.
    metric
        "loss", or "accuracy" or another that is better where it is larger.

    Raises
    ------
    UserError
        For a surface of another kind, or without this split or metric.

    >>> from landscape.surface import Metric, Plane, Split
    >>> t = np.linspace(0, 1, 5)
    >>> loss = (t + t * (1 - t))[:, None]
    >>> splits = {"test": Split(8, {"loss": Metric(loss, 0 * loss, 0.0)})}
    >>> line = Surface(t, np.zeros(1), (Plane({}, loss > -1, splits),))
    >>> found = barrier(line)
    >>> found.t, found.height.value
    (0.5, 0.25)
    """
    _check(surface)
    split = split or surface.splits[0]
    splits = surface.planes[0].splits
    if split not in splits or metric not in splits[split].metrics:
        raise UserError(f"{surface.label}: has no {metric} on {split}; it has {', '.join(splits)}")
    found, sign = splits[split].metrics[metric], 1.0 if metric == "loss" else -1.0
    if not np.isfinite(found.values).all():
        return Barrier(Estimate(inf), float(surface.alpha[np.argmax(~np.isfinite(found.values[:, 0]))]))
    rise = sign * _above_chord(surface.alpha, found.values)[:, 0]
    where = int(np.argmax(rise))
    counts, left_out = splits[split].block_counts, np.zeros((len(rise), 0))
    if found.blocks is not None and len(counts) > 1:
        weighted = found.blocks[:, 0] * counts
        without = (weighted.sum(axis=1, keepdims=True) - weighted) / (counts.sum() - counts)
        left_out = sign * _above_chord(surface.alpha, without)
    each = [
        estimate(rise[index : index + 1], left_out[index : index + 1], counts, signed=True)
        for index in range(len(rise))
    ]
    height = replace(each[where], low=max(one.low for one in each), high=max(one.high for one in each))
    return Barrier(height, float(surface.alpha[where]))


def chord(alpha: FloatArray, values: FloatArray) -> FloatArray:
    """``(1−t) v(0) + t v(1)`` for values of shape ``[t, …]``."""
    t = alpha.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((1 - t) * values[:1] + t * values[-1:])


def _above_chord(alpha: FloatArray, values: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # inf − inf where the network diverged
        return np.asarray(values - chord(alpha, values))


def _check(surface: Surface) -> None:
    alpha = surface.alpha
    if surface.dim != 1 or len(alpha) < 2 or alpha[0] != 0 or alpha[-1] != 1:
        raise UserError(f"{surface.label}: expected a line with α from 0 to 1 of analysis.connectivity")
    if np.isnan(surface.loss).any():
        raise UserError(f"{surface.label}: unfinished; compute the rest before asking for its barrier")


def mean_along(surface: Surface, split: str, metric: str = "loss") -> float:
    """Mean over t by the trapezoidal rule; NaN where a value isn't finite."""
    values, weights = surface.metric(metric, split=split).values[:, 0], trapezoid_weights(surface.alpha)
    return float(weights @ values / weights.sum()) if np.isfinite(values).all() else nan
