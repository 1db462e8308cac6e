"""Roughness of loss surfaces, with intervals: Ra and its siblings (ISO 25178-2, Myers 1962).

As a command: ``python -m analysis.roughness a.surface.h5 b.surface.h5``. Needs no torch.
"""

from __future__ import annotations

import os

import sharpscape

if sharpscape.running() == "analysis.roughness":
    # Read when numpy loads. The systems here are small: the threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from analysis.roughness.heights import FloatArray, Heights, Reference
from analysis.roughness.jackknife import block_counts, leave_one_out
from analysis.roughness.metrics import METRICS, RoughnessMetric
from analysis.roughness.region import Region, select_region
from analysis.statistics.uncertainty import Estimate, estimate
from landscape.errors import UserError
from landscape.surface import Surface

__all__ = ["METRICS", "Roughness", "roughness", "roughness_by_plane"]

FEWEST = 8  # points evaluated within a span that can carry its roughness
UNSURE = 0.2  # share of Ra from which its interpolation error is worth a warning


@dataclass(frozen=True, repr=False)
class Roughness:
    """Roughness of one surface on one split, averaged over its planes.

    Every metric of `analysis.roughness.metrics.METRICS` is an attribute: ``roughness(surface).ra.value``.

    Attributes
    ----------
    label, split
        Which surface, which examples.
    quantity
        "loss" (nats) or "log loss" (of the mean loss at each point).
    reference
        Heights are measured from the "mean" over the square or from its least-squares "plane".
    estimates
        By metric name; inf where the network diverges within the square.
    alpha_range, beta_range
        The square; a line has ``beta_range == (0, 0)``.
    resolution
        Grid points along alpha and beta.
    examples, planes
        Numbers behind the means.
    evaluated
        Share of the grid points, over all planes, where the network was evaluated, not interpolated.
    diverged_radius
        Distance from the checkpoint to the nearest diverged grid point, or None.
    finite
        The same over the largest centred square without a diverged point, where there is one.
    """

    label: str
    split: str
    quantity: str
    reference: Reference
    estimates: Mapping[str, Estimate]
    alpha_range: tuple[float, float]
    beta_range: tuple[float, float]
    resolution: tuple[int, int]
    examples: int
    planes: int
    evaluated: float
    diverged_radius: float | None = None
    finite: Roughness | None = None

    def __repr__(self) -> str:
        """One line: the estimates, and of what."""
        numbers = ", ".join(f"{name} {one}" for name, one in self.estimates.items())
        return f"Roughness of {self.label!r}, {self.quantity} on {self.split}: {numbers}"

    def __getattr__(self, name: str) -> Estimate:
        if name not in METRICS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.estimates[name]

    @property
    def unsure(self) -> bool:
        """Whether what was interpolated can have changed Ra by more than a share of `UNSURE`."""
        return bool(self.ra.error_interpolation > UNSURE * self.ra.value)

    @property
    def finite_span(self) -> float | None:
        """Half the width of the largest finite centred square; None where nothing diverged or none exists."""
        return (
            None if self.finite is None else max(map(abs, self.finite.alpha_range + self.finite.beta_range))
        )


def roughness(
    surface: Surface,
    *,
    split: str | None = None,
    log: bool = False,
    reference: Reference = "mean",
    span: float | None = None,
) -> Roughness:
    """Ra and its siblings over the square of a finished surface, averaged over its planes.

    Parameters
    ----------
    surface
        One- or two-dimensional, even or uneven spacing.
    split
        Which examples; default the first.
    log
        Measure log loss instead of loss.
    reference
        Heights above the "mean" (the definition of Ra) or above the least-squares "plane".
    span
        Only grid points with ``|alpha|, |beta| <= span``; default all.

    Raises
    ------
    UserError
        When points are missing, the split doesn't exist, the region has no area or reaches beyond the
        grid, fewer than `FEWEST` of the points within a span were evaluated and the others interpolated, or a
        loss isn't positive and its logarithm is asked for.
    """
    region = _finished(surface, split, log=log, reference=reference, span=span)
    diverged: npt.NDArray[np.bool_] = np.any(np.isinf(np.array(region.losses)), axis=0)
    if diverged.any():
        return _diverged(region, diverged)
    return _result(region, _estimates(region))


def roughness_by_plane(
    surface: Surface,
    metric: str = "ra",
    *,
    split: str | None = None,
    log: bool = False,
    reference: Reference = "mean",
    span: float | None = None,
) -> FloatArray:
    """One metric of each plane by itself, shape ``[planes]``, without its errors, which are most of the work.

    Parameters
    ----------
    metric
        A name of `analysis.roughness.metrics.METRICS`.
    surface, split, log, reference, span
        As for `roughness`; it is inf on a plane where the network diverges within the square.

    Raises
    ------
    UserError
        As `roughness`, and where there is no such metric.
    """
    if metric not in METRICS:
        raise UserError(f"no metric {metric!r}; expected one of {', '.join(METRICS)}")
    region = _finished(surface, split, log=log, reference=reference, span=span)
    _check_positive(region)
    compute = METRICS[metric].compute
    return np.array(
        [inf if np.isinf(loss).any() else compute(region.heights(loss)) for loss in region.losses]
    )


def _finished(
    surface: Surface, split: str | None, *, log: bool, reference: Reference, span: float | None
) -> Region:
    """What is measured; UserError where points of it are missing or weren't evaluated."""
    region = select_region(surface, split, log=log, reference=reference, span=span)
    if span is not None:
        _check_evaluated(region, span)
    losses = np.array(region.losses)
    missing = int(np.isnan(losses).sum())
    if missing:
        raise UserError(
            f"{surface.label}: unfinished: {missing} of {losses.size} points missing; "
            "run landscape.surface with the same settings again to finish it"
        )
    return region


def _check_evaluated(region: Region, span: float) -> None:
    """UserError where the points within a span don't carry its roughness: it would be the interpolant's."""
    for computed in region.computed:
        evaluated = int(computed.sum())
        if evaluated < FEWEST and not computed.all():
            raise UserError(
                f"{region.surface.label}: within span {span:g} only {evaluated} of {computed.size} points "
                f"were evaluated, the others interpolated; expected at least {FEWEST}: compute that square "
                f"itself (landscape.surface --span {span:g})"
            )


def _check_positive(region: Region) -> None:
    """UserError where there is no logarithm."""
    if region.log and any((loss <= 0).any() for loss in region.losses):
        low = min(float(loss.min()) for loss in region.losses)
        raise UserError(
            f"{region.surface.label}: the smallest loss is {low:g}, log loss needs positive losses"
        )


def _estimates(region: Region) -> dict[str, Estimate]:
    _check_positive(region)
    values = np.array([_metrics(region.heights(loss)) for loss in region.losses])
    counts = block_counts(region.surface, region.split)
    replicates = np.array([_replicates(region, plane, len(counts)) for plane in range(len(values))])
    return {
        name: estimate(
            values[:, index],
            replicates[:, :, index],
            counts,
            error=_interpolation_error(region, metric),
            signed=metric.signed,
        )
        for index, (name, metric) in enumerate(METRICS.items())
    }


def _metrics(heights: Heights) -> list[float]:
    return [metric.compute(heights) for metric in METRICS.values()]


def _replicates(region: Region, plane: int, blocks: int) -> FloatArray:
    """Every metric with one block of examples left out, shape ``[K, metrics]``."""
    result = np.full((blocks, len(METRICS)), np.nan)
    if blocks:
        grids = region.cut(leave_one_out(region.surface, region.surface.planes[plane], region.split))
        usable = np.isfinite(grids).all() and (not region.log or (grids > 0).all())
        for block in range(blocks if usable else 0):
            result[block] = _metrics(region.heights(grids[:, :, block]))
    return result


def _interpolation_error(region: Region, metric: RoughnessMetric) -> float:
    """Estimate of what interpolated points change in the metric, averaged over the planes."""
    bounds = [
        metric.error_norm(_point_errors(region, plane), region.weights)
        for plane, computed in enumerate(region.computed)
        if not computed.all()
    ]
    factor = metric.error_factors[region.reference == "plane"]
    return factor * sum(bounds) / len(region.computed) if bounds else 0.0


def _point_errors(region: Region, plane: int) -> FloatArray:
    """Estimated error of each point's loss or log loss; 0 where it was computed."""
    # Here, for it loads scipy, which a fully computed surface doesn't need.
    from landscape.sampling.interpolate import left_out_grid

    surface, found = region.surface, region.surface.planes[plane]
    transforms = found.about.get("interpolation", {}).get("transform", {})
    errors = left_out_grid(
        surface.alpha,
        surface.beta,
        found.computed,
        found.splits[region.split].metrics["loss"].values,
        transform=transforms.get(region.split, "auto"),
        log=region.log,
    )
    return region.cut(errors)


def _diverged(region: Region, diverged: npt.NDArray[np.bool_]) -> Roughness:
    """Not finite; beside it the largest centred square (or line) that is."""
    alpha, beta = np.abs(region.alpha)[:, None], np.abs(region.beta)
    radius = float(np.hypot(alpha, beta)[diverged].min())
    nearest = float(np.maximum(alpha, beta)[diverged].min())
    inside = region.within(nearest)
    finite = _result(inside, _estimates(inside)) if inside.measurable else None
    return _result(region, {name: Estimate(inf) for name in METRICS}, radius, finite)


def _result(
    region: Region,
    estimates: dict[str, Estimate],
    diverged_radius: float | None = None,
    finite: Roughness | None = None,
) -> Roughness:
    surface = region.surface
    return Roughness(
        label=surface.label,
        split=region.split,
        quantity="log loss" if region.log else "loss",
        reference=region.reference,
        estimates=estimates,
        alpha_range=(float(region.alpha[0]), float(region.alpha[-1])),
        beta_range=(float(region.beta[0]), float(region.beta[-1])),
        resolution=(len(region.alpha), len(region.beta)),
        examples=surface.planes[0].splits[region.split].examples,
        planes=len(surface.planes),
        evaluated=float(np.mean(region.computed)),
        diverged_radius=diverged_radius,
        finite=finite,
    )
