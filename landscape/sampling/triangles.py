"""The triangle of nodes that each place lies in. Needs no torch.

`scipy.spatial.Delaunay` makes the triangles; its own search factorizes a 2×2 matrix for each, by a LAPACK
whose threads wait for each other, which on a busy machine takes a hundred times the arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import Delaunay, QhullError

from landscape.surface import FloatArray

IntArray = npt.NDArray[np.int64]
ON_AN_EDGE = 1e-12  # twice the area, in squares of the half-width of the grid, that rounding may take away


def triangle_corners(nodes: FloatArray, places: FloatArray, near: IntArray) -> IntArray | None:
    """The nodes ``[n, 2]`` around each place ``[p, 2]``, as indices ``[p, 3]``, −1 outside.

    None where the nodes lie on a line. All places walk at once, from a triangle at the node `near` each one,
    to the one behind the edge that they lie beyond most, which ends in every Delaunay triangulation
    (Devillers, Pion and Teillaud, "Walking in a triangulation", 2002).
    """
    if len(nodes) < 3 or not _spans_a_plane(nodes):
        return None
    try:
        found = Delaunay(nodes)
    except QhullError:
        return None
    corners, beyond = found.simplices.astype(np.int64), found.neighbors
    at = np.maximum(found.vertex_to_simplex[near], 0).astype(np.int64)  # −1: a node twice
    walking = np.arange(len(places))
    for _ in range(len(corners)):
        areas = _areas(nodes[corners[at[walking]]], places[walking])
        worst = areas.argmin(axis=1)
        on = areas[np.arange(len(worst)), worst] < -ON_AN_EDGE
        walking, worst = walking[on], worst[on]
        if not len(walking):
            break
        at[walking] = beyond[at[walking], worst]
        walking = walking[at[walking] >= 0]  # the others have left the hull
    # Triangles without an area hold no place, and may lead in circles.
    flat = _areas(nodes[corners], nodes[corners[:, 0]]).max(axis=1) <= ON_AN_EDGE
    for one in np.union1d(walking, np.flatnonzero((at >= 0) & flat[at])):
        inside = (_areas(nodes[corners], places[one]) >= -ON_AN_EDGE).all(axis=1) & ~flat
        at[one] = int(inside.argmax()) if inside.any() else -1
    return np.where(at[:, None] < 0, -1, corners[at])


def _areas(triangles: FloatArray, places: FloatArray) -> FloatArray:
    """Twice the area, with its sign, of a place ``[t, 2]`` with the side opposite each corner: ``[t, 3]``.

    Triangles ``[t, 3, 2]`` are counterclockwise, so all are positive inside.
    """
    away = triangles - places[..., None, :]
    first, second = np.roll(away, -1, axis=1), np.roll(away, -2, axis=1)
    return np.asarray(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])


def _spans_a_plane(nodes: FloatArray) -> bool:
    """Whether a node lies beside the line through the first and the one farthest from it."""
    away = nodes - nodes[0]
    length = np.hypot(*away.T)
    along = away[int(length.argmax())]
    beside = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0])
    return bool(beside.max() > 1e-12 * max(float(length.max()) ** 2, 1e-300))
