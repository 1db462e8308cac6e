"""One curvature map in the making: the surface as far as it is known, and its file."""

from __future__ import annotations

import math
from pathlib import Path

from analysis.curvature.extremes import Extremes
from analysis.curvature.interpolate import Steering
from analysis.curvature.map_record import Record, entry_of, with_record
from analysis.curvature.plan import Plan
from analysis.curvature.sampler import choose_points
from landscape.keeping.points import Asked, Evaluator, PointRun
from landscape.keeping.settings import settings_difference
from landscape.progress import Listener
from landscape.sampling import Index
from landscape.surface import Json, Surface


class MapRun:
    """Plane after plane, with the surface as far as it is known.

    Parameters
    ----------
    surface, split
        What gets the metrics.
    settings
        Of the map; a stored one with others is dropped.
    plan
        Where and how well.
    path
        The surface's file, or None.
    planes
        How many planes there will be.
    listener
        Called after every point, or None.
    """

    def __init__(
        self,
        surface: Surface,
        split: str,
        settings: Json,
        plan: Plan,
        path: Path | None,
        planes: int,
        listener: Listener | None,
    ) -> None:
        self.surface, self.split, self.settings, self.plan = surface, split, settings, plan
        self._points = PointRun(path, planes, listener)

    def plane(self, number: int, evaluator: Evaluator[Extremes]) -> None:
        """All points of one plane; whatever stops it, the file gets what is there."""
        record, grid = self._record(number), (self.surface.alpha, self.surface.beta)
        sampler = choose_points(*grid, self.plan.tolerance, self.plan.max_points)
        steering, before = Steering(), record.seconds - self._points.seconds

        def note(complete: bool) -> None:
            record.seconds = before + self._points.seconds
            self.surface = with_record(
                self.surface, number, self.split, record, self.settings, complete=complete
            )

        def write(path: Path) -> None:
            if not self.finished(number):
                note(complete=False)
            self.surface.save(path)

        def close() -> None:
            note(complete=True)
            self._points.keeper.save(write)

        def place(index: Index) -> list[float]:
            return [float(axis[one]) for axis, one in zip(grid, index, strict=True)][: self.surface.dim]

        batches = sampler.batches(lambda indices: steering(record.lambda_max(indices)))
        self._points.plane(Asked(sampler, batches, place), evaluator, record, write, close)

    def left(self, number: int) -> int:
        """Points of a plane that are still to come, at most."""
        whole = min(self.plan.max_points, math.prod(self.surface.shape))
        return max(0, whole - len(self._record(number)))

    def finished(self, number: int) -> bool:
        """Whether the surface has all of this map for a plane."""
        entry = entry_of(self.surface, number, self.split)
        return entry is not None and self._is_same(entry) and bool(entry["complete"])

    def _record(self, number: int) -> Record:
        """What the file holds of this map."""
        entry = entry_of(self.surface, number, self.split)
        same = entry is not None and self._is_same(entry)
        return Record.stored(self.surface, number, self.split) if same else Record(self.surface.shape)

    def _is_same(self, entry: Json) -> bool:
        return settings_difference(entry["settings"], self.settings) is None
