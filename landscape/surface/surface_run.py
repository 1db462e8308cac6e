"""One surface in the making: what was evaluated so far as a `Surface`, and its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from landscape.engine import Totals
from landscape.keeping.points import Asked, Evaluator, PointRun
from landscape.planes.directions import Params
from landscape.progress import Listener
from landscape.sampling import Index, Sampler
from landscape.surface import Json, Path2D, Plane, Surface
from landscape.surface.assemble import assemble_plane
from landscape.surface.plane_record import Record


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
        self.frame, self.path, self.earlier, self.blocks = _as_begun(frame, earlier), path, earlier, blocks
        self._timing: Mapping[str, Any] = earlier.about.get("timing", {}) if earlier is not None else {}
        self._finished: list[Plane] = []
        self._present: Callable[[], Plane] | None = None
        self._points = PointRun(path, planes, listener)

    def plane(
        self,
        evaluator: Evaluator[Mapping[str, Totals]],
        sampler: Sampler,
        about: Json,
        directions: Sequence[Params],
        path: Path2D | None = None,
    ) -> None:
        """Evaluate one plane until its sampler is content; whatever stops it, the file gets what is there."""
        record, frame = self._record(), self.frame
        tensors = tuple(
            {name: value.detach().cpu().numpy() for name, value in one.items()} for one in directions
        )

        def place(index: Index) -> list[float]:
            return [float(frame.alpha[index[0]]), float(frame.beta[index[1]])][: frame.dim]

        def present() -> Plane:
            found = assemble_plane(frame.alpha, frame.beta, record, about, sampler.error, sampler.log_error)
            return replace(found, directions=tensors, path=path)

        def close() -> None:
            self._finished.append(present())
            self._present = None
            self._points.keeper.save(self._write)

        self._present = present
        asked = Asked(sampler, sampler.batches(record.losses), place)
        self._points.plane(asked, evaluator, record, self._write, close)

    def finish(self) -> Surface:
        """The whole surface, saved."""
        surface = replace(self._surface(), complete=True)
        self._points.keeper.save(surface.save)
        return surface

    def _record(self) -> Record:
        number = len(self._finished)
        if self.earlier is not None and number < len(self.earlier.planes):
            return Record.from_plane(self.earlier.planes[number])
        return Record(self.frame.shape, self.blocks)

    def _write(self, path: Path) -> None:
        self._surface().save(path)

    def _surface(self) -> Surface:
        """With what is known of the present plane, and what an earlier run knew of those to come."""
        present = [] if self._present is None else [self._present()]
        to_come = () if self.earlier is None else self.earlier.planes[len(self._finished) + len(present) :]
        timing = {
            "seconds": self._points.seconds + float(self._timing.get("seconds", 0.0)),
            "points": self._points.points + int(self._timing.get("points", 0)),
        }
        about = self.frame.about | {"timing": timing}
        return replace(self.frame, planes=(*self._finished, *present, *to_come), about=about, complete=False)


def _as_begun(frame: Surface, earlier: Surface | None) -> Surface:
    """A file that was begun without sparse kernels goes on so for the same reason, which it states."""
    mine, before = (None if one is None else one.about.get("engine") for one in (frame, earlier))
    if not (isinstance(mine, dict) and isinstance(before, dict) and "dense_because" in before):
        return frame
    return replace(frame, about=frame.about | {"engine": mine | {"dense_because": before["dense_because"]}})
