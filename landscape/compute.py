"""`compute_surface`: a network, examples and a plane in; a `Surface` out, resumable at any point."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from landscape.checks.arguments import number, whole
from landscape.checks.centre import check_earlier, check_flat, check_steady, earlier_surface, evaluate_centre
from landscape.checks.identity import Functions
from landscape.devices import choose_device, kind_of
from landscape.engine import Engine
from landscape.engine.executors import evaluator_of
from landscape.engine.failing import in_one_line
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.examples.forms import Data, as_examples, named_splits
from landscape.keeping.keeper import Keeper
from landscape.keeping.label import labelled
from landscape.keeping.lock import owned
from landscape.keeping.settings import FUNCTIONS
from landscape.kept_weights import density, resolve_mask
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, Moving, ParamsChoice, moving_params
from landscape.planes import PlaneSpec, RandomPlane
from landscape.planes.directions import Params, checked
from landscape.progress import Watch, watching
from landscape.provenance import describe_run, digest
from landscape.sampling import BATCH, LOG_TOLERANCE, adaptive, exact
from landscape.sparse.choice import Sparse, check_choice
from landscape.surface import FloatArray, Json, Path2D, Surface, load_surface
from landscape.surface.schema import check_provenance
from landscape.surface.spans import SPANS
from landscape.surface.surface_run import SurfaceRun
from landscape.workers.crew import check_executor


@own_modes()
def compute_surface(
    model: nn.Module,
    data: Data | Mapping[str, Data],
    *,
    loss: Loss = classification,
    plane: PlaneSpec | Sequence[PlaneSpec] | None = None,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] | None = "auto",
    mask_source: str = "given",
    params: ParamsChoice = TRAINABLE,
    points: int | tuple[int, int] = 51,
    span: float = 1.0,
    dim: Literal[1, 2] = 2,
    exact_grid: bool = False,
    tolerance: float = 0.005,
    max_points: int | None = None,
    at_a_time: int = BATCH,
    batch_norm: Literal["fixed", "recalibrate"] = "fixed",
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    sparse: Sparse = "auto",
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    keep_directions: bool = False,
    executor: Executor | None = None,
    label: str = "",
    about: Mapping[str, Any] | None = None,
    progress: Watch = "auto",
) -> Surface:
    """Loss and metrics of a network on a line or plane through its weights.

    The model is never modified. With a `path` the file there is brought up to date every few seconds; the
    same call after an interruption goes on where it stopped and ends with the same bits.

    Parameters
    ----------
    model
        Any module; it is evaluated in evaluation mode.
    data
        Tensors or arrays ``(inputs, targets)``, a `Dataset`, a `DataLoader` or another iterable of batches
        (used as they come), an `Examples`, or a mapping of split names to these. The first split steers the
        sampling.
    loss
        ``loss(model, batch) -> (loss, count)`` or ``(loss, count, {"metric": …})``, each of them one value
        per example (gives standard errors) or the sum over the batch; or one that ships: `classification`,
        `binary_classification`, `regression` (see `landscape.losses`).
    plane
        `RandomPlane` (default), `BetweenPlane`, `GivenPlane`, `trajectory_plane` or several of them, one
        surface each.
    mask
        Kept weights by parameter name (True = kept); "auto" takes them from exact zeros, "none" or None
        leaves the directions dense.
    mask_source
        What the file calls a mask that is given as tensors.
    params
        Which parameters move: "trainable" (those that require a gradient; all where none does), "all", or
        names and shell patterns. The others stay where they are. See `landscape.parameters`.
    points, span, dim
        Grid points per axis, half-width in units of the directions, and 1 for a line or 2 for a plane.
    exact_grid
        Evaluate every grid point instead of sampling adaptively.
    tolerance, max_points
        Adaptive sampling stops when the stated error is below `tolerance` times the loss range on the
        plane and, where losses are positive, that of log loss below 0.05, or at `max_points` per plane;
        log loss alone asks for 290 points at most where `max_points` doesn't allow more.
    at_a_time
        Points that adaptive sampling asks for at a time, at least; more keep more workers busy.
    batch_norm
        "fixed" running statistics (Li et al. 2018), or "recalibrate" them at each point on the first split.
    device, dtype, batch_size
        "auto" takes CUDA when present. "float32", "tf32", "bfloat16", "float64". The engine picks the batch.
    sparse
        Whether to compute with kept weights only, on a CPU: "auto" where that is faster, "on", or "off".
        What is resumed goes on as it began.
    path, overwrite, keep_directions
        Surface file to write and resume from; whether to compute anew in place of whatever is there; whether
        to store the directions in it.
    executor
        A `concurrent.futures.Executor` whose workers evaluate the points, as many at a time as the sampling
        asks for; the bits are those of this process. Model, examples and loss travel once to each worker, in
        files beside `path` (which workers must see), and must be such that `pickle` takes them. Or a
        `landscape.workers.cluster.Cluster` of Dask's workers, which need no common folder, and compute ahead
        what the sampling will probably ask for.
    label, about
        Name for legends, and provenance to store. A finished file takes a new label, and keeps its
        provenance.
    progress
        "auto" shows a bar in a terminal or a notebook, nothing elsewhere; None shows nothing; or a function
        that is called with a `landscape.progress.Progress` after every point.

    Returns
    -------
    Surface
        ``loss[alpha, beta]`` in nats per example for the default loss.

    Raises
    ------
    UserError
        For unusable arguments, non-finite weights, a loss that isn't finite at the network itself or isn't a
        function of the weights, or a file at `path` with other settings or made with other functions.
    """
    planes = _planes(plane)
    check_executor(executor)
    if not isinstance(path, str | os.PathLike | None):
        raise UserError(f"path {path!r}: expected a file's name")
    shape = _shape(points, dim)
    tolerance, max_points = _checked(span, tolerance, max_points)
    sampling: Json = {"tolerance": tolerance, "max_points": max_points}
    at_a_time = whole("at_a_time", at_a_time)
    if at_a_time != BATCH:  # other points, and files from before say nothing of it
        sampling["at_a_time"] = at_a_time
    axes = 1 if shape[1] == 1 else dim  # one point across is a line
    moving = moving_params(model, params)
    if not isinstance(about, Mapping | None):
        raise UserError(f"about is a {type(about).__name__}; expected a mapping of names to JSON types")
    if path is not None:
        check_provenance(
            {"label": label, **(about or {})}, [{"mask": mask_source, **_about(one)} for one in planes]
        )
    functions = Functions(model, loss)
    splits = {name: as_examples(one) for name, one in named_splits(data).items()}
    kept, source = choose_mask(mask, mask_source, moving)
    alpha = _axis(planes[0], 0, shape[0], span)
    beta = _axis(planes[0], 1, shape[1], span) if axes == 2 else np.zeros(1)
    network = _Network(
        model,
        splits,
        loss,
        moving,
        kept,
        axes,
        {
            "device": choose_device(device),
            "dtype": dtype,
            "batch_norm": batch_norm,
            "batch_size": batch_size,
            "sparse": as_begun(path, overwrite, sparse),
        },
    )
    directions = network.drawn(planes[0])  # the others are drawn again when it is their turn: all may not fit
    digests = network.digests(planes, directions)
    settings: Json = {
        "network": digest({**dict(model.named_parameters()), **dict(model.named_buffers())}),
        **moving.settings(),
        "examples": {name: one.digest() for name, one in splits.items()},
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "planes": [_about(spec) | {"digest": one} for spec, one in zip(planes, digests, strict=True)],
        "mask": {"source": source, "digest": digest(kept or {})},
        "alpha": [float(alpha[0]), float(alpha[-1]), len(alpha)],
        "beta": [float(beta[0]), float(beta[-1]), len(beta)],
        "sampling": "exact" if exact_grid else sampling,
        **({} if exact_grid else LOG_SAMPLING),
        "keep_directions": bool(keep_directions),
        FUNCTIONS: functions.about(),
    }
    given = any(one.given for one in splits.values())
    earlier_surface(path, settings, overwrite, given, but=ENGINES)  # refused before anything is built
    engine = network.engine(directions)
    centre = evaluate_centre(engine, splits)
    check_flat(engine, centre, directions, moving, [0.6 * float(alpha[-1]), 0.4 * float(beta[-1])][:axes])
    settings |= engine_settings(engine)
    facts = {
        "label": label,
        **describe_run(moving.every, engine.about),
        **moving.about(),
        **(about or {}),
    }
    with owned(path), watching(progress, label or "surface") as listener:
        earlier = earlier_surface(path, settings, overwrite, given)
        if earlier is not None:
            check_earlier(path, earlier, engine, centre)
            if earlier.complete:
                return labelled(earlier, label, lambda now: Keeper(Path(path or "")).save(now.save))
        run = SurfaceRun(
            Surface(alpha, beta, (), settings, facts, complete=False),
            len(planes),
            Path(path) if path is not None else None,
            listener,
            earlier,
        )
        for number, spec in enumerate(planes):
            if number:
                directions = network.drawn(spec)
                if not engine.set_directions(directions):
                    del engine  # two of them may not fit the device
                    engine = network.engine(directions)
                centre = evaluate_centre(engine, splits)
            sampler = (
                exact(alpha, beta)
                if exact_grid
                else adaptive(alpha, beta, tolerance, max_points, at_a_time=at_a_time)
            )
            described = {"mask": source, "density": None if kept is None else density(kept), **_about(spec)}
            kept_directions = directions if keep_directions else []
            made_of = model, splits, loss, directions
            with evaluator_of(engine, executor, made_of, centre, run.path) as evaluator:
                run.plane(evaluator, sampler, described, kept_directions, _path(spec, axes))
            del evaluator  # which holds the engine
            check_steady(engine, centre)
        return run.finish()


@dataclass(frozen=True)
class _Network:
    """A network as all its planes see it: examples, loss, what moves and is kept; `options` of the engine."""

    model: nn.Module
    splits: Mapping[str, Examples]
    loss: Loss
    moving: Moving
    kept: Mapping[str, Tensor] | None
    axes: int
    options: Mapping[str, Any]

    def drawn(self, spec: PlaneSpec) -> list[Params]:
        """The directions of a plane; UserError where they don't fit."""
        with torch.device("cpu"):  # whatever the default device is
            given = self.moving if _is_ours(spec) else self.moving.copied()
            with _said(spec, "directions"):
                found = checked(spec.directions(given, self.kept, self.axes), self.moving)
        if len(found) != self.axes:
            raise UserError(
                f"the plane gives {len(found)} direction(s), {self.axes} needed; give more or use --dim 1"
            )
        return found

    def digests(self, planes: Sequence[PlaneSpec], first: list[Params]) -> list[str]:
        """Of every plane's directions, of which the first one's are given; UserError where they change."""
        found = [
            directions_digest(self.drawn(spec) if number else first) for number, spec in enumerate(planes)
        ]
        if not _is_ours(planes[0]) and directions_digest(self.drawn(planes[0])) != found[0]:
            raise UserError(
                "the plane gives other directions each time; draw them from a generator that directions() "
                "seeds"
            )
        return found

    def engine(self, directions: list[Params]) -> Engine:
        """Evaluates points of the plane of these directions."""
        return Engine(self.model, self.splits, self.loss, directions, **self.options)


def _path(spec: PlaneSpec, axes: int) -> Path2D | None:
    """The networks that a plane shows beside its own; on a line, where they stand along it."""
    path = getattr(spec, "path", None)
    if not isinstance(path, Path2D):  # an own plane may call a file so
        return None
    return replace(path, beta=np.zeros(len(path.alpha))) if axes == 1 else path


__all__ = [
    "ENGINE_SETTINGS",
    "Data",
    "as_examples",
    "choose_mask",
    "compute_surface",
    "directions_digest",
    "earlier_surface",
    "named_splits",
]
# Files from before log loss counted hold other points, and say nothing of it.
LOG_SAMPLING: Json = {"log_tolerance": LOG_TOLERANCE}
ENGINES = ("engine", "sparse")  # the settings that only a built engine knows
ENGINE_SETTINGS = ("device", "dtype", "batch_size", "folded", "batch_norm")


def engine_settings(engine: Engine) -> Json:
    """What of the engine determines the last bits; nothing is said of sparse kernels where there are none."""
    settings: Json = {"engine": {name: engine.about[name] for name in ENGINE_SETTINGS}}
    settings["engine"]["device"] = kind_of(engine.about["device"])
    used = engine.about["sparse"]
    if used is not None:
        settings["sparse"] = {name: used[name] for name in ("lanes", "kernels")}
    return settings


def as_begun(path: str | os.PathLike[str] | None, overwrite: bool, sparse: Sparse) -> Sparse:
    """What "auto" means where the file at `path` was begun without the kernels: to go on without them."""
    check_choice(sparse)
    if sparse != "auto" or path is None or overwrite or not Path(path).exists():
        return sparse
    return "auto" if load_surface(path).settings.get("sparse") else "off"


def _shape(points: int | tuple[int, int], dim: int) -> tuple[int, int]:
    if dim not in (1, 2):
        raise UserError(f"dim must be 1 for a line or 2 for a plane, got {dim!r}")
    both = points if isinstance(points, tuple | list) else (points, points)
    if len(both) != 2:
        raise UserError(f"points must be a number or two, one per axis, got {points!r}")
    first, second = (whole("points", one) for one in both)
    return (first, second if dim == 2 else 1)


def _planes(plane: PlaneSpec | Sequence[PlaneSpec] | None) -> list[PlaneSpec]:
    planes = list(plane) if isinstance(plane, Sequence) else [RandomPlane() if plane is None else plane]
    if not planes:
        raise UserError("no plane given; expected at least one")
    for one in planes:
        if isinstance(one, type | str) or not all(
            hasattr(one, name) for name in ("directions", "axis", "about")
        ):
            raise UserError(
                f"plane {one!r}: expected an object with directions, axis and about, such as "
                "landscape.RandomPlane(seed=0)"
            )
    return planes


def _is_ours(spec: PlaneSpec) -> bool:
    """Whether it is known to leave the weights that it is shown as they are."""
    return type(spec).__module__.startswith("landscape.planes")


def _said(spec: PlaneSpec, method: str) -> AbstractContextManager[None]:
    """Around a call of a user's own plane."""
    return nullcontext() if _is_ours(spec) else in_one_line(f"the plane's {method}() fails")


def _about(spec: PlaneSpec) -> Json:
    with _said(spec, "about"):
        found: Any = spec.about()
    if not isinstance(found, Mapping):
        raise UserError(
            f"the plane's about() gives a {type(found).__name__}; expected a mapping of names to JSON types"
        )
    return dict(found)


def _axis(spec: PlaneSpec, which: int, points: int, span: float) -> FloatArray:
    with _said(spec, "axis"):
        given: Any = spec.axis(which, points, span)
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the plane's axis {which} is {' '.join(repr(given).split()):.80}; "
            "expected finite coordinates, ascending"
        ) from error
    if found.ndim != 1 or not len(found) or not (np.isfinite(found).all() and (np.diff(found) > 0).all()):
        raise UserError(
            f"the plane's axis {which} is {np.array2string(found, threshold=6)}; "
            "expected finite coordinates, ascending"
        )
    return found


def _checked(span: float, tolerance: float, max_points: int | None) -> tuple[float, int | None]:
    """Tolerance and largest number of points, NumPy's as Python's."""
    if not SPANS[0] <= number("span", span) <= SPANS[1]:
        raise UserError(
            f"span must be a positive, finite number between {SPANS[0]:g} and {SPANS[1]:g}, got {span}"
        )
    if not 0 < number("tolerance", tolerance) < 1:
        raise UserError(f"tolerance must lie between 0 and 1 (a share of the loss range), got {tolerance}")
    return number("tolerance", tolerance), None if max_points is None else whole("max_points", max_points)


def choose_mask(
    mask: Mapping[str, Tensor] | str | None, source: str, params: Params
) -> tuple[Mapping[str, Tensor] | None, str]:
    """The mask that an argument stands for, and what a file calls its source."""
    if isinstance(mask, str):
        return resolve_mask(mask, None, params)
    if not isinstance(mask, Mapping | None):
        raise UserError(
            f"the mask is a {type(mask).__name__}; expected bool tensors by name, 'auto' or 'none'"
        )
    return (resolve_mask("checkpoint", mask, params)[0] if mask else None), source


def directions_digest(directions: Sequence[Params]) -> str:
    """What the settings say of a plane's directions: a digest of all of them, in order."""
    return digest(
        {f"{axis}/{name}": value for axis, one in enumerate(directions) for name, value in one.items()}
    )
