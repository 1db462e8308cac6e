"""From evaluated points to a whole plane: interpolate every metric and state the errors."""

from __future__ import annotations

from math import nan

import numpy as np

from landscape.sampling.interpolate import (
    Spline,
    best_transform,
    grid_places,
    interpolate_grid,
    left_out_errors,
    thinned,
)
from landscape.surface import BoolArray, FloatArray, Json, Metric, Plane, Split
from landscape.surface.plane_record import ERROR_DIGITS, Record
from landscape.surface.rounding import rounded


def assemble_plane(
    alpha: FloatArray,
    beta: FloatArray,
    record: Record,
    about: Json,
    steering_error: float,
    steering_log_error: float = nan,
) -> Plane:
    """Interpolate what wasn't computed.

    Parameters
    ----------
    steering_error, steering_log_error
        The sampler's stated errors for the loss of the first split, in loss units and of its logarithm; other
        metrics get an estimate from left-out points.
    """
    steering = next(iter(record.splits), None)
    splits = {}
    transforms: dict[str, str] = {}
    for name, split in record.splits.items():
        metrics = {}
        for key, metric in split.metrics.items():
            transform = _transform(alpha, beta, record.computed, metric.values) if key == "loss" else "none"
            if key == "loss":
                transforms[name] = transform
            steers = (name, key) == (steering, "loss")
            stated = (steering_error, steering_log_error) if steers else None
            metrics[key] = _fill(alpha, beta, record.computed, metric, key, transform, stated)
        splits[name] = Split(split.examples, metrics, split.block_counts)
    interpolation = {"kernel": "polyharmonic r^3", "tail": 2, "transform": transforms}
    return Plane(about | {"interpolation": interpolation}, record.computed.copy(), splits)


def _fill(
    alpha: FloatArray,
    beta: FloatArray,
    computed: BoolArray,
    metric: Metric,
    name: str,
    transform: str,
    stated: tuple[float, float] | None,
) -> Metric:
    # A loss goes through a transform and may dip between points, where an accuracy is cut to its range.
    values = interpolate_grid(
        alpha, beta, computed, metric.values, transform=transform, bounded=name == "loss"
    )
    if name == "accuracy":
        values = np.clip(values, 0.0, 1.0)
    stderr = np.maximum(interpolate_grid(alpha, beta, computed, metric.stderr, transform="none"), 0.0)
    values = _rounded(values, computed, 12 if name == "accuracy" else 16)
    stderr = _rounded(stderr, computed, ERROR_DIGITS)
    if computed.all():
        error, log_error = 0.0, 0.0 if name == "loss" else nan
    elif stated is not None:
        error, log_error = stated
    else:
        error, log_error = _left_out(alpha, beta, computed, metric.values, transform)
    return Metric(values, stderr, error, metric.blocks, log_error=log_error if name == "loss" else nan)


def _rounded(values: FloatArray, computed: BoolArray, digits: int) -> FloatArray:
    """Interpolated values to so many binary digits, computed ones as they are.

    The interpolation is hundreds of times further off than the 8e-6 of 16 digits, an accuracy's than the 1e-4
    of 12; errors are known to a few per cent.
    """
    return np.where(computed, values, rounded(values, digits))


def _left_out(
    alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray, transform: str
) -> tuple[float, float]:
    """Largest error of predicting a computed point from the others, and of its logarithm.

    NaN with too few points, the second also where a value isn't positive.
    """
    nodes, given = _nodes(alpha, beta, computed, values)
    if len(given) < 8:
        return nan, nan
    largest = float(left_out_errors(nodes, given, transform).max())
    positive = bool((given > 0).all())
    return largest, float(left_out_errors(nodes, given, transform, log=True).max()) if positive else nan


def _transform(alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray) -> str:
    nodes, given = _nodes(alpha, beta, computed, values)
    return "none" if computed.all() or len(given) < 3 else best_transform(Spline.through(nodes), given)


def _nodes(
    alpha: FloatArray, beta: FloatArray, computed: BoolArray, values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Places and values of the computed, finite points, thinned where there are very many."""
    finite = computed.ravel() & np.isfinite(values).ravel()
    few = thinned(int(finite.sum()))
    return grid_places(alpha, beta)[finite][few], values.ravel()[finite][few]
