"""A surface as heights above its reference: piecewise linear between grid points, integrated exactly.

Each grid cell is a fan of four triangles around its centre, whose height is the mean of the four corners.
On a triangle with corner heights a, b, c the averages of powers and of the absolute value have closed forms
(Hermite-Genocchi), so nothing is left to a quadrature rule: the only error is that of linear interpolation,
O(spacing²), without the jitter of point sums where the surface crosses its reference. The average of the
heights themselves is the trapezoid rule's. Spacing may be uneven; a line is treated as a ribbon.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Reference = Literal["mean", "plane"]


@dataclass(frozen=True, eq=False)
class Heights:
    """Departure of a surface from its reference on a grid.

    Attributes
    ----------
    alpha, beta
        Coordinates, ascending, at least two of each.
    z
        Shape ``[alpha, beta]``: heights divided by `scale`, so that powers of them stay representable.
    scale
        Largest absolute height, in the units of the surface; 1 where the surface is flat.
    line
        True where `beta` is the made-up width of a one-dimensional surface.
    """

    alpha: FloatArray
    beta: FloatArray
    z: FloatArray
    scale: float
    line: bool = False

    @cached_property
    def cell_shares(self) -> FloatArray:
        """Shape ``[A - 1, B - 1]``: share of the area in each grid cell; they sum to 1."""
        widths, depths = np.diff(self.alpha), np.diff(self.beta)
        shares: FloatArray = np.outer(widths / widths.sum(), depths / depths.sum())
        return shares

    @cached_property
    def triangles(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Corner heights of the four triangles of each cell: three arrays ``[4, A - 1, B - 1]``."""
        corners = np.stack([self.z[:-1, :-1], self.z[1:, :-1], self.z[1:, 1:], self.z[:-1, 1:]])
        center = np.broadcast_to(corners.mean(axis=0), corners.shape)
        return corners, np.roll(corners, -1, axis=0), center

    @cached_property
    def moments(self) -> tuple[float, ...]:
        """Averages over the area of (height / scale) ** n for n = 0, 1, 2, 3, 4."""
        a, b, c = self.triangles
        # Sums of all products of n factors taken from a, from a and b, and from a, b and c.
        one = two = three = np.ones_like(a)
        averages = [1.0]
        for power in range(1, 5):
            one = one * a
            two = two * b + one
            three = three * c + two
            averages.append(self._mean(three) * 2 / ((power + 1) * (power + 2)))
        return tuple(averages)

    def mean_absolute(self) -> float:
        """Average over the area of |height| / scale."""
        return self._mean(_absolute_means(*self.triangles))

    def _mean(self, values: FloatArray) -> float:
        return float((values.mean(axis=0) * self.cell_shares).sum())


def heights(alpha: FloatArray, beta: FloatArray, values: FloatArray, reference: Reference) -> Heights:
    """Heights of `values[alpha, beta]` above their mean or above their least-squares plane.

    Mean and plane are those of the area that is integrated, not of the points.
    """
    line = len(beta) == 1
    if line:
        beta, values = np.array([0.0, 1.0]), np.repeat(values, 2, axis=1)
    # Divided first by their own size: differences and powers of huge losses would overflow.
    size = float(np.abs(values).max()) or 1.0
    z = values / size
    z = z - _reference(alpha, beta, z, reference)
    spread = float(np.abs(z).max())
    # Rounding leaves a flat surface a few units in the last place high, which would pass for a shape.
    if spread <= 16 * np.finfo(np.float64).eps:
        return Heights(alpha, beta, np.zeros_like(z), 1.0, line)
    return Heights(alpha, beta, z / spread, spread * size, line)


def trapezoid_weights(points: FloatArray) -> FloatArray:
    """Share of the length that each of the ascending `points` stands for; they sum to 1."""
    gaps = np.diff(points) / (points[-1] - points[0])
    weights: FloatArray = (np.append(gaps, 0.0) + np.append(0.0, gaps)) / 2
    return weights


def _reference(alpha: FloatArray, beta: FloatArray, z: FloatArray, reference: Reference) -> FloatArray:
    along, across = trapezoid_weights(alpha), trapezoid_weights(beta)
    level = np.full_like(z, along @ z @ across)
    if reference == "mean":
        return level
    # Centred coordinates are orthogonal over the rectangle: each slope is a separate regression.
    a, b = alpha - along @ alpha, beta - across @ beta
    slope_a = _moment(alpha, beta, z, a) / _mean_square(a, alpha)
    slope_b = _moment(beta, alpha, z.T, b) / _mean_square(b, beta)
    return level + slope_a * a[:, None] + slope_b * b


def _moment(points: FloatArray, others: FloatArray, z: FloatArray, centred: FloatArray) -> float:
    """Average over the area of ``centred · z`` for the surface of four triangles a cell.

    On a triangle the average of a product of two linear functions is the sum of the nine products of their
    corners, each corner's own counted twice, over 12.
    """
    corners = np.stack([z[:-1, :-1], z[1:, :-1], z[1:, 1:], z[:-1, 1:]])
    low, high = np.broadcast_arrays(centred[:-1, None], centred[1:, None])
    places = np.stack([low, high, high, low]) + np.zeros_like(corners)
    middle, centre = corners.mean(axis=0), places.mean(axis=0)
    first, second = (places, np.roll(places, -1, axis=0)), (corners, np.roll(corners, -1, axis=0))
    own = first[0] * second[0] + first[1] * second[1] + centre * middle
    sums = (first[0] + first[1] + centre) * (second[0] + second[1] + middle)
    shares = np.outer(np.diff(points), np.diff(others))
    return float((((own + sums) / 12).mean(axis=0) * shares).sum() / shares.sum())


def _mean_square(centred: FloatArray, points: FloatArray) -> float:
    """Average of ``centred²``, linear between the points."""
    low, high = centred[:-1], centred[1:]
    gaps = np.diff(points)
    return float(((low**2 + low * high + high**2) / 3 * gaps).sum() / gaps.sum())


def _absolute_means(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """Average of |height| on triangles with corner heights a, b, c."""
    means = (a + b + c) / 3
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    crossing = (low < 0) & (high > 0)
    result = np.abs(means)
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))[crossing]
    low, high = low[crossing], high[crossing]
    # One corner lies alone on its side of zero; the height averages lone³/(3 (lone-p)(lone-q)) there.
    lone, far = np.where(middle > 0, low, high), np.where(middle > 0, high, low)
    part = lone**3 / (3 * (lone - middle) * (lone - far))
    result[crossing] = np.abs(means[crossing] - 2 * part)
    return result
