"""Driving a curvature map: solve at the points that the sampler asks for, keep the file up to date."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.curvature.interpolate import Steering
from analysis.curvature.map_record import Record, entry_of, with_record
from analysis.curvature.plan import Plan
from analysis.curvature.points import PointSolver
from analysis.curvature.sampler import choose_points
from landscape.progress import Listener, Progress
from landscape.sampling import Index, Sampler
from landscape.surface import Json, Surface, settings_difference
from landscape.surface.surface_run import SAVE_AT_LEAST_EVERY_SECONDS, SAVE_SHARE

SAVE_EVERY_SECONDS = 2.0


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
        self.path, self.planes, self.listener = path, planes, listener
        self._finished = self._points = self._new = 0
        self._seconds = 0.0
        self._save_at = time.monotonic() + SAVE_EVERY_SECONDS

    def plane(self, number: int, solver: PointSolver) -> None:
        """All points of one plane; whatever stops it, the file gets what is there."""
        surface, plan = self.surface, self.plan
        record = self._record(number)
        sampler = choose_points(surface.alpha, surface.beta, plan.tolerance, plan.points_limit)
        steering = Steering()
        before, new = record.seconds, self._seconds

        def note(complete: bool = False) -> None:
            record.seconds = before + self._seconds - new
            self.surface = with_record(
                self.surface, number, self.split, record, self.settings, complete=complete
            )
            self._save()

        try:
            for batch in sampler.batches(lambda indices: steering(record.lambda_max(indices))):
                self._batch(batch, record, solver, sampler, note)
        except BaseException:
            if record.points:
                note()
            raise
        note(complete=True)
        self._finished += 1
        self._points += len(record.points)

    def left(self, number: int) -> int:
        """Points of a plane that are still to come, at most."""
        whole = min(self.plan.points_limit, math.prod(self.surface.shape))
        return max(0, whole - len(self._record(number).points))

    def _record(self, number: int) -> Record:
        """What the file holds of this map."""
        entry = entry_of(self.surface, number, self.split)
        same = entry is not None and settings_difference(entry["settings"], self.settings) is None
        return Record.stored(self.surface, number, self.split) if same else Record(self.surface.shape)

    def _batch(
        self,
        batch: Sequence[Index],
        record: Record,
        solver: PointSolver,
        sampler: Sampler,
        note: Callable[[], None],
    ) -> None:
        for index in batch:
            if index in record.points:
                continue
            began = time.perf_counter()
            at = [float(self.surface.alpha[index[0]]), float(self.surface.beta[index[1]])]
            record.points[index] = solver.solve(at[: self.surface.dim])
            self._seconds += time.perf_counter() - began
            self._new += 1
            self._tell(sampler, record)
            if time.monotonic() >= self._save_at:
                note()

    def _tell(self, sampler: Sampler, record: Record) -> None:
        if self.listener is None:
            return
        here = len(record.points)
        left = self.planes - self._finished
        self.listener(
            Progress(
                done=self._points + here,
                expected=self._points + left * max(here, sampler.expected),
                plane=self._finished + 1,
                planes=self.planes,
                error=sampler.relative_error,
                seconds_per_point=self._seconds / self._new,
            )
        )

    def _save(self) -> None:
        began = time.monotonic()
        if self.path is not None:
            self.surface.save(self.path)
        now = time.monotonic()
        pause = max(SAVE_EVERY_SECONDS, (now - began) / SAVE_SHARE)  # kept directions may be large
        self._save_at = now + min(pause, SAVE_AT_LEAST_EVERY_SECONDS)
