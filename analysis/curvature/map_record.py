"""What is known of a plane's curvature so far, in and out of the surface that holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.curvature.extremes import Extremes
from analysis.curvature.interpolate import fill, log_error
from landscape.sampling import Index
from landscape.surface import BoolArray, FloatArray, Json, Metric, Plane, Surface

METRICS = ("lambda_max", "lambda_min", "lambda_ratio")
KEY = "curvature"  # in `Surface.about`: by split, then by plane


@dataclass
class Record:
    """Eigenvalues at the points of one plane.

    Attributes
    ----------
    shape
        Of the grid.
    points
        By grid index.
    seconds
        That they took, over all sessions.
    """

    shape: tuple[int, int]
    points: dict[Index, Extremes] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def stored(cls, surface: Surface, number: int, split: str) -> Record:
        """What the surface holds for a plane and a split; empty where there is nothing."""
        record, entry = cls(surface.shape), entry_of(surface, number, split)
        if entry is None:
            return record
        high, low = (surface.metric(name, plane=number, split=split).values for name in METRICS[:2])
        for i, j, residual_high, residual_low, products, converged in entry["points"]:
            residuals = [math.nan if one is None else one for one in (residual_high, residual_low)]
            values = float(high[i, j]), float(low[i, j])
            record.points[i, j] = Extremes(*values, residuals[0], residuals[1], products, converged)
        record.seconds = float(entry["seconds"])
        return record

    def lambda_max(self, indices: Sequence[Index]) -> FloatArray:
        """At computed points, ``[len(indices)]``."""
        return np.array([self.points[index].high for index in indices], dtype=np.float64)

    def grid(self, name: str) -> FloatArray:
        """A metric on the grid, NaN where it wasn't computed."""
        grid = np.full(self.shape, np.nan)
        for index, one in self.points.items():
            grid[index] = metric_value(name, one)
        return grid

    def __contains__(self, index: Index) -> bool:
        """Whether a point is known."""
        return index in self.points

    def __len__(self) -> int:
        """Known points."""
        return len(self.points)

    def add(self, index: Index, found: Extremes) -> None:
        """Enter one point."""
        self.points[index] = found

    @property
    def computed(self) -> BoolArray:
        """Where, ``[alpha, beta]``."""
        where = np.zeros(self.shape, dtype=bool)
        for index in self.points:
            where[index] = True
        return where

    def about(self, settings: Mapping[str, Any], complete: bool) -> Json:
        """Settings, residuals and cost; JSON types only."""
        points = [
            [*index, _json(one.residual_high), _json(one.residual_low), one.products, one.converged]
            for index, one in sorted(self.points.items())
        ]
        return {
            "settings": dict(settings),
            "complete": complete,
            "columns": ["i", "j", "residual of lambda_max", "of lambda_min", "products", "converged"],
            "points": points,
            "products": sum(one.products for one in self.points.values()),
            "converged": all(one.converged for one in self.points.values()),
            "seconds": self.seconds,
        }


def metric_value(name: str, one: Extremes) -> float:
    """λmax, λmin, or |λmin/λmax| (Li et al. 2018, section 6), which is NaN where λmax is 0."""
    if name == "lambda_max":
        return one.high
    if name == "lambda_min":
        return one.low
    if math.isinf(one.high):
        return math.inf
    return abs(one.low / one.high) if one.high else math.nan


def entry_of(surface: Surface, number: int, split: str) -> Json | None:
    """What the file says about a plane's curvature."""
    entry: Json | None = surface.about.get(KEY, {}).get(split, {}).get(str(number))
    return entry


def with_record(
    surface: Surface,
    number: int,
    split: str,
    record: Record,
    settings: Mapping[str, Any],
    *,
    complete: bool,
) -> Surface:
    """The surface with the record's metrics.

    Parameters
    ----------
    complete
        All points are there: what lies between is interpolated. Until then it is NaN.
    """
    metrics = {name: _metric(surface, record, name, complete) for name in METRICS}
    plane = surface.planes[number]
    old = plane.splits[split]
    splits = {**plane.splits, split: replace(old, metrics={**old.metrics, **metrics})}
    planes: list[Plane] = list(surface.planes)
    planes[number] = replace(plane, splits=splits)
    before = surface.about.get(KEY, {})
    error = math.nan
    if complete:
        error = log_error(surface.alpha, surface.beta, record.computed, metrics["lambda_max"].values)
    entry = {str(number): record.about(settings, complete) | {"log_error": _json(error)}}
    entries = {**before, split: {**before.get(split, {}), **entry}}
    return replace(surface, planes=tuple(planes), about={**surface.about, KEY: entries})


def _metric(surface: Surface, record: Record, name: str, complete: bool) -> Metric:
    values, computed = record.grid(name), record.computed
    unknown = np.full(record.shape, np.nan)
    if not complete:
        return Metric(values, unknown, computed=computed)
    filled, error = fill(name, surface.alpha, surface.beta, computed, values)
    return Metric(filled, unknown, error, computed=computed)


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
