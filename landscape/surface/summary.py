"""What a finished surface says in a few numbers: for the terminal, the viewer and figures. Needs no torch.

Ra is asked of `analysis`, and only when it is called.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from landscape.siblings import need
from landscape.surface import Metric, Surface


def metrics(surface: Surface) -> dict[str, Any]:
    """Named figures of a surface: a number, a string, or ``(value, low, high)`` with a 95 % interval.

    Roughness and range are over all planes and the first split; centre values are given per split. A surface
    with unknown points, or of a single row, has no roughness.
    """
    need("analysis")
    from analysis.roughness import roughness

    found: dict[str, Any] = {}
    losses = np.array([plane.splits[surface.splits[0]].metrics["loss"].values for plane in surface.planes])
    if surface.complete and len(surface.alpha) > 1 and not np.isnan(losses).any():
        on_loss = roughness(surface)
        found["Ra"] = _interval(on_loss.ra)
        if on_loss.finite is not None:
            found[f"Ra within ±{on_loss.finite_span:.3g}"] = _interval(on_loss.finite.ra)
        if on_loss.diverged_radius is not None:
            found["diverges from radius"] = on_loss.diverged_radius
        if (losses > 0).all():
            found["Ra (log loss)"] = _interval(roughness(surface, log=True).ra)
        found["Sq"] = _interval(on_loss.sq)
    found |= center_values(surface)
    finite = losses[np.isfinite(losses)]
    if finite.size:
        found["lowest loss"], found["highest loss"] = float(finite.min()), float(finite.max())
    density = surface.planes[0].about.get("density")
    if density is not None:
        found["sparsity"] = 1.0 - float(density)
    return found


def center_values(surface: Surface) -> dict[str, tuple[float, float, float]]:
    """Loss and accuracy at the checkpoint, per split, with 95 % intervals over the examples.

    An accuracy's is Wilson's, a positive loss's lies on the log scale: neither leaves what is possible.
    """
    if surface.center is None:
        return {}
    several = len(surface.splits) > 1
    return {
        f"{name} ({split})" if several else name: _with_interval(name, metric, one.examples, surface.center)
        for split, one in surface.planes[0].splits.items()
        for name, metric in one.metrics.items()
    }


def _with_interval(
    name: str, metric: Metric, examples: int, at: tuple[int, int]
) -> tuple[float, float, float]:
    from analysis.statistics.uncertainty import CONFIDENCE, positive_interval, wilson

    value, error = float(metric.values[at]), float(metric.stderr[at])
    if name == "accuracy":
        return value, *wilson(value, examples)
    if name == "loss":
        return value, *positive_interval(value, error)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return value, value - half, value + half


def _interval(estimate: Any) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high
