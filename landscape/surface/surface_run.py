"""Driving a computation: evaluate what the sampler asks for, keep the file up to date, tell the listener."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from landscape.engine import Totals
from landscape.planes.directions import Params
from landscape.progress import Listener, Progress
from landscape.sampling import Sampler
from landscape.surface import Json, Path2D, Plane, Surface
from landscape.surface.assemble import assemble_plane
from landscape.surface.plane_record import Index, Record

SAVE_EVERY_SECONDS = 2.0
SAVE_SHARE = 0.05  # of the time that saving may take, on machines where it is slow …
SAVE_AT_LEAST_EVERY_SECONDS = 30.0  # … but no more than this is ever lost


class Evaluator(Protocol):
    """What gives values at a point: an engine, or one behind a curve."""

    def evaluate(self, coordinates: Sequence[float]) -> dict[str, Totals]:
        """Sums by split, at one number per axis."""
        ...


class SurfaceRun:
    """One surface in the making, plane after plane.

    Parameters
    ----------
    frame
        The surface without its planes: grid, settings, provenance.
    planes
        How many planes there will be.
    path
        Where to keep the file, or None.
    listener
        Called after every point, or None.
    earlier
        The unfinished surface that is being resumed, or None.
    blocks
        Metrics whose means over each block of examples are kept.
    """

    def __init__(
        self,
        frame: Surface,
        planes: int,
        path: Path | None,
        listener: Listener | None,
        earlier: Surface | None,
        blocks: Sequence[str] = ("loss",),
    ) -> None:
        self.frame = frame
        self.blocks = blocks
        self.planes = planes
        self.path = path
        self.listener = listener
        self.earlier = earlier
        self._timing: Mapping[str, Any] = earlier.about.get("timing", {}) if earlier is not None else {}
        self._finished: list[Plane] = []
        self._seconds = 0.0
        self._evaluated = 0
        self._save_at = time.monotonic() + SAVE_EVERY_SECONDS

    def plane(
        self,
        engine: Evaluator,
        sampler: Sampler,
        about: Json,
        directions: Sequence[Params],
        path: Path2D | None = None,
    ) -> None:
        """Evaluate one plane until its sampler is content; whatever stops it, the file gets what is there."""
        record = self._record()
        tensors = tuple({name: value.numpy() for name, value in one.items()} for one in directions)

        def assembled() -> Plane:
            plane = assemble_plane(
                self.frame.alpha, self.frame.beta, record, about, sampler.error, sampler.log_error
            )
            return replace(plane, directions=tensors, path=path)

        try:
            for batch in sampler.batches(record.losses):
                for index in batch:
                    if record.computed[index]:
                        continue
                    self._evaluate(engine, record, index)
                    self._tell(sampler, record)
                    if time.monotonic() > self._save_at:
                        self._save(assembled)
        except BaseException:
            if record.computed.any():
                self._save(assembled)
            raise
        self._finished.append(assembled())
        if len(self._finished) < self.planes:
            self._save()

    def finish(self) -> Surface:
        """The whole surface, saved."""
        surface = replace(self._surface(), complete=True)
        if self.path is not None:
            surface.save(self.path)
        return surface

    def _record(self) -> Record:
        number = len(self._finished)
        if self.earlier is not None and number < len(self.earlier.planes):
            return Record.from_plane(self.earlier.planes[number])
        return Record(self.frame.shape, self.blocks)

    def _evaluate(self, engine: Evaluator, record: Record, index: Index) -> None:
        began = time.perf_counter()
        coordinates = [float(self.frame.alpha[index[0]]), float(self.frame.beta[index[1]])]
        record.add(index, engine.evaluate(coordinates[: self.frame.dim]))
        self._seconds += time.perf_counter() - began
        self._evaluated += 1

    def _tell(self, sampler: Sampler, record: Record) -> None:
        if self.listener is None:
            return
        here = int(record.computed.sum())
        before = sum(int(plane.computed.sum()) for plane in self._finished)
        left = self.planes - len(self._finished)
        self.listener(
            Progress(
                done=before + here,
                expected=before + left * max(here, sampler.expected),
                plane=len(self._finished) + 1,
                planes=self.planes,
                error=sampler.relative_error,
                seconds_per_point=self._seconds / self._evaluated,
            )
        )

    def _save(self, *current: Callable[[], Plane]) -> None:
        began = time.monotonic()
        if self.path is not None:
            self._surface(*(plane() for plane in current)).save(self.path)
        now = time.monotonic()
        pause = max(SAVE_EVERY_SECONDS, (now - began) / SAVE_SHARE)
        self._save_at = now + min(pause, SAVE_AT_LEAST_EVERY_SECONDS)

    def _surface(self, *current: Plane) -> Surface:
        timing = {
            "seconds": self._seconds + float(self._timing.get("seconds", 0.0)),
            "points": self._evaluated + int(self._timing.get("points", 0)),
        }
        return replace(
            self.frame,
            planes=(*self._finished, *current),
            about=self.frame.about | {"timing": timing},
            complete=False,
        )
