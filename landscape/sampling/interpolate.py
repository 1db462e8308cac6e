"""Smooth interpolation of a surface from some of its grid points, with error estimates. Needs no torch.

Polyharmonic splines (Duchon 1977): radial basis functions r^p with a polynomial tail. They have no length
scale to tune, are exact at the nodes and linear in the values, so that one factorization serves any number of
right-hand sides (the jackknife blocks) and gives every leave-one-out residual in closed form (Rippa 1999).
Losses span orders of magnitude over a plane, so the spline goes through log, root or plain loss, whichever
predicts left-out points best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from landscape.sampling.triangles import triangle_corners
from landscape.surface import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]

MANY_NODES = 800  # more than these, as in a half-done exact grid, are interpolated locally
NEIGHBOURS = 60
DEEPEST = 0.05  # an interpolated loss lies no further below the lowest one evaluated beside it, as a share …
DEEPEST_OF_RANGE = 0.01  # … or, where losses aren't positive, as a share of their range
BESIDE = 6  # nearest points that lie beside a place
LOG_WEIGHT = 0.1  # of errors of the logarithm beside shares of the range, in the choice of a transform
UNSEEN = 1e-3  # of the lowest value: predictions below count as that in logarithms


@dataclass(frozen=True)
class Transform:
    """An increasing map under which a loss surface is smoother, and its inverse."""

    forward: Callable[[FloatArray], FloatArray]
    inverse: Callable[[FloatArray], FloatArray]
    needs_positive: bool = False


# exp and the powers saturate instead of overflowing: a spline may overshoot far outside its nodes.
TRANSFORMS = {
    "log": Transform(np.log, lambda x: np.exp(np.minimum(x, 700.0)), needs_positive=True),
    "cube root": Transform(np.cbrt, lambda x: x**3),
    "none": Transform(np.asarray, np.asarray),
}


@dataclass(frozen=True, eq=False)
class Spline:
    """A polyharmonic spline through fixed nodes, ready for any values.

    Attributes
    ----------
    nodes
        Shape ``[n, 2]``.
    weights
        Shape ``[n + tail, n]``: maps values at the nodes to coefficients.
    power, degree
        Of the radial basis function (odd) and of the polynomial tail (−1: none).
    """

    nodes: FloatArray
    weights: FloatArray
    power: int
    degree: int

    @classmethod
    def through(cls, nodes: FloatArray, power: int = 3, degree: int = 2) -> Spline:
        """Factorize once. The tail's degree falls where the nodes are too few or lie on a line."""
        while degree >= 0 and not _determined(nodes, degree):
            degree -= 1
        n, tail = len(nodes), monomials(nodes, degree)
        m = tail.shape[1]
        system = np.zeros((n + m, n + m))
        system[:n, :n] = distance_power(nodes, nodes, power)
        system[:n, n:] = tail
        system[n:, :n] = tail.T
        weights = scipy.linalg.solve(system, np.eye(n + m)[:, :n], assume_a="sym")
        return cls(nodes, weights, power, degree)

    def __call__(self, places: FloatArray, values: FloatArray) -> FloatArray:
        """Interpolate: places ``[p, 2]``, values ``[n]`` or ``[n, K]``, result ``[p]`` or ``[p, K]``."""
        return np.asarray(self.basis(places) @ (self.weights @ values))

    def basis(self, places: FloatArray) -> FloatArray:
        """Basis functions at places, shape ``[p, n + tail]``."""
        return np.hstack([distance_power(places, self.nodes, self.power), monomials(places, self.degree)])

    def left_out(self, values: FloatArray) -> FloatArray:
        """At each node, what the spline through all the others gives: shape ``[n]``."""
        n = len(self.nodes)
        diagonal = np.diagonal(self.weights[:n])
        usable = np.abs(diagonal) > 1e-12 * np.abs(diagonal).max()
        residual = np.where(usable, (self.weights[:n] @ values) / np.where(usable, diagonal, 1.0), 0.0)
        return np.asarray(values - residual)


class LeavesOut(Protocol):
    """Any spline that says what it would give at a node without that node."""

    def left_out(self, values: FloatArray) -> FloatArray:
        """At each node, from values at all of them."""
        ...


def best_transform(spline: LeavesOut, values: FloatArray) -> str:
    """The transform under which left-out nodes are predicted best, in share of the range and in logarithm."""
    return min(_usable(values), key=lambda name: _left_out_error(spline, values, TRANSFORMS[name]))


def left_out_errors(
    nodes: FloatArray, values: FloatArray, transform: str = "auto", *, log: bool = False
) -> FloatArray:
    """Absolute error of predicting each value ``[n]``, or its log, from the others, at nodes ``[n, 2]``."""
    spline = Spline.through(nodes)
    one = TRANSFORMS[best_transform(spline, values) if transform == "auto" else transform]
    predicted = one.inverse(spline.left_out(one.forward(values)))
    if log:
        # What is shown lies no deeper; a spline through plain losses may predict below zero.
        values, predicted = np.log(values), log_values(predicted, (1 - DEEPEST) * float(values.min()))
    return np.asarray(np.abs(predicted - values))


def left_out_grid(
    alpha: FloatArray,
    beta: FloatArray,
    computed: BoolArray,
    values: FloatArray,
    *,
    transform: str = "auto",
    log: bool = False,
) -> FloatArray:
    """An estimate of the interpolation error at every point of a grid.

    It is what prediction from all other computed points misses at the nearest one, which errs on the large
    side: leaving a point out makes a hole twice as wide as any that there is.

    Parameters
    ----------
    alpha, beta, computed, values, transform
        As for `interpolate_grid`, with values ``[A, B]``.
    log
        The error of the logarithm of the values.

    Returns
    -------
    ndarray
        Shape ``[A, B]``, 0 at computed points; NaN with fewer than 8 finite ones.
    """
    finite = computed.ravel() & np.isfinite(values).ravel()
    if computed.all() or finite.sum() < 8:
        return np.where(computed, 0.0, np.nan)
    places = grid_places(alpha, beta)
    nodes, given = places[finite], values.ravel()[finite]
    nearest = np.asarray(KDTree(nodes).query(places)[1])
    errors = left_out_errors(nodes, given, transform, log=log)[nearest].reshape(computed.shape)
    return np.where(computed, 0.0, errors)


def interpolate_grid(
    alpha: FloatArray,
    beta: FloatArray,
    computed: BoolArray,
    values: FloatArray,
    *,
    transform: str = "auto",
    bounded: bool = False,
) -> FloatArray:
    """Fill a grid from its computed points.

    Parameters
    ----------
    alpha, beta
        Grid coordinates, shapes ``[A]`` and ``[B]``.
    computed
        Shape ``[A, B]``: where `values` are given.
    values
        Shape ``[A, B]`` or ``[A, B, K]``; inf marks divergence, NaN what isn't known even there.
    transform
        A key of `TRANSFORMS`, or "auto": the one that predicts left-out points best.
    bounded
        Whether values stay above `DEEPEST` below the lowest computed one beside them, so that no valley is
        shown where nothing was evaluated that low.

    Returns
    -------
    ndarray
        Shape of `values`. Computed entries are unchanged. A point whose nearest computed neighbour
        diverged is inf, or NaN where that is; with fewer than three finite points known, what is missing
        stays NaN.
    """
    layers = values.reshape(*computed.shape, -1)
    filled = np.where(computed[..., None], layers, np.nan)
    places = grid_places(alpha, beta)
    known = computed.ravel()
    finite = known & np.isfinite(layers.reshape(len(known), -1)).all(axis=1)
    missing = ~known
    if not missing.any() or finite.sum() < 3:
        return filled.reshape(values.shape)
    flat = filled.reshape(len(known), -1)
    given = flat[finite]
    flat[missing] = _predict(places[finite], given, places[missing], transform)
    if bounded:
        flat[missing] = np.maximum(flat[missing], _floor(places[finite], given, places[missing]))
    diverged = known & ~finite
    if diverged.any():
        nearest = np.asarray(KDTree(places[known]).query(places[missing])[1])
        lost = ~finite[known][nearest]
        like = flat[known][nearest[lost]]
        flat[np.flatnonzero(missing)[lost]] = np.where(np.isnan(like), np.nan, np.inf)
    return filled.reshape(values.shape)


def _floor(nodes: FloatArray, given: FloatArray, places: FloatArray) -> FloatArray:
    """How deep a value at each place may lie, ``[p, K]``, from those ``[n, K]`` at the nodes beside it.

    Beside it are the corners of the triangle of nodes that it lies in, and the nearest nodes.
    """
    beside = np.asarray(KDTree(nodes).query(places, k=range(1, min(BESIDE, len(nodes)) + 1))[1])
    corners = triangle_corners(nodes, places, beside[:, 0])
    if corners is not None:
        beside = np.hstack([beside, np.where(corners < 0, beside[:, :1], corners)])
    return deepest(given[beside].min(axis=1), given)


def deepest(low: FloatArray, given: FloatArray) -> FloatArray:
    """How deep what is shown may lie where the lowest value beside it is `low`, of all those given."""
    shares = np.where(given.min(axis=0) > 0, DEEPEST * low, DEEPEST_OF_RANGE * np.ptp(given, axis=0))
    return np.asarray(low - shares)


def log_values(values: FloatArray, least: float) -> FloatArray:
    """Logarithms; what a spline makes smaller than `least` counts as that."""
    return np.asarray(np.log(np.maximum(values, least)))


def thinned(count: int) -> slice:
    """Every so many of `count` nodes that at most about `MANY_NODES` are left: a spline costs their cube."""
    return slice(None, None, max(1, -(-count // MANY_NODES)))


def _predict(nodes: FloatArray, given: FloatArray, places: FloatArray, transform: str) -> FloatArray:
    """Values ``[p, K]`` at places from values ``[n, K]`` at nodes."""
    few = thinned(len(nodes))
    spline = Spline.through(nodes[few])
    if transform == "auto":
        transform = best_transform(spline, given[few].mean(axis=1))
    if TRANSFORMS[transform].needs_positive and not (given > 0).all():
        transform = "none"
    one = TRANSFORMS[transform]
    if len(nodes) <= MANY_NODES:
        return one.inverse(spline(places, one.forward(given)))
    from scipy.interpolate import RBFInterpolator  # a quarter of a second that few surfaces need

    local = RBFInterpolator(nodes, one.forward(given), neighbors=NEIGHBOURS, kernel="cubic", degree=2)
    return one.inverse(np.asarray(local(places)))


def grid_places(alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """Coordinates of all grid points, each axis scaled to the unit of its half-width: ``[A·B, 2]``."""
    return np.stack(np.meshgrid(_scaled(alpha), _scaled(beta), indexing="ij"), axis=-1).reshape(-1, 2)


def _scaled(axis: FloatArray) -> FloatArray:
    half = (axis[-1] - axis[0]) / 2
    return np.asarray((axis - axis.mean()) / half if half > 0 else np.zeros_like(axis))


def _usable(values: FloatArray) -> list[str]:
    positive = bool((values > 0).all())
    return [name for name, one in TRANSFORMS.items() if positive or not one.needs_positive]


def _left_out_error(spline: LeavesOut, values: FloatArray, transform: Transform) -> float:
    """Root mean square, as a share of the range; for positive values that of the logarithm, too."""
    predicted = transform.inverse(spline.left_out(transform.forward(values)))
    width = float(np.ptp(values)) or 1.0
    error = float(np.sqrt(np.mean(((predicted - values) / width) ** 2)))
    least = float(values.min())
    if least > 0:
        missed = log_values(predicted, UNSEEN * least) - np.log(values)
        error += LOG_WEIGHT * float(np.sqrt(np.mean(missed**2)))
    return error


def distance_power(first: FloatArray, second: FloatArray, power: int) -> FloatArray:
    """Distances to an odd power; by multiplying, as numpy's own power is several times slower."""
    distance = np.asarray(cdist(first, second))
    square = distance * distance
    for _ in range(power // 2):
        distance *= square
    return distance


def monomials(places: FloatArray, degree: int) -> FloatArray:
    x, y = places[:, 0], places[:, 1]
    columns = [x ** (total - j) * y**j for total in range(degree + 1) for j in range(total + 1)]
    return np.column_stack(columns) if columns else np.zeros((len(places), 0))


def _determined(nodes: FloatArray, degree: int) -> bool:
    tail = monomials(nodes, degree)
    return len(nodes) >= tail.shape[1] and bool(np.linalg.matrix_rank(tail) == tail.shape[1])
