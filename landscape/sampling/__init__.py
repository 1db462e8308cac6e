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

from landscape.sampling.interpolate import TRANSFORMS, Spline, best_transform, grid_places, left_out_errors
from landscape.store import BoolArray, FloatArray

Index = tuple[int, int]
Losses = Callable[[Sequence[Index]], FloatArray]
IntArray = npt.NDArray[np.int64]

START_PER_AXIS = 5
BATCH = 5
BATCH_SHARE = 1 / 40  # of the points known: solving for the spline grows as their cube
SMALL_GRID = 64  # fewer grid points than this aren't worth interpolating
HELD_OUT = 20  # newest predictions behind the stated error, and the fewest to stop on
LEFT_OUT_QUANTILE = 0.99
LARGEST_TO_RMS = 5.0  # largest error on the grid over the rms left-out one; docs/design.md says how found
VALLEY_WEIGHT = 0.1  # of errors in log loss beside errors in loss
EDGE_WEIGHT = 1.5  # neighbours lie on one side only
DECAY = 1.5  # r³ splines err about as the hole's width to this power (Wendland 2004, chapter 11)
REACH = 1.0  # how far a chosen point damps its surroundings, in widths of the hole it lies in


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


class _Adaptive:
    """Greedy: the next points are where the interpolant is doubted most.

    Two splines of different order go through all points known so far; their disagreement vanishes there and
    grows where the surface isn't pinned down yet. To it comes what prediction from the other points misses
    at the nearest known ones, scaled from the hole that leaving one out makes to the hole at hand; this finds
    kinks that both splines smooth over. Both are taken as shares of the loss range and, with less weight, of
    the range of log loss: the first alone would leave the valley around the checkpoint, a thousandth of that
    range, to chance.

    The stated error, which also stops the sampling, is the largest of three held-out ones: the worst of the
    newest residuals (each point is predicted before it is evaluated, and was chosen for being hard), the
    99th percentile of predicting each known point from all others, and the rms of these times the ratio that
    the largest error on the grid seldom exceeds. It is an estimate, not a bound.
    """

    def __init__(self, alpha: FloatArray, beta: FloatArray, tolerance: float, limit: int) -> None:
        self.shape = (len(alpha), len(beta))
        self.places = grid_places(alpha, beta)
        self.cell = 2.0 / (max(self.shape) - 1)
        self.edge = np.where((np.abs(self.places) > 1 - self.cell / 4).any(axis=1), EDGE_WEIGHT, 1.0)
        self.tolerance = tolerance
        self.limit = limit
        self.error = self.relative_error = float("nan")
        self.expected = min(limit, self.shape[0] * self.shape[1])

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        known = self._start()[: self.limit]
        yield self._grid_indices(known)
        values = losses(self._grid_indices(known))
        residuals: list[float] = []
        enough = len(known) + HELD_OUT
        while len(known) < min(self.limit, len(self.places)):
            new, predicted = self._next(np.array(known), values)
            yield self._grid_indices(new)
            found = losses(self._grid_indices(new))
            both = np.isfinite(found) & np.isfinite(predicted)
            residuals += list(np.abs(found - predicted)[both])
            known, values = known + new, np.append(values, found)
            self._state_error(residuals, np.array(known), values)
            if len(known) >= enough and self._content(np.array(known), values):
                break
        if len(known) == len(self.places):
            self.error = self.relative_error = 0.0

    def _start(self) -> list[int]:
        """Chebyshev-like grid lines: denser towards the edges, where neighbours lie on one side only."""
        lines = [_cosine(count, START_PER_AXIS) for count in self.shape]
        return [int(i) * self.shape[1] + int(j) for i in lines[0] for j in lines[1]]

    def _next(self, known: IntArray, values: FloatArray) -> tuple[list[int], FloatArray]:
        finite = np.isfinite(values)
        if finite.sum() < 3:
            return self._farthest(known)
        nodes = self.places[known[finite]]
        near, far = Spline.through(nodes, 3), Spline.through(nodes, 5)
        transform = TRANSFORMS[best_transform(near, values[finite])]
        given = transform.forward(values[finite])
        smooth, other, others_say = near(self.places, given), far(self.places, given), near.left_out(given)
        prediction = transform.inverse(smooth)
        distance = np.asarray(KDTree(self.places[known]).query(self.places)[0])
        left_out_hole = np.asarray(KDTree(nodes).query(nodes, k=2)[0])[:, 1]
        hole, left_out_hole = distance**DECAY, left_out_hole**DECAY

        def doubt(
            first: FloatArray, second: FloatArray, missed: FloatArray, values: FloatArray
        ) -> FloatArray:
            """Disagreement, and what left-out points nearby miss, as a share of the range of the values."""
            width = max(float(np.ptp(values)), 1e-300)
            scale = _nearby(self.places, nodes, np.abs(missed) / left_out_hole)
            return (np.abs(first - second) + hole * scale) / width

        missed = transform.inverse(others_say) - values[finite]
        score = doubt(prediction, transform.inverse(other), missed, values[finite])
        score += VALLEY_WEIGHT * doubt(smooth, other, others_say - given, given)
        score *= self.edge
        if not finite.all():
            score = self._near_divergence(known, finite, score)
        chosen = self._spread(score, distance, known)
        return chosen, prediction[chosen]

    def _spread(self, score: FloatArray, distance: FloatArray, known: IntArray) -> list[int]:
        """The best-scored points, each damping the score of its surroundings."""
        score = np.where(distance > 0, score + 1e-300, -1.0)
        chosen: list[int] = []
        batch = max(BATCH, int(BATCH_SHARE * len(known)))
        for _ in range(min(batch, self.limit - len(known), len(self.places) - len(known))):
            best = int(np.argmax(score))
            chosen.append(best)
            reach = REACH * max(float(distance[best]), self.cell)
            away = np.sum((self.places - self.places[best]) ** 2, axis=1)
            score = np.where(score > 0, score * (1 - np.exp(-away / reach**2)), score)
            score[best] = -1.0
        return chosen

    def _near_divergence(self, known: IntArray, finite: BoolArray, score: FloatArray) -> FloatArray:
        """No points deep inside what diverged; first of all those that pin down its border."""
        inside, outside = self._distances(known, finite)
        score = np.where(outside < inside, 0.0, score)
        border = self._border(inside, outside)
        return np.where(border, score.max() * (2.0 + np.minimum(inside, outside)), score)

    def _distances(self, known: IntArray, finite: BoolArray) -> tuple[FloatArray, FloatArray]:
        trees = (KDTree(self.places[known[finite]]), KDTree(self.places[known[~finite]]))
        first, second = (np.asarray(tree.query(self.places)[0]) for tree in trees)
        return first, second

    def _border(self, inside: FloatArray, outside: FloatArray) -> BoolArray:
        between = np.abs(inside - outside) <= self.cell
        return np.asarray(between & (np.minimum(inside, outside) > 1.01 * self.cell))

    def _farthest(self, known: IntArray) -> tuple[list[int], FloatArray]:
        distance = np.asarray(KDTree(self.places[known]).query(self.places)[0])
        chosen = self._spread(distance, distance, known)
        return chosen, np.full(len(chosen), np.nan)

    def _state_error(self, residuals: list[float], known: IntArray, values: FloatArray) -> None:
        finite = np.isfinite(values)
        if not residuals or finite.sum() < 8:
            return
        given = values[finite]
        left_out = left_out_errors(self.places[known[finite]], given)
        largest = LARGEST_TO_RMS * np.sqrt(np.mean(left_out**2))
        self.error = float(max(*residuals[-HELD_OUT:], np.quantile(left_out, LEFT_OUT_QUANTILE), largest))
        width = float(np.ptp(given))
        self.relative_error = self.error / width if width > 0 else 0.0
        # The error of such splines falls about as the square of the number of points.
        wanted = len(known) * np.sqrt(max(1.0, self.relative_error / self.tolerance))
        self.expected = int(min(self.limit, len(self.places), wanted))

    def _content(self, known: IntArray, values: FloatArray) -> bool:
        finite = np.isfinite(values)
        if not self.relative_error <= self.tolerance:
            return False
        return bool(finite.all()) or not self._border(*self._distances(known, finite)).any()

    def _grid_indices(self, flat: Sequence[int]) -> list[Index]:
        return [(one // self.shape[1], one % self.shape[1]) for one in flat]


def _nearby(places: FloatArray, nodes: FloatArray, values: FloatArray) -> FloatArray:
    """Inverse-distance mean of the values at the three nearest nodes, at each place."""
    distance, index = KDTree(nodes).query(places, k=3)
    weight = 1.0 / (np.asarray(distance) + 1e-9)
    return np.asarray((values[index] * weight).sum(axis=1) / weight.sum(axis=1))


def _cosine(count: int, lines: int) -> IntArray:
    """About `lines` indices out of `count`, ends and middle included, denser towards the ends."""
    angle = np.pi * np.arange(lines) / (lines - 1)
    spread = np.round((1 - np.cos(angle)) / 2 * (count - 1)).astype(np.int64)
    return np.unique(np.append(spread, (count - 1) // 2))
