"""`compute_surface`: a network, examples and a plane in; a `Surface` out, resumable at any point."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from landscape.assemble import assemble_plane
from landscape.directions import Params
from landscape.engine import Engine
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import Loss, classification
from landscape.masks import density, resolve_mask
from landscape.planes import PlaneSpec, RandomPlane
from landscape.progress import Listener, Progress
from landscape.record import Index, Record
from landscape.sampling import Sampler, adaptive, exact
from landscape.store import Json, Plane, Surface, load_surface, settings_difference

Data: TypeAlias = Examples | tuple[Tensor, ...] | Iterable[Any]
SAVE_EVERY_SECONDS = 2.0


def compute_surface(
    model: nn.Module,
    data: Data | Mapping[str, Data],
    *,
    loss: Loss = classification,
    plane: PlaneSpec | Sequence[PlaneSpec] | None = None,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] = "auto",
    points: int | tuple[int, int] = 51,
    span: float = 1.0,
    dim: Literal[1, 2] = 2,
    exact_grid: bool = False,
    tolerance: float = 0.005,
    max_points: int | None = None,
    batch_norm: Literal["fixed", "recalibrate"] = "fixed",
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    keep_directions: bool = False,
    label: str = "",
    about: Mapping[str, Any] | None = None,
    progress: Listener | None = None,
) -> Surface:
    """Loss and metrics of a network on a line or plane through its weights.

    The model is never modified. With a `path` the file there is brought up to date every few seconds; the
    same call after an interruption goes on where it stopped and ends with the same bits.

    Parameters
    ----------
    model
        Any module; it is evaluated in evaluation mode.
    data
        Tensors ``(inputs, targets)``, an iterable of batches (used as they come), an `Examples`, or a mapping
        of split names to these. The first split steers the sampling.
    loss
        ``loss(model, batch) -> (loss, count)`` or ``(loss, count, {"metric": …})``, each of them one value per
        example (gives standard errors) or the sum over the batch.
    plane
        `RandomPlane` (default), `BetweenPlane`, `GivenPlane` or several of them, one surface each.
    mask
        Kept weights by parameter name (True = kept); "auto" takes them from exact zeros, "none" leaves the
        directions dense.
    points, span, dim
        Grid points per axis, half-width in units of the directions, and 1 for a line or 2 for a plane.
    exact_grid
        Evaluate every grid point instead of sampling adaptively.
    tolerance, max_points
        Adaptive sampling stops when the stated error is below `tolerance` times the loss range on the
        plane, or at `max_points` per plane.
    batch_norm
        "fixed" running statistics (Li et al. 2018), or "recalibrate" them at each point on the first split.
    device, dtype, batch_size
        "auto" takes CUDA when present. "float32", "tf32", "bfloat16", "float64". The engine picks the batch.
    path, overwrite, keep_directions
        Surface file to write and resume from; whether to replace one with other settings; whether to store
        the directions in it.
    label, about
        Name for legends, and provenance to store.
    progress
        Called after every point.

    Returns
    -------
    Surface
        ``loss[alpha, beta]`` in nats per example for the default loss.

    Raises
    ------
    UserError
        For unusable arguments, non-finite weights, or a file at `path` with other settings.
    """
    planes = [plane or RandomPlane()] if not isinstance(plane, Sequence) else list(plane)
    shape = _shape(points, dim)
    _check(planes, shape, span, tolerance, max_points)
    params = _finite_params(model)
    splits = {name: _examples(one) for name, one in _splits(data).items()}
    found_mask, mask_source = _mask(mask, params)
    device = _device(device)
    axes = [planes[0].axis(axis, count, span) for axis, count in enumerate(shape[:dim])]
    alpha, beta = axes[0], axes[1] if dim == 2 else np.zeros(1)

    def engine_for(spec: PlaneSpec) -> tuple[Engine, list[Params]]:
        directions = spec.directions(params, found_mask, dim)
        engine = Engine(
            model, splits, loss, directions, device=device, dtype=dtype, batch_norm=batch_norm,
            batch_size=batch_size,
        )  # fmt: skip
        return engine, directions

    started = time.time()
    engine, directions = engine_for(planes[0])
    settings: Json = {
        "network": _digest({**params, **dict(model.named_buffers())}),
        "examples": {name: one.digest() for name, one in splits.items()},
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "planes": [spec.about() for spec in planes],
        "mask": {"source": mask_source, "digest": _digest(found_mask or {})},
        "alpha": [float(alpha[0]), float(alpha[-1]), len(alpha)],
        "beta": [float(beta[0]), float(beta[-1]), len(beta)],
        "sampling": "exact" if exact_grid else {"tolerance": tolerance, "max_points": max_points},
        "engine": {key: engine.about[key] for key in ("device", "dtype", "batch_size", "folded", "batch_norm")},
        "directions": keep_directions,
    }
    earlier = _earlier(path, settings, overwrite)
    if earlier is not None and earlier.complete:
        return earlier
    run = _Run(
        Surface(alpha, beta, (), settings, {}, complete=False),
        Path(path) if path is not None else None,
        progress,
        len(planes),
        (earlier.about.get("timing", {}) if earlier is not None else {}),
    )
    for number, spec in enumerate(planes):
        if number:
            engine, directions = engine_for(spec)
        old = earlier.planes[number] if earlier is not None and number < len(earlier.planes) else None
        facts = spec.about()
        facts.setdefault("mask", mask_source)
        facts["density"] = None if found_mask is None else density(found_mask)
        run.about = _about(label, about, engine, params, started)
        run.plane(
            engine,
            exact(alpha, beta) if exact_grid else adaptive(alpha, beta, tolerance, max_points),
            Record.from_plane(old) if old is not None else Record((len(alpha), len(beta))),
            facts,
            directions if keep_directions else [],
        )
    return run.finish()


class _Run:
    """Drives engine and sampler, keeps the file up to date and tells the listener."""

    def __init__(
        self,
        frame: Surface,
        path: Path | None,
        listener: Listener | None,
        planes: int,
        earlier_timing: Mapping[str, Any],
    ) -> None:
        self.frame = frame
        self.path = path
        self.listener = listener
        self.planes = planes
        self.about: Json = {}
        self._finished: list[Plane] = []
        self._seconds = 0.0
        self._evaluated = 0
        self._earlier = earlier_timing
        self._expected: list[int] = []

    def plane(
        self, engine: Engine, sampler: Sampler, record: Record, facts: Json, directions: Sequence[Params]
    ) -> None:
        """Evaluate one plane until its sampler is content; whatever stops it, the file gets what is there."""
        tensors = tuple({name: value.numpy() for name, value in one.items()} for one in directions)
        unsaved = time.monotonic()

        def partial() -> Plane:
            return replace(
                assemble_plane(self.frame.alpha, self.frame.beta, record, facts, sampler.error),
                directions=tensors,
            )

        try:
            for batch in sampler.batches(record.losses):
                for index in batch:
                    if record.computed[index]:
                        continue
                    self._evaluate(engine, record, index)
                    self._tell(sampler, record)
                    if self.path is not None and time.monotonic() - unsaved > SAVE_EVERY_SECONDS:
                        self._surface(partial(), complete=False).save(self.path)
                        unsaved = time.monotonic()
        except BaseException:
            if self.path is not None and record.computed.any():
                self._surface(partial(), complete=False).save(self.path)
            raise
        self._finished.append(partial())
        self._expected.append(int(record.computed.sum()))
        complete = len(self._finished) == self.planes
        if self.path is not None and not complete:
            self._surface(None, complete=False).save(self.path)

    def finish(self) -> Surface:
        """The whole surface, saved."""
        surface = self._surface(None, complete=True)
        if self.path is not None:
            surface.save(self.path)
        return surface

    def _evaluate(self, engine: Engine, record: Record, index: Index) -> None:
        began = time.perf_counter()
        coordinates = [float(self.frame.alpha[index[0]]), float(self.frame.beta[index[1]])]
        record.add(index, engine.evaluate(coordinates[: self.frame.dim]))
        self._seconds += time.perf_counter() - began
        self._evaluated += 1

    def _tell(self, sampler: Sampler, record: Record) -> None:
        if self.listener is None:
            return
        here = int(record.computed.sum())
        expected = max(here, sampler.expected)
        rest = self.planes - len(self._finished) - 1
        self.listener(
            Progress(
                done=sum(self._expected) + here,
                expected=sum(self._expected) + expected * (1 + rest),
                plane=len(self._finished) + 1,
                planes=self.planes,
                error=sampler.relative_error,
                seconds_per_point=self._seconds / max(1, self._evaluated),
            )
        )

    def _surface(self, current: Plane | None, *, complete: bool) -> Surface:
        planes = (*self._finished, *([current] if current is not None else []))
        timing = {
            "seconds": self._seconds + float(self._earlier.get("seconds", 0.0)),
            "points": self._evaluated + int(self._earlier.get("points", 0)),
        }
        return replace(self.frame, planes=planes, about=self.about | {"timing": timing}, complete=complete)


def _shape(points: int | tuple[int, int], dim: int) -> tuple[int, int]:
    first, second = (points, points) if isinstance(points, int) else points
    return (first, second if dim == 2 else 1)


def _check(
    planes: Sequence[PlaneSpec], shape: tuple[int, int], span: float, tolerance: float, max_points: int | None
) -> None:
    if not planes:
        raise UserError("no plane given; expected at least one")
    if min(shape) < 1:
        raise UserError(f"points must be at least 1 per axis, got {min(shape)}")
    if not (math.isfinite(span) and span > 0):
        raise UserError(f"span must be a positive, finite number, got {span}")
    if not (math.isfinite(tolerance) and 0 < tolerance < 1):
        raise UserError(f"tolerance must lie between 0 and 1 (a share of the loss range), got {tolerance}")
    if max_points is not None and max_points < 1:
        raise UserError(f"max_points must be at least 1, got {max_points}")


def _finite_params(model: nn.Module) -> Params:
    params = {name: value.detach().cpu() for name, value in model.named_parameters()}
    if not params:
        raise UserError("the model has no parameters; there is no plane through them")
    for name, value in params.items():
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise UserError(f"the weights hold {bad} NaN or infinite value(s), the first in {name!r}")
    return params


def _splits(data: Data | Mapping[str, Data]) -> Mapping[str, Data]:
    if not isinstance(data, Mapping):
        return {"data": data}
    if not data:
        raise UserError("no examples: the data mapping is empty; expected at least one split")
    return data


def _examples(data: Data) -> Examples:
    if isinstance(data, Examples):
        return data
    if isinstance(data, tuple) and data and all(isinstance(one, Tensor) for one in data):
        return Examples.from_tensors(*data)
    return Examples.from_batches(data)


def _mask(
    mask: Mapping[str, Tensor] | Literal["auto", "none"], params: Params
) -> tuple[Mapping[str, Tensor] | None, str]:
    if isinstance(mask, str):
        return resolve_mask(mask, None, params)
    return mask, "checkpoint"


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: CUDA isn't available here; use --device cpu")
    return device


def _earlier(path: str | os.PathLike[str] | None, settings: Json, overwrite: bool) -> Surface | None:
    if path is None or overwrite or not Path(path).exists():
        return None
    earlier = load_surface(path)
    difference = settings_difference(earlier.settings, settings)
    if difference is not None:
        raise UserError(
            f"{path} holds a surface made with other settings ({difference}); "
            "choose another output path, or overwrite it with --overwrite"
        )
    return earlier


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Short SHA-256 over names, types, shapes and bytes."""
    sha = hashlib.sha256()
    for name, value in tensors.items():
        flat = value.detach().cpu().contiguous()
        sha.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        sha.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _about(
    label: str, extra: Mapping[str, Any] | None, engine: Engine, params: Params, started: float
) -> Json:
    kept = sum(int(torch.count_nonzero(value)) for value in params.values())
    return {
        "label": label,
        "parameters": sum(value.numel() for value in params.values()),
        "nonzero_parameters": kept,
        "engine": dict(engine.about),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "versions": {
            "sharpscape": _version("sharpscape"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "hardware": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        **(extra or {}),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

