"""What has been evaluated on one plane so far: raw values at grid points, no interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from landscape.surface import BoolArray, FloatArray, Metric, Plane, Split
from landscape.surface.rounding import rounded

Index = tuple[int, int]

# Errors are known to a few per cent, and blocks are kept for their differences: intervals of Ra move by less
# than 1e-4 of their width. All digits would double the file.
ERROR_DIGITS, BLOCK_DIGITS = 8, 12


class PointTotals(Protocol):
    """One split's sums at one point, as the engine returns them (`landscape.engine.Totals`)."""

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Examples per block."""
        ...

    @property
    def sums(self) -> Mapping[str, FloatArray]:
        """Per metric, sums over each block."""
        ...

    def mean(self, name: str) -> float:
        """Mean over all examples."""
        ...

    def stderr(self, name: str) -> float:
        """Standard error of the mean, NaN where unknown."""
        ...

    def block_means(self, name: str) -> FloatArray:
        """Means over each block."""
        ...


class Record:
    """Values at the computed points of one plane, for every split and metric.

    Parameters
    ----------
    shape
        Grid points along alpha and beta.
    blocks
        Metrics whose means over each block of examples are kept.
    """

    def __init__(self, shape: tuple[int, int], blocks: Sequence[str] = ("loss",)) -> None:
        self.shape = shape
        self.blocks = blocks
        self.computed: BoolArray = np.zeros(shape, dtype=bool)
        self._splits: dict[str, Split] = {}

    @classmethod
    def from_plane(cls, plane: Plane) -> Record:
        """The computed part of a stored plane; interpolated values are dropped."""
        record = cls((plane.computed.shape[0], plane.computed.shape[1]))
        record.computed = plane.computed.copy()
        record._splits = {
            name: Split(
                split.examples,
                {key: _keep(metric, plane.computed) for key, metric in split.metrics.items()},
                split.block_counts,
            )
            for name, split in plane.splits.items()
        }
        return record

    def __contains__(self, index: Index) -> bool:
        """Whether a point is computed."""
        return bool(self.computed[index])

    def __len__(self) -> int:
        """Computed points."""
        return int(self.computed.sum())

    @property
    def splits(self) -> Mapping[str, Split]:
        """By name; uncomputed entries are NaN."""
        return self._splits

    def add(self, index: Index, totals: Mapping[str, PointTotals]) -> None:
        """Enter one evaluated point. A loss that isn't a number counts as diverged: inf."""
        if not self._splits:
            self._splits = {name: _empty(self.shape, one, self.blocks) for name, one in totals.items()}
        for name, one in totals.items():
            for key, metric in self._splits[name].metrics.items():
                metric.values[index] = _diverged(one.mean(key)) if key == "loss" else one.mean(key)
                metric.stderr[index] = rounded(one.stderr(key), ERROR_DIGITS)
                if metric.blocks is not None:
                    metric.blocks[index] = rounded(one.block_means(key), BLOCK_DIGITS)
        self.computed[index] = True

    def losses(self, indices: Sequence[Index]) -> FloatArray:
        """Loss of the steering split at computed points."""
        values = next(iter(self._splits.values())).metrics["loss"].values
        return np.array([values[index] for index in indices], dtype=np.float64)


def _diverged(value: float) -> float:
    return value if np.isfinite(value) else float("inf")


def _empty(shape: tuple[int, int], totals: PointTotals, kept: Sequence[str]) -> Split:
    blocks = len(totals.counts)
    metrics = {
        name: Metric(
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            blocks=np.full((*shape, blocks), np.nan) if name in kept else None,
        )
        for name in totals.sums
    }
    return Split(int(totals.counts.sum()), metrics, totals.counts)


def _keep(metric: Metric, computed: BoolArray) -> Metric:
    return Metric(
        np.where(computed, metric.values, np.nan),
        np.where(computed, metric.stderr, np.nan),
        blocks=None if metric.blocks is None else metric.blocks.copy(),
    )
