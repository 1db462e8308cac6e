"""The loss along a curve, as a one-dimensional surface whose α is t."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.connectivity.ends import Ends
from landscape.checks.identity import Functions, check_means
from landscape.compute import as_begun, earlier_surface, engine_settings
from landscape.engine import Engine, Totals
from landscape.examples import Examples
from landscape.keeping.keeper import Keeper
from landscape.keeping.label import labelled
from landscape.keeping.lock import owned
from landscape.keeping.points import OneByOne, Point
from landscape.keeping.settings import FUNCTIONS
from landscape.losses import Loss
from landscape.planes.directions import Params, direction_between
from landscape.progress import Listener
from landscape.provenance import describe_run, digest
from landscape.sampling import exact
from landscape.sparse.choice import Sparse
from landscape.surface import Json, Surface
from landscape.surface.surface_run import SurfaceRun

BLOCKED = ("loss", "accuracy")  # metrics with a jackknife
NAMES = ("a", "b")  # of networks that were given none


@dataclass(frozen=True)
class Evaluation:
    """How the loss along a curve is evaluated.

    Attributes
    ----------
    splits
        Examples by split.
    recalibration
        Examples on which running statistics are re-estimated.
    loss
        See `landscape.losses.Loss`.
    points
        Values of t, evenly spaced from 0 to 1.
    device, dtype, batch_size
        As for `landscape.compute_surface`.
    functions
        Of network and loss, for the settings of what is kept.
    """

    splits: Mapping[str, Examples]
    recalibration: Examples
    loss: Loss
    points: int = 21
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int | None = None
    functions: Functions | None = None


@dataclass(frozen=True)
class _OnCurve:
    """An engine whose one coordinate is t."""

    engine: Engine
    bent: bool

    def evaluate(self, coordinates: Point) -> dict[str, Totals]:
        (t,) = coordinates
        # φ(t) = a + 2t(1−t) (θ − a) + t² (b − a)
        return self.engine.evaluate([t**2, 2 * t * (1 - t)] if self.bent else [t])


def curve_surface(
    ends: Ends,
    evaluation: Evaluation,
    bend: Params | None = None,
    *,
    names: tuple[str, str] = NAMES,
    path: Path | None = None,
    label: str = "",
    about: Mapping[str, Any] | None = None,
    plane_about: Mapping[str, Any] | None = None,
    progress: Listener | None = None,
) -> Surface:
    """Every point of the straight line, or of the Bézier curve with this bend.

    Resumes from `path` and keeps it up to date, like `landscape.compute_surface`. Means over blocks of
    examples are kept for loss and accuracy.

    Parameters
    ----------
    ends, evaluation
        Between which networks, and how.
    bend
        Middle point by parameter name; None for the straight line.
    names
        Of the two networks.
    path
        Surface file to write and resume from.
    label, about, plane_about
        For legends, and provenance to store.
    progress
        Called after every point.

    Raises
    ------
    UserError
        For unusable settings, or a file at `path` with others.
    """
    alpha, beta = np.linspace(0.0, 1.0, evaluation.points), np.zeros(1)
    engine = _engine(ends, evaluation, bend, as_begun(path, False, "auto"))
    used = engine_settings(engine)
    settings: Json = {
        "curve": "linear" if bend is None else "bezier",
        **ends.settings(),
        "bend": None if bend is None else digest(bend),
        "points": evaluation.points,
        "examples": {name: one.digest() for name, one in evaluation.splits.items()},
        "recalibration": evaluation.recalibration.digest() if ends.batch_norm == "recalibrate" else None,
        "loss": getattr(evaluation.loss, "__qualname__", type(evaluation.loss).__name__),
        **used,
        "engine": used["engine"] | {"batch_norm": ends.batch_norm},
    }
    if evaluation.functions is not None:
        settings[FUNCTIONS] = evaluation.functions.about()
    facts = {
        "label": label,
        **describe_run(ends.start, engine.about),
        **ends.moving.about(),
        **(about or {}),
    }
    frame = Surface(alpha, beta, (), settings, facts, complete=False)
    described = {
        "kind": "curve",
        "curve": settings["curve"],
        "axes": ["t"],
        "ends": list(names),
        "mask": "none",
        **(plane_about or {}),
    }
    curve = _OnCurve(engine, bend is not None)
    with owned(path):
        earlier = earlier_surface(path, settings, overwrite=False)
        if earlier is not None:
            _check_earlier(path, earlier, curve)
            if earlier.complete:
                return _named(earlier, names, label, path)
        run = SurfaceRun(frame, 1, path, progress, earlier, BLOCKED)
        run.plane(OneByOne(curve.evaluate), exact(alpha, beta), described, [])
        return run.finish()


def _named(earlier: Surface, names: tuple[str, str], label: str, path: Path | None) -> Surface:
    """A finished surface with the networks' names that were given; "a" and "b" are none."""
    if tuple(names) == NAMES:
        return earlier
    planes = tuple(replace(one, about={**one.about, "ends": list(names)}) for one in earlier.planes)
    return labelled(replace(earlier, planes=planes), label, lambda now: Keeper(path).save(now.save))


def _check_earlier(path: Path | None, earlier: Surface, curve: _OnCurve) -> None:
    """Evaluate the first computed point of an earlier surface anew; UserError where it is another."""
    plane = earlier.planes[0] if earlier.planes else None
    if plane is None or not plane.computed.any():
        return
    place = int(np.flatnonzero(plane.computed[:, 0])[0])
    found = curve.evaluate([float(earlier.alpha[place])])
    for name, split in plane.splits.items():
        stored = {key: float(metric.values[place, 0]) for key, metric in split.metrics.items()}
        if name in found and np.isfinite(stored["loss"]):
            told = {"place": " at a point that it holds", "advice": "overwrite it with --overwrite"}
            check_means(path, name, stored, found[name], curve.engine.about["dtype"], **told)


def _engine(ends: Ends, evaluation: Evaluation, bend: Params | None, sparse: Sparse) -> Engine:
    directions = [ends.difference]
    if bend is not None:
        directions.append(direction_between(ends.start, {**ends.middle, **bend}))
    return Engine(
        ends.module,
        evaluation.splits,
        evaluation.loss,
        directions,
        device=evaluation.device,
        dtype=evaluation.dtype,
        batch_norm="recalibrate" if ends.batch_norm == "recalibrate" else "fixed",
        batch_size=evaluation.batch_size,
        recalibration=evaluation.recalibration,
        sparse=sparse,
    )
