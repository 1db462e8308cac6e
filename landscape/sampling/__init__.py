"""Which grid points to evaluate, and when to stop. Needs no torch.

A sampler is a conversation: it names a batch of points, the driver evaluates them, the sampler looks at the
losses and names the next. What it asks for depends only on the losses that it was given, so that an
interrupted run asks for the same points again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import numpy as np

from landscape.sampling.greedy import (
    BATCH,
    LEFT_OUT_QUANTILE,
    LOG_POINTS,
    LOG_TOLERANCE,
    START_PER_AXIS,
    Goal,
    Greedy,
    Index,
    IntArray,
    Losses,
)
from landscape.surface import BoolArray, FloatArray

__all__ = [
    "BATCH",
    "LEFT_OUT_QUANTILE",
    "LOG_TOLERANCE",
    "SMALL_GRID",
    "START_PER_AXIS",
    "Index",
    "Losses",
    "Sampler",
    "adaptive",
    "exact",
]

SMALL_GRID = 64  # fewer grid points than this aren't worth interpolating


class Sampler(Protocol):
    """What the driver needs.

    Attributes
    ----------
    error, relative_error, log_error
        Stated error of the interpolated losses, in their units, as a share of their range, and of their
        logarithm; NaN while unknown, the last also where a loss isn't positive.
    expected
        Points in the end, as far as can be told.
    """

    error: float
    relative_error: float
    log_error: float
    expected: int

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        """Points to evaluate next; all of a batch are known to `losses` when the next is asked for."""
        ...

    def ahead(self, count: int) -> list[Index]:
        """While a batch is evaluated: up to `count` points that may be in the next ones, likeliest first.

        Each call gives others.
        """
        ...


def exact(alpha: FloatArray, beta: FloatArray) -> Sampler:
    """Every grid point, coarse to fine, so that a rough picture is there early."""
    return _Exact((len(alpha), len(beta)))


def adaptive(
    alpha: FloatArray,
    beta: FloatArray,
    tolerance: float,
    max_points: int | None = None,
    *,
    log_tolerance: float | None = LOG_TOLERANCE,
    at_a_time: int = BATCH,
) -> Sampler:
    """As few points as the tolerances allow; every point on lines and small grids.

    Parameters
    ----------
    tolerance
        Share of the loss range to which the stated error must fall.
    max_points
        Stop there even when the tolerances aren't met.
    log_tolerance
        What the stated error of log loss must fall to, where losses are positive. It asks for `LOG_POINTS`
        points at most where `max_points` doesn't allow more. None for values that aren't losses.
    at_a_time
        Points to ask for at a time, at least.
    """
    total = len(alpha) * len(beta)
    if min(len(alpha), len(beta)) < START_PER_AXIS or total <= SMALL_GRID:
        return exact(alpha, beta)
    limits = max_points or total, max_points or LOG_POINTS
    return Greedy(alpha, beta, Goal(tolerance, log_tolerance, *limits, at_a_time))


class _Exact:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.error = self.relative_error = self.log_error = float("nan")
        self.expected = shape[0] * shape[1]
        self._after: Iterator[Index] = iter(())

    def ahead(self, count: int) -> list[Index]:
        return list(islice(self._after, count))

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        levels = list(self._levels())
        for level, following in zip(levels, [*levels[1:], []], strict=True):
            self._after = iter(following)
            yield level
        self.error = self.relative_error = self.log_error = 0.0

    def _levels(self) -> Iterator[list[Index]]:
        seen = np.zeros(self.shape, dtype=bool)
        stride = 1 << max(0, (max(self.shape) - 1).bit_length() - 2)
        while stride:
            level = np.zeros(self.shape, dtype=bool)
            level[np.ix_(_strided(self.shape[0], stride), _strided(self.shape[1], stride))] = True
            yield _indices(level & ~seen)
            seen |= level
            stride //= 2


def _strided(count: int, stride: int) -> IntArray:
    """Every stride-th index around the middle, both ends included."""
    middle = (count - 1) // 2
    return np.unique(np.r_[0, np.arange(middle % stride, count, stride), count - 1])


def _indices(where: BoolArray) -> list[Index]:
    return [(int(i), int(j)) for i, j in np.argwhere(where)]
