"""The nearest of some places, kept up to date as they are added. Needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landscape.surface import FloatArray


class Nearest:
    """For each of the places ``[p, 2]``, its `count` nearest nodes, themselves among the places.

    Attributes
    ----------
    nodes
        Indices of places, in the order in which they were added.
    distance, index
        Shape ``[count, p]``: the nearest nodes, ascending by distance along the first axis. With fewer nodes
        than `count` the distance is inf and the index that of the nearest.
    """

    def __init__(self, places: FloatArray, count: int) -> None:
        self.places = places
        self.nodes: list[int] = []
        self.distance = np.full((count, len(places)), np.inf)
        self.index: npt.NDArray[np.int64] = np.zeros((count, len(places)), dtype=np.int64)
        self._gap = np.full(len(places), np.inf)

    def add(self, node: int) -> None:
        """One more node."""
        away = np.hypot(*(self.places - self.places[node]).T)
        if not self.nodes:
            self.index[:] = node
        self._gap[node] = self.distance[0, node]
        self._gap[self.nodes] = np.minimum(self._gap[self.nodes], away[self.nodes])
        self.nodes.append(node)
        index = np.full(len(away), node)
        for rank in range(len(self.distance)):
            held, held_index = self.distance[rank].copy(), self.index[rank].copy()
            closer = away < held
            self.distance[rank] = np.where(closer, away, held)
            self.index[rank] = np.where(closer, index, held_index)
            away, index = np.where(closer, held, away), np.where(closer, held_index, index)

    def gaps(self) -> FloatArray:
        """From each node to the nearest other one, in the order of `nodes`."""
        return np.asarray(self._gap[self.nodes])

    def nearby(self, values: FloatArray) -> FloatArray:
        """Root mean square, weighted by inverse distance, of values ``[p]`` at the nearest nodes."""
        weight = 1.0 / (self.distance + 1e-9)
        largest = float(np.abs(values).max()) or 1.0  # squares of huge losses would overflow
        squares = (values[self.index] / largest) ** 2
        return np.asarray(largest * np.sqrt((squares * weight).sum(axis=0) / weight.sum(axis=0)))
