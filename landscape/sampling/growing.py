"""A polyharmonic spline that nodes are added to one by one, over fixed places. Needs no torch.

The same interpolant as `landscape.sampling.interpolate.Spline`, for the sampler, which adds a few nodes and
asks again. Taking the polynomial through six of the nodes away from the kernel makes it positive definite,
and a Cholesky factor of that grows by a row a node: the Newton basis (Müller and Schaback, "A Newton basis
for kernel spaces", 2009). A node costs one product with the basis, where a refit costs the cube of the nodes.

Products go through `np.einsum`, which starts no threads: those of a BLAS wait for each other on a busy
machine, which took ten times the arithmetic, and their number would change the last bits and with them the
next points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from landscape.sampling.interpolate import distance_power, monomials
from landscape.surface import FloatArray

DEGREE = 2
TAIL = (DEGREE + 1) * (DEGREE + 2) // 2
DEPENDENT = 1e-13  # share of a node's own kernel below which the others say all that it can


class GrowingSpline:
    """A spline r³ or r⁵ with a quadratic tail through some of the places.

    Parameters
    ----------
    places
        Shape ``[p, 2]``: where it is asked for; nodes are among them.
    tail
        Six of the places that determine a quadratic (`determining`); the first nodes.
    power
        3 or 5.

    Attributes
    ----------
    nodes
        Indices of the places that are nodes, in the order in which they were added.
    """

    def __init__(self, places: FloatArray, tail: Sequence[int], power: int) -> None:
        self.places, self.power = places, power
        self.nodes = [int(one) for one in tail]
        self._sign = 1.0 if power % 4 == 3 else -1.0  # r³ is conditionally positive definite, −r⁵ is
        corners = places[self.nodes]
        # Lagrange polynomials of the six: 1 at one of them and 0 at the others.
        self._shares = np.linalg.solve(monomials(corners, DEGREE).T, monomials(places, DEGREE).T)
        self._to_tail = self._sign * distance_power(corners, places, power)
        self._among_tail = np.einsum("jk,kp->jp", self._to_tail[:, self.nodes], self._shares)
        self._rows = 0
        self._basis = np.empty((64, len(places)))
        self._maps = np.empty((64, 64 + TAIL))
        self._squares = np.zeros(TAIL)

    def add(self, node: int) -> None:
        """One more node, not yet among them."""
        place, shares, known = self.places[[node]], self._shares[:, node], self._rows
        kernel = self._sign * distance_power(place, self.places, self.power)[0]
        kernel -= np.einsum("j,jp->p", shares, self._to_tail - self._among_tail)
        kernel -= np.einsum("j,jp->p", self._to_tail[:, node], self._shares)
        before = self._basis[:known, node].copy()
        left = float(kernel[node] - np.einsum("k,k", before, before))
        self.nodes.append(node)
        self._squares = np.append(self._squares, 0.0)
        if not left > DEPENDENT * abs(float(kernel[node])):
            return
        self._grow()
        pivot = np.sqrt(left)
        self._basis[known] = (kernel - np.einsum("k,kp->p", before, self._basis[:known])) / pivot
        row = np.zeros(len(self.nodes))
        row[:-1] = -np.einsum("k,kn->n", before, self._maps[:known, : len(row) - 1])
        row[:TAIL] -= shares
        row[-1] = 1.0
        row /= pivot
        self._maps[known] = 0.0
        self._maps[known, : len(row)] = row
        self._squares += row**2
        self._rows += 1

    def _grow(self) -> None:
        """Room for another row, doubled when it is used up."""
        if self._rows == len(self._basis):
            self._basis = np.concatenate([self._basis, np.empty_like(self._basis)])
        if self._rows == len(self._maps) or len(self.nodes) > self._maps.shape[1]:
            size = 2 * max(self._maps.shape)
            larger = np.zeros((size, size + TAIL))
            larger[: self._rows, : self._maps.shape[1]] = self._maps[: self._rows]
            self._maps = larger

    def __call__(self, values: FloatArray) -> FloatArray:
        """What it gives at all places, ``[p]``, from values ``[n]`` at the nodes."""
        along = self._coordinates(values)
        smooth = np.einsum("j,jp->p", values[:TAIL], self._shares)
        return np.asarray(smooth + np.einsum("k,kp->p", along, self._basis[: self._rows]))

    def left_out(self, values: FloatArray) -> FloatArray:
        """At each node, what the spline through all the others gives, ``[n]`` (Rippa 1999)."""
        slopes = np.einsum("k,kn->n", self._coordinates(values), self._maps[: self._rows, : len(self.nodes)])
        largest = float(self._squares.max()) if self._rows else 0.0
        usable = self._squares > 1e-12 * largest
        return np.asarray(values - np.where(usable, slopes / np.where(usable, self._squares, 1.0), 0.0))

    def _coordinates(self, values: FloatArray) -> FloatArray:
        maps = self._maps[: self._rows, : len(self.nodes)]
        return np.asarray(np.einsum("kn,n->k", maps, values))


def determining(places: FloatArray) -> list[int] | None:
    """Six of the places ``[n, 2]``, far apart, that determine a quadratic; None where all don't."""
    if len(places) < TAIL:
        return None
    columns = monomials(places, DEGREE).T.copy()
    scale = float(np.sqrt((columns**2).sum(axis=0)).max())
    chosen: list[int] = []
    for _ in range(TAIL):  # what a QR factorization with pivoting picks
        lengths = np.sqrt((columns**2).sum(axis=0))
        best = int(np.argmax(lengths))
        if not lengths[best] > 1e-6 * scale:
            return None
        chosen.append(best)
        unit = columns[:, best] / lengths[best]
        columns -= unit[:, None] * (unit @ columns)
    return chosen
