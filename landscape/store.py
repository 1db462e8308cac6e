"""`Surface` and its HDF5 file: write, read, compare settings. Needs no torch.

The schema is specified in ``docs/surface-format.md``; `FORMAT_VERSION` names the version written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from landscape.errors import UserError
from landscape.files import atomic_path

FORMAT = "sharpscape.surface"
FORMAT_VERSION = 1

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Metric:
    """One quantity on a plane's grid, for one split.

    Attributes
    ----------
    values
        Shape ``[alpha, beta]``. Mean over the examples: loss in nats, accuracy as a fraction.
        NaN where not known yet, inf where the network diverged.
    stderr
        Shape ``[alpha, beta]``. Standard error of `values` over the examples; NaN where unknown.
    error
        Estimate of the largest absolute interpolation error on the grid, in the units of `values`;
        0 when nothing was interpolated, NaN while unknown.
    blocks
        Shape ``[alpha, beta, K]`` or None. The same means over each of K disjoint blocks of examples, at
        computed points (NaN elsewhere). Jackknifing over them gives intervals for any function of the grid.
    computed
        Shape ``[alpha, beta]`` or None. Where this metric was computed, if not where its plane was: a
        curvature costs a hundred times a loss and is computed at fewer points.
    """

    values: FloatArray
    stderr: FloatArray
    error: float = float("nan")
    blocks: FloatArray | None = None
    computed: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """The metrics on one set of examples.

    Attributes
    ----------
    examples
        Number of examples behind every mean.
    metrics
        By name; ``"loss"`` is always there and comes first, ``"accuracy"`` for classifiers.
    block_counts
        Shape ``[K]``: examples in each block of `Metric.blocks`.
    """

    examples: int
    metrics: Mapping[str, Metric]
    block_counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Path2D:
    """Networks projected onto a plane, in order: a training trajectory, say.

    Attributes
    ----------
    alpha, beta
        Shape ``[T]``. Coordinates on the plane; a line has zeros in `beta`.
    labels
        T short names, such as "step 200".
    """

    alpha: FloatArray
    beta: FloatArray
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane through the weights, and what was found on it.

    Attributes
    ----------
    about
        How the plane was made: ``kind`` ("random", "between", "given"), ``seed``, ``normalize``, ``mask``,
        ``density``, and whatever else describes it. JSON types only.
    computed
        Shape ``[alpha, beta]``: True where the network was evaluated, False where interpolated or missing.
    splits
        By name, the one that steered the sampling first.
    directions
        Per axis, tensors by parameter name; empty unless the caller asked for them to be kept.
    path
        Other networks projected onto the plane, or None.
    """

    about: Json
    computed: BoolArray
    splits: Mapping[str, Split]
    directions: tuple[Mapping[str, npt.NDArray[Any]], ...] = ()
    path: Path2D | None = None


@dataclass(frozen=True, eq=False)
class Surface:
    """The loss on one or several planes through a network's weights, on one grid.

    Attributes
    ----------
    alpha, beta
        Coordinates, ascending, in units of the (normalized) directions; the checkpoint lies at 0.
        A one-dimensional surface has ``beta == [0.]``.
    planes
        One per direction seed; all share the grid and the examples.
    settings
        Everything that determines the numbers. A run resumes only from a file with equal settings.
    about
        Provenance: checkpoint, architecture, data, versions, hardware, timings. JSON types only.
    complete
        False while points are missing.
    """

    alpha: FloatArray
    beta: FloatArray
    planes: tuple[Plane, ...]
    settings: Json = field(default_factory=dict)
    about: Json = field(default_factory=dict)
    complete: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Number of grid points along alpha and beta."""
        return len(self.alpha), len(self.beta)

    @property
    def dim(self) -> int:
        """1 for a line, 2 for a plane."""
        return 1 if len(self.beta) == 1 else 2

    @property
    def label(self) -> str:
        """Short name for legends and tables."""
        return str(self.about.get("label") or "surface")

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the example sets, the steering one first."""
        return tuple(self.planes[0].splits)

    @property
    def loss(self) -> FloatArray:
        """Loss of the first plane and split, shape ``[alpha, beta]``."""
        return self.metric("loss").values

    @property
    def accuracy(self) -> FloatArray:
        """Accuracy of the first plane and split, shape ``[alpha, beta]``; KeyError where there is none."""
        return self.metric("accuracy").values

    def metric(self, name: str = "loss", *, plane: int = 0, split: str | None = None) -> Metric:
        """One metric of one plane and split (default: the first of each)."""
        splits = self.planes[plane].splits
        return splits[split if split is not None else next(iter(splits))].metrics[name]

    @property
    def center(self) -> tuple[int, int] | None:
        """Grid index of the checkpoint itself, or None where the grid doesn't contain it."""
        i, j = int(np.argmin(np.abs(self.alpha))), int(np.argmin(np.abs(self.beta)))
        on_grid = abs(self.alpha[i]) < 1e-12 and abs(self.beta[j]) < 1e-12
        return (i, j) if on_grid else None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the HDF5 file in one step; an earlier file stays whole if that fails."""
        # Built in memory first: a full disk then shows as a plain OSError of one write, whatever HDF5 does.
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            _write(file, self)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        return Path(path)

    def plot(self, **options: Any) -> Any:
        """Draw with matplotlib; see `landscape.plot.plot_surfaces`."""
        from landscape.plot import plot_surfaces

        return plot_surfaces([self], **options)

    def show(self, **options: Any) -> Any:
        """Interactive Plotly view; renders in a notebook. See `landscape.viewer.view`."""
        from landscape.viewer import view

        return view([self], **options)


def load_surface(path: str | os.PathLike[str]) -> Surface:
    """Read a surface file.

    Raises
    ------
    UserError
        When the file is missing, is no surface file, is damaged, or was written by a newer version.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; expected a surface file written by landscape.surface")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path}: an HDF5 file, but not one of landscape.surface")
            version = int(file.attrs["format_version"])
            if version > FORMAT_VERSION:
                raise UserError(
                    f"{path}: format version {version}, this program reads up to {FORMAT_VERSION}"
                )
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # h5py has no exception of its own: damaged metadata shows as any of these.
        raise UserError(f"{path}: not a readable surface file ({error})") from error


def settings_difference(stored: Json, wanted: Json) -> str | None:
    """The first setting in which two runs differ, as "name: stored … , wanted …", or None."""
    for name in sorted({*stored, *wanted}):
        old, new = stored.get(name), wanted.get(name)
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            return f"{name}: the file has {json.dumps(old)}, this run wants {json.dumps(new)}"
    return None


def _write(file: h5py.File, surface: Surface) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["complete"] = surface.complete
    file.attrs["settings"] = json.dumps(surface.settings, sort_keys=True)
    file.attrs["about"] = json.dumps(surface.about, sort_keys=True)
    file["alpha"] = surface.alpha
    file["beta"] = surface.beta
    for index, plane in enumerate(surface.planes):
        _write_plane(file.create_group(f"planes/{index}"), plane)


def _write_plane(group: h5py.Group, plane: Plane) -> None:
    group.attrs["about"] = json.dumps(plane.about, sort_keys=True)
    group["computed"] = plane.computed
    group.attrs["splits"] = json.dumps(list(plane.splits))
    for name, split in plane.splits.items():
        part = group.create_group(f"splits/{name}")
        part.attrs["examples"] = split.examples
        part.attrs["metrics"] = json.dumps(list(split.metrics))
        part["block_counts"] = split.block_counts
        for metric_name, metric in split.metrics.items():
            _write_metric(part, metric_name, metric)
    for axis, tensors in enumerate(plane.directions):
        for name, tensor in tensors.items():
            # HDF5 compresses no scalars.
            packed = {"compression": "gzip", "shuffle": True} if tensor.ndim else {}
            group.create_dataset(f"directions/{axis}/{name}", data=tensor, **packed)
    if plane.path is not None:
        path = group.create_group("path")
        path["alpha"], path["beta"] = plane.path.alpha, plane.path.beta
        path.attrs["labels"] = json.dumps(list(plane.path.labels))


def _write_metric(group: h5py.Group, name: str, metric: Metric) -> None:
    group[name] = metric.values
    group[name].attrs["error"] = metric.error
    group[f"{name}_stderr"] = metric.stderr
    if metric.blocks is not None:
        # Level 1 with shuffling keeps the NaN of uncomputed points nearly free and costs milliseconds.
        group.create_dataset(
            f"{name}_blocks", data=metric.blocks, compression="gzip", compression_opts=1, shuffle=True
        )
    if metric.computed is not None:
        group[f"{name}_computed"] = metric.computed


def _read(file: h5py.File) -> Surface:
    groups = file["planes"]
    return Surface(
        alpha=file["alpha"][()],
        beta=file["beta"][()],
        planes=tuple(_read_plane(groups[name]) for name in sorted(groups, key=int)),
        settings=json.loads(file.attrs["settings"]),
        about=json.loads(file.attrs["about"]),
        complete=bool(file.attrs["complete"]),
    )


def _read_plane(group: h5py.Group) -> Plane:
    axes = group.get("directions", {})
    return Plane(
        about=json.loads(group.attrs["about"]),
        computed=group["computed"][()],
        splits={name: _read_split(group["splits"][name]) for name in json.loads(group.attrs["splits"])},
        directions=tuple(_read_tensors(axes[axis]) for axis in sorted(axes, key=int)),
        path=_read_path(group["path"]) if "path" in group else None,
    )


def _read_path(group: h5py.Group) -> Path2D:
    return Path2D(group["alpha"][()], group["beta"][()], tuple(json.loads(group.attrs["labels"])))


def _read_tensors(group: h5py.Group) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, npt.NDArray[Any]] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):  # a group, where a parameter's name holds a slash
            found[name] = np.asarray(item[()])

    group.visititems(add)
    return found


def _read_split(group: h5py.Group) -> Split:
    names = json.loads(group.attrs["metrics"])
    return Split(
        examples=int(group.attrs["examples"]),
        metrics={name: _read_metric(group, name) for name in names},
        block_counts=group["block_counts"][()],
    )


def _read_metric(group: h5py.Group, name: str) -> Metric:
    blocks, computed = group.get(f"{name}_blocks"), group.get(f"{name}_computed")
    return Metric(
        values=group[name][()],
        stderr=group[f"{name}_stderr"][()],
        error=float(group[name].attrs["error"]),
        blocks=None if blocks is None else blocks[()],
        computed=None if computed is None else computed[()],
    )
