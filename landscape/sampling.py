"""Which grid points to evaluate, and when to stop. Needs no torch.

A sampler is a conversation: it names a batch of points, the driver evaluates them, the sampler looks at the
losses and names the next. What it asks for depends only on the losses that it was given, so that an
interrupted run asks for the same points again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from landscape.interpolate import TRANSFORMS, Spline, best_transform, grid_places
from landscape.store import BoolArray, FloatArray

Index = tuple[int, int]
Losses = Callable[[Sequence[Index]], FloatArray]
IntArray = npt.NDArray[np.int64]

START_PER_AXIS = 6
BATCH = 5
SMALL_GRID = 64  # fewer grid points than this aren't worth interpolating
HELD_OUT = 20  # newest predictions behind the stated error


class Sampler(Protocol):
    """What the driver needs."""

    error: float
    relative_error: float
    expected: int

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        """Points to evaluate next; all of a batch are known to `losses` when the next is asked for."""
        ...


def exact(alpha: FloatArray, beta: FloatArray) -> Sampler:
    """Every grid point, coarse to fine, so that a rough picture is there early."""
    return _Exact((len(alpha), len(beta)))


def adaptive(alpha: FloatArray, beta: FloatArray, tolerance: float, max_points: int | None = None) -> Sampler:
    """As few points as the tolerance allows; every point on lines and small grids.

    Parameters
    ----------
    tolerance
        Share of the loss range to which the stated error must fall.
    max_points
        Stop there even when the tolerance isn't met.
    """
    if min(len(alpha), len(beta)) < START_PER_AXIS or len(alpha) * len(beta) <= SMALL_GRID:
        return exact(alpha, beta)
    return _Adaptive(alpha, beta, tolerance, max_points or len(alpha) * len(beta))


class _Exact:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.error = self.relative_error = float("nan")
        self.expected = shape[0] * shape[1]

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        seen = np.zeros(self.shape, dtype=bool)
        stride = 1 << max(0, (max(self.shape) - 1).bit_length() - 2)
        while stride:
            level = np.zeros(self.shape, dtype=bool)
            level[np.ix_(_strided(self.shape[0], stride), _strided(self.shape[1], stride))] = True
            yield _indices(level & ~seen)
            seen |= level
            stride //= 2
        self.error = self.relative_error = 0.0


def _strided(count: int, stride: int) -> IntArray:
    """Every stride-th index around the middle, both ends included."""
    middle = (count - 1) // 2
    return np.unique(np.r_[0, np.arange(middle % stride, count, stride), count - 1])


def _indices(where: BoolArray) -> list[Index]:
    return [(int(i), int(j)) for i, j in np.argwhere(where)]
