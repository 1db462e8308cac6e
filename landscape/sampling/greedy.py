"""The adaptive sampler: the next points are where the interpolant is doubted most. Needs no torch.

Two splines of different order go through all points known so far; their disagreement vanishes there and
grows where the surface isn't pinned down yet. To it comes what prediction from the other points misses at the
nearest known ones, scaled from the hole that leaving one out makes to the hole at hand; this finds kinks that
both splines smooth over. Both are taken as shares of the loss range and, where losses are positive, in log
loss: the first alone would leave the valley around the checkpoint, a thousandth of that range, to chance.

The stated errors, which also stop the sampling, are the largest of what left-out points miss, what was
missed by the newest predictions (each point is predicted before it is evaluated, and was chosen for being
hard), and in log loss twice the largest doubt. They are estimates, not bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from landscape.sampling.growing import GrowingSpline, determining
from landscape.sampling.interpolate import (
    BESIDE,
    DEEPEST,
    TRANSFORMS,
    UNSEEN,
    best_transform,
    deepest,
    grid_places,
    log_values,
)
from landscape.sampling.nearest import Nearest
from landscape.sampling.triangles import triangle_corners
from landscape.surface import BoolArray, FloatArray

Index = tuple[int, int]
Losses = Callable[[Sequence[Index]], FloatArray]
IntArray = npt.NDArray[np.int64]

START_PER_AXIS = 5
RINGS = (0.48, 0.24, 0.12)  # half-widths of squares around the network whose corners and sides begin, too
BATCH = 5
BATCH_SHARE = 1 / 40  # of the points known
HELD_OUT = 20  # newest predictions behind the stated errors, and the fewest to stop on
LEFT_OUT_QUANTILE = 0.99
LARGEST_TO_RMS = 5.0  # largest error on the grid over the rms left-out one; docs/design.md says how found
LARGEST_TO_LOG_RMS = 6.5  # the same in log loss, each left-out error counted by the grid points nearest to it
LARGEST_TO_LOG_DOUBT = 2.0  # and over the largest doubt of log loss
LOG_TOLERANCE = 0.05  # largest error of log loss anywhere
LOG_POINTS = 290  # log loss alone asks for no more than these, unless the caller allows more
LOG_WEIGHT = 0.05  # of errors in log loss beside shares of the loss range
LOG_FOCUS = 16.0  # times that once the share of the range is met
FEWEST = 8  # points from which an error can be told
EDGE_WEIGHT = 1.5  # neighbours lie on one side only
DECAY = 1.5  # r³ splines err about as the hole's width to this power (Wendland 2004, chapter 11)
REACH = 1.0  # how far a chosen point damps its surroundings, in widths of the hole it lies in
TINY = 1e-300


@dataclass(frozen=True)
class Goal:
    """When to stop.

    Attributes
    ----------
    tolerance
        Share of the loss range to which the stated error must fall.
    log_tolerance
        What the stated error of log loss must fall to, where losses are positive; None doesn't ask.
    limit
        Stop there even when the tolerances aren't met.
    log_limit
        From so many points on only the share of the range is asked for.
    at_a_time
        Points of a batch at least.
    """

    tolerance: float
    log_tolerance: float | None
    limit: int
    log_limit: int
    at_a_time: int = BATCH


@dataclass(frozen=True)
class _View:
    """What the splines make of the values known so far, at all places ``[p]`` and at the nodes ``[n]``.

    Attributes
    ----------
    values, predicted, other
        At the nodes; at all places by the r³ and by the r⁵ spline.
    left_out
        At the nodes, what the others predict there.
    held
        At all places, by how much what is shown is held above the prediction (`interpolate.deepest`).
    doubt, log_doubt
        Estimated error at all places as a share of the range, and of log loss; the second None where a loss
        isn't positive or nobody asked.
    """

    values: FloatArray
    predicted: FloatArray
    left_out: FloatArray
    held: FloatArray
    doubt: FloatArray
    log_doubt: FloatArray | None

    @property
    def width(self) -> float:
        """Range of the values."""
        return max(float(np.ptp(self.values)), TINY)


class Greedy:
    """See the module. Points are named by their place in the flattened grid until they are handed out."""

    def __init__(self, alpha: FloatArray, beta: FloatArray, goal: Goal) -> None:
        self.shape = (len(alpha), len(beta))
        self.places = grid_places(alpha, beta)
        self.goal = goal
        self.limit = min(goal.limit, len(self.places))
        self.error = self.relative_error = self.log_error = float("nan")
        self.expected = self.limit
        self._origin = (_origin(alpha), _origin(beta))
        self._cell = 2.0 / (max(self.shape) - 1)
        at_edge = (np.abs(self.places) > 1 - self._cell / 4).any(axis=1)
        self._edge = np.where(at_edge, EDGE_WEIGHT, 1.0)
        self._values = np.full(len(self.places), np.nan)
        self._known: list[int] = []
        self._finite, self._diverged = Nearest(self.places, BESIDE), Nearest(self.places, 1)
        self._splines: tuple[GrowingSpline, GrowingSpline] | None = None
        self._after: Iterator[int] = iter(())
        self._missed: list[tuple[float, float]] = []  # by the newest predictions: in loss, in log loss

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        """Points to evaluate next; all of a batch are known to `losses` when the next is asked for."""
        start = self._start()[: self.limit]
        yield self._grid_indices(start)
        self._learn(start, losses(self._grid_indices(start)))
        view = self._view()
        while len(self._known) < self.limit:
            new = self._choose(view)
            yield self._grid_indices(new)
            found = losses(self._grid_indices(new))
            self._learn(new, found)
            if view is not None:
                self._compare(view.predicted[new], found)
            view = self._view()
            self._state(view)
            if len(self._known) >= len(start) + HELD_OUT and self._content():
                break
        if len(self._known) == len(self.places):
            self.error = self.relative_error = self.log_error = 0.0

    def ahead(self, count: int) -> list[Index]:
        """Other points each time; see `landscape.sampling.Sampler.ahead`."""
        return self._grid_indices(list(islice(self._after, count)))

    def _start(self) -> list[int]:
        """Chebyshev-like grid lines, denser towards the edges; then rings around the network.

        On the edges neighbours lie on one side only; at the network lies the valley that people look at.
        """
        lines = [_cosine(count, START_PER_AXIS) for count in self.shape]
        found = [(int(i), int(j)) for i in lines[0] for j in lines[1]]
        for ring in RINGS if self.goal.log_tolerance is not None else ():
            rows, columns = (
                [_beside(origin, side * ring, count) for side in (-1, 0, 1)]
                for origin, count in zip(self._origin, self.shape, strict=True)
            )
            found += [(i, j) for i in rows for j in columns]
        return list(dict.fromkeys(i * self.shape[1] + j for i, j in found))

    def _learn(self, new: Sequence[int], found: FloatArray) -> None:
        """Take in the values of new points."""
        self._known += new
        self._values[list(new)] = found
        for one in new:
            (self._finite if np.isfinite(self._values[one]) else self._diverged).add(one)
        nodes = self._finite.nodes
        if self._splines is None:
            tail = determining(self.places[nodes])
            if tail is None:
                return
            first = [nodes[one] for one in tail]
            self._splines = (GrowingSpline(self.places, first, 3), GrowingSpline(self.places, first, 5))
        have = set(self._splines[0].nodes)
        for spline in self._splines:
            for one in nodes:
                if one not in have:
                    spline.add(one)

    def _view(self) -> _View | None:
        """What the splines say now; None while the finite points don't determine a quadratic."""
        if self._splines is None:
            return None
        near, far = self._splines
        values = self._values[near.nodes]
        one = TRANSFORMS[best_transform(near, values)]
        given = one.forward(values)
        smooth, other, left_out = near(given), far(given), near.left_out(given)
        predicted, second, expected = one.inverse(smooth), one.inverse(other), one.inverse(left_out)
        width = max(float(np.ptp(values)), TINY)
        floor = deepest(self._lowest_beside(), values)
        held = np.maximum(floor - predicted, 0.0)
        doubt = (self._doubt(predicted, second, expected - values) + held) / width
        if self.goal.log_tolerance is None:
            shape = max(float(np.ptp(given)), TINY)  # of what the transform makes even
            doubt += LOG_WEIGHT * self._doubt(smooth, other, left_out - given) / shape
        if self.goal.log_tolerance is None or not (values > 0).all():
            return _View(values, predicted, expected, held, doubt, None)
        least = UNSEEN * float(values.min())
        logs = [log_values(each, least) for each in (predicted, second, expected)]
        log_doubt = self._doubt(logs[0], logs[1], logs[2] - np.log(values))
        log_doubt += np.maximum(np.log(floor) - logs[0], 0.0)
        return _View(values, predicted, expected, held, doubt, log_doubt)

    def _doubt(self, first: FloatArray, second: FloatArray, missed: FloatArray) -> FloatArray:
        """Disagreement of two splines, and what left-out points nearby miss, at all places."""
        nodes = self._finite.nodes
        assert self._splines is not None
        scale = np.zeros(len(self.places))
        scale[self._splines[0].nodes] = np.abs(missed)
        scale[nodes] /= self._finite.gaps() ** DECAY
        return np.asarray(
            np.abs(first - second) + self._finite.distance[0] ** DECAY * self._finite.nearby(scale)
        )

    def _lowest_beside(self) -> FloatArray:
        """The lowest value known beside each place: of the nearest points and of those around it."""
        nodes = np.array(self._finite.nodes)
        low = np.asarray(self._values[self._finite.index].min(axis=0))
        order = np.empty(len(self.places), dtype=np.int64)
        order[nodes] = np.arange(len(nodes))
        corners = triangle_corners(self.places[nodes], self.places, order[self._finite.index[0]])
        if corners is None:
            return low
        around = np.where(corners < 0, np.inf, self._values[nodes[corners]])
        return np.asarray(np.minimum(low, around.min(axis=1)))

    def _choose(self, view: _View | None) -> list[int]:
        """The next batch: the most doubted places, and first of all those that pin down divergence."""
        score = self._distance()
        if view is not None:
            score = view.doubt
            if view.log_doubt is not None:
                met = self.relative_error <= self.goal.tolerance
                score = score + LOG_WEIGHT * (LOG_FOCUS if met else 1.0) * view.log_doubt
            score = score * self._edge
        if self._diverged.nodes and self._finite.nodes:
            score = self._near_divergence(score)
        return self._spread(score)

    def _spread(self, score: FloatArray) -> list[int]:
        """The best-scored places of a batch; those behind them are what `ahead` gives."""
        known = len(self._known)
        count = min(max(self.goal.at_a_time, int(BATCH_SHARE * known)), self.limit - known)
        best = self._best(score)
        chosen = list(islice(best, count))
        self._after = islice(best, self.limit - known - count)
        return chosen

    def _best(self, score: FloatArray) -> Iterator[int]:
        """The best-scored unknown places, each damping the score of its surroundings."""
        distance = self._distance()
        score = np.where(distance > 0, score + TINY, -1.0)
        for _ in range(int((distance > 0).sum())):
            best = int(np.argmax(score))
            yield best
            reach = REACH * max(float(distance[best]), self._cell)
            away = np.sum((self.places - self.places[best]) ** 2, axis=1)
            score = np.where(score > 0, score * (1 - np.exp(-away / reach**2)), score)
            score[best] = -1.0

    def _distance(self) -> FloatArray:
        """From each place to the nearest known one."""
        return np.asarray(np.minimum(self._finite.distance[0], self._diverged.distance[0]))

    def _near_divergence(self, score: FloatArray) -> FloatArray:
        """No points deep inside what diverged; first of all those that pin down its border."""
        inside, outside = self._finite.distance[0], self._diverged.distance[0]
        score = np.where(outside < inside, 0.0, score)
        first = score.max() * (2.0 + np.minimum(inside, outside))
        return np.asarray(np.where(self._border(), first, score))

    def _border(self) -> BoolArray:
        inside, outside = self._finite.distance[0], self._diverged.distance[0]
        between = np.abs(inside - outside) <= self._cell
        return np.asarray(between & (np.minimum(inside, outside) > 1.01 * self._cell))

    def _compare(self, predicted: FloatArray, found: FloatArray) -> None:
        """Remember what the predictions of a batch missed."""
        both = np.isfinite(found) & np.isfinite(predicted)
        least = UNSEEN * float(np.min(self._values[self._finite.nodes], initial=np.inf))
        for guess, value in zip(predicted[both], found[both], strict=True):
            log = float(np.abs(log_values(guess, least) - np.log(value))) if least > 0 else 0.0
            self._missed.append((float(abs(guess - value)), log))

    def _state(self, view: _View | None) -> None:
        """The stated errors from what is left out, was predicted and is doubted."""
        if view is None or not self._missed or len(view.values) < FEWEST:
            return
        newest = np.array(self._missed[-HELD_OUT:])
        unknown = self._distance() > 0
        left_out = np.abs(view.left_out - view.values)[self._speaking(unknown)]
        self.error = max(
            float(newest[:, 0].max()),
            float(np.quantile(left_out, LEFT_OUT_QUANTILE)),
            LARGEST_TO_RMS * _root_mean_square(left_out),
            float(view.held[unknown].max(initial=0.0)),
        )
        self.relative_error = self.error / view.width if np.ptp(view.values) > 0 else 0.0
        self.log_error = self._stated_log_error(view, newest[:, 1], unknown)
        # The error of such splines falls about as the square of the number of points.
        excess = max(1.0, self.relative_error / self.goal.tolerance)
        wanted = len(self._known) * np.sqrt(excess)
        if self._log_wanted():
            assert self.goal.log_tolerance is not None
            more = len(self._known) * np.sqrt(self.log_error / self.goal.log_tolerance)
            wanted = max(wanted, min(more, self.goal.log_limit))
        self.expected = int(min(self.limit, wanted))

    def _stated_log_error(self, view: _View, newest: FloatArray, unknown: BoolArray) -> float:
        """NaN where a loss isn't positive; a left-out error counts by the unknown places nearest to it."""
        if view.log_doubt is None:
            return float("nan")
        if not unknown.any():
            return 0.0
        shown = log_values(view.left_out, (1 - DEEPEST) * float(view.values.min()))
        missed = self._at_nearest(np.abs(shown - np.log(view.values)))[unknown]
        return max(
            float(newest.max()),
            LARGEST_TO_LOG_RMS * float(np.sqrt(np.mean(missed**2))),
            LARGEST_TO_LOG_DOUBT * float(view.log_doubt[unknown].max()),
        )

    def _speaking(self, unknown: BoolArray) -> BoolArray:
        """Which nodes of the splines are the nearest to an unknown place; all where none is left.

        At a kink no point is predicted well by the others, but once all around it are known that says
        nothing of the rest.
        """
        assert self._splines is not None
        near = np.zeros(len(self.places), dtype=bool)
        near[self._finite.index[0][unknown]] = True
        found = near[self._splines[0].nodes]
        return found if found.any() else ~found

    def _at_nearest(self, values: FloatArray) -> FloatArray:
        """Values at the nodes, each carried to all places that it is nearest to."""
        assert self._splines is not None
        full = np.zeros(len(self.places))
        full[self._splines[0].nodes] = values
        return np.asarray(full[self._finite.index[0]])

    def _log_wanted(self) -> bool:
        """Whether log loss still asks for points."""
        tolerance = self.goal.log_tolerance
        return (
            tolerance is not None
            and self.log_error > tolerance
            and len(self._known) < min(self.limit, self.goal.log_limit)
        )

    def _content(self) -> bool:
        if not self.relative_error <= self.goal.tolerance or self._log_wanted():
            return False
        return not (self._diverged.nodes and self._finite.nodes) or not self._border().any()

    def _grid_indices(self, flat: Sequence[int]) -> list[Index]:
        return [(one // self.shape[1], one % self.shape[1]) for one in flat]


def _cosine(count: int, lines: int) -> IntArray:
    """About `lines` indices out of `count`, ends and middle included, denser towards the ends."""
    angle = np.pi * np.arange(lines) / (lines - 1)
    spread = np.round((1 - np.cos(angle)) / 2 * (count - 1)).astype(np.int64)
    return np.unique(np.append(spread, (count - 1) // 2))


def _root_mean_square(values: FloatArray) -> float:
    """Scaled, for squares of huge losses would overflow."""
    largest = float(values.max()) or 1.0
    return largest * float(np.sqrt(np.mean((values / largest) ** 2)))


def _origin(axis: FloatArray) -> int:
    """Index of the network; of the middle where that lies off the grid."""
    within = axis[0] <= 0 <= axis[-1]
    return int(np.argmin(np.abs(axis))) if within else (len(axis) - 1) // 2


def _beside(origin: int, away: float, count: int) -> int:
    """Index so many half-widths from the origin, within the grid."""
    return int(np.clip(origin + round(away * (count - 1) / 2), 0, count - 1))
