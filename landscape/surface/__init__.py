"""`Surface`: write, read, compare settings. Needs no torch.

The file's schema is `landscape.surface.schema`; `FORMAT_VERSION` names the version written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landscape.hdf5 import read_tree, write_sealed
from landscape.hdf5.fields import readable

FORMAT = "sharpscape.surface"
FORMAT_VERSION = 2

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
    log_error
        The same of the logarithm of `values`: what is known of the low ones. NaN where one isn't positive,
        while unknown, and in files that don't say.
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
    log_error: float = float("nan")


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
    parts
        Where they are of several trainings: name and number of networks of each, in order, T together.
    """

    alpha: FloatArray
    beta: FloatArray
    labels: tuple[str, ...]
    parts: tuple[tuple[str, int], ...] = ()

    def each(self) -> list[tuple[str, Path2D]]:
        """Name and path of every training; one without a name where there are no `parts`."""
        if not self.parts:
            return [("", self)]
        found, start = [], 0
        for name, count in self.parts:
            own = slice(start, start + count)
            found.append((name, Path2D(self.alpha[own], self.beta[own], self.labels[own])))
            start += count
        return found


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane through the weights, and what was found on it.

    Attributes
    ----------
    about
        How the plane was made: ``kind`` ("random", "between", "given", "trajectory", "hessian", or a
        caller's own), ``normalize``, ``mask``, ``density``, and whatever else describes it. JSON types only.
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


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        """One line: what it is of, its grid and planes, and between which values the loss lies."""
        from landscape.surface.glance import one_line

        return one_line(self)

    def _repr_html_(self) -> str:
        """Jupyter: the figures that the command prints, as a small table."""
        from landscape.surface.glance import small_table

        return small_table(self)

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
        """Write the HDF5 file, with its digest, in one step; an earlier file stays whole if that fails."""
        from landscape.surface.schema import write_surface

        return write_sealed(path, lambda file: write_surface(file, self))

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

    Nothing in a file can do anything but hold numbers: see `landscape.hdf5`.

    Raises
    ------
    UserError
        When the file is missing, is no surface file, is damaged, or was written by a newer version.
    """
    from landscape.surface.schema import surface_of

    tree, sealed = read_tree(path, "surface file", "landscape.surface")
    surface: Surface = readable(path, "surface file", lambda: surface_of(tree, sealed))
    return surface
