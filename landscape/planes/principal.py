"""Principal components of many networks' weights, from their inner products alone.

T networks of P weights each have at most T components, and these follow from the T×T Gram matrix of inner
products. No matrix of P×P is ever made, and the networks are read in blocks of bounded memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.parameters import Moving
from landscape.planes.directions import Params, direction_between
from landscape.surface import FloatArray
from landscape.threads import one_thread

MEMORY = 1 << 30  # bytes for weights in float64 at a time
SMALLEST = 1e-10  # share of the largest variance below which a component is rounding


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of the displacements ``w_t − w`` of T networks.

    Attributes
    ----------
    directions
        At most as many as asked for, each of length 1, float32 tensors by parameter name; fewer where the
        networks lie on a line (one), or in a single point (none).
    coordinates
        Shape ``[T, len(directions)]``: inner products of ``w_t − w`` with the directions.
    explained
        Shape ``[len(directions)]``: each direction's share of the networks' variance, descending.
    outside
        Share of the sum of squared distances to w that lies outside the mask, so in no direction; 0 without.
    """

    directions: tuple[Params, ...]
    coordinates: FloatArray
    explained: FloatArray
    outside: float


def principal_components(
    center: Mapping[str, Tensor],
    networks: Sequence[Mapping[str, Tensor]],
    mask: Mapping[str, Tensor] | None = None,
    *,
    count: int = 2,
    names: Sequence[str] | None = None,
    memory: int = MEMORY,
) -> Components:
    """Directions in which networks differ most, with variances about their mean.

    With displacements ``δ_t = w_t − w`` (zero where `mask` is False), Gram matrix ``G = δ δᵀ`` and ``H`` the
    matrix that subtracts the mean, ``H G H v = λ v`` gives the direction ``Σ_t (H v)_t δ_t / √λ``.

    Parameters
    ----------
    center
        The network w.
    networks
        T mappings of tensors by parameter name. They are read in order, once where all of them fit into
        `memory`, and may be loaded when they are asked for.
    mask
        Bool tensors by parameter name, True = kept.
    count
        Largest number of directions.
    names
        What errors call the networks; their numbers from 0 by default.
    memory
        Bytes that displacements in float64 may take at a time; two networks always may.

    Raises
    ------
    UserError
        When a network has other parameters than `center`, or weights that aren't finite.
    """
    called = names if names is not None else [f"network {number}" for number in range(len(networks))]
    rows = _Rows(center, networks, mask or {}, called, memory)
    with one_thread():  # the same sums on the same machine, whatever else it does
        gram = rows.gram()
    if not np.isfinite(gram).all():
        bad = called[int(np.flatnonzero(~np.isfinite(gram.diagonal()))[0])]
        raise UserError(f"{bad}: the weights aren't finite; leave this network out")
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    order = [index for index in np.argsort(values)[::-1][:count] if values[index] > SMALLEST * values.max()]
    if values.max() <= SMALLEST * gram.trace():  # all in one point, up to rounding
        order = []
    weights = (vectors[:, order] - vectors[:, order].mean(0)) / np.sqrt(values[order])
    coordinates = gram @ weights
    signs = np.array([_sign(column) for column in coordinates.T])
    explained = values[order] / max(float(np.trace(centred)), np.finfo(float).tiny)
    with one_thread():
        directions = rows.combine(weights * signs)
    coordinates = coordinates * signs + 0.0  # no negative zeros
    return Components(directions, coordinates, np.minimum(explained, 1.0), rows.outside)


def _sign(coordinates: FloatArray) -> float:
    """Makes the coordinate farthest from 0 positive, the first of such as are equal up to rounding."""
    size = np.abs(coordinates)
    return float(np.sign(coordinates[np.flatnonzero(size >= (1 - 1e-6) * size.max())[0]]))


class _Rows:
    """Displacements of the networks in float64, in blocks; pruned weights take no room."""

    def __init__(
        self,
        center: Mapping[str, Tensor],
        networks: Sequence[Mapping[str, Tensor]],
        mask: Mapping[str, Tensor],
        names: Sequence[str],
        memory: int,
    ) -> None:
        self.names = names
        moving = {
            name: value.detach().cpu().double() for name, value in center.items() if value.is_floating_point()
        }
        self.center: dict[str, Tensor] = (
            Moving(moving, center.fixed, center.rule) if isinstance(center, Moving) else moving
        )
        self.networks = networks
        self.kept = {
            name: kept.cpu().reshape(-1).nonzero()[:, 0] for name, kept in mask.items() if name in self.center
        }
        size = 8 * sum(
            len(self.kept[name]) if name in self.kept else value.numel()
            for name, value in self.center.items()
        )
        whole = size * len(networks) <= memory
        self.block = len(networks) if whole else max(1, memory // (2 * size))
        self._last: tuple[range, dict[str, Tensor]] = (range(0), {})
        self._squares = np.zeros(len(networks))
        self._kept_squares = np.zeros(len(networks))

    @property
    def outside(self) -> float:
        """Share of all squared displacements that the mask leaves out; known after `gram`."""
        total = float(self._squares.sum())
        return max(0.0, 1 - float(self._kept_squares.sum()) / total) if self.kept and total else 0.0

    def gram(self) -> FloatArray:
        """Inner products of all pairs, ``[T, T]``."""
        gram = np.zeros((len(self.networks), len(self.networks)))
        parts = self._parts()
        for number, first in enumerate(parts):
            left = self._read(first)
            for second in parts[number:]:
                products = _products(left, left if second == first else self._read(second))
                gram[first.start : first.stop, second.start : second.stop] = products
                gram[second.start : second.stop, first.start : first.stop] = products.T
        self._kept_squares = gram.diagonal().copy()
        return gram

    def combine(self, weights: FloatArray) -> tuple[Params, ...]:
        """``Σ_t weights[t, k] δ_t`` for each k, as full tensors in float32."""
        factors = torch.from_numpy(weights)
        sums: dict[str, Tensor] = {}
        for part in self._parts() if weights.shape[1] else []:
            for name, rows in self._read(part).items():
                sums[name] = sums.get(name, torch.zeros(())) + factors[part.start : part.stop].T @ rows
        return tuple(
            {name: self._full(name, one[axis]) for name, one in sums.items()}
            for axis in range(weights.shape[1])
        )

    def _full(self, name: str, values: Tensor) -> Tensor:
        shape = self.center[name].shape
        if name in self.kept:
            values = torch.zeros(shape.numel(), dtype=values.dtype).index_copy(0, self.kept[name], values)
        return values.reshape(shape).float()

    def _parts(self) -> list[range]:
        total = len(self.networks)
        return [range(start, min(start + self.block, total)) for start in range(0, total, self.block)]

    def _read(self, part: range) -> dict[str, Tensor]:
        """Displacements of some networks, ``[len(part), kept]`` by parameter name; the last are kept."""
        if part != self._last[0]:
            self._last = (range(0), {})  # frees it: no more than two blocks are held at a time
            rows: dict[str, Tensor] = {}
            for row, number in enumerate(part):
                self._read_one(number, row, len(part), rows)
            self._last = part, rows
        return self._last[1]

    def _read_one(self, number: int, row: int, height: int, rows: dict[str, Tensor]) -> None:
        network = {
            name: value.detach().cpu().double()
            for name, value in self.networks[number].items()
            if value.is_floating_point()
        }
        try:
            moved = direction_between(self.center, network)
        except UserError as error:
            raise UserError(f"{self.names[number]}: {error}") from error
        self._squares[number] = sum(float(one.square().sum()) for one in moved.values())
        for name, one in moved.items():
            flat = one.reshape(-1)
            flat = flat[self.kept[name]] if name in self.kept else flat
            rows.setdefault(name, torch.zeros(height, len(flat), dtype=torch.float64))[row] = flat


def _products(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> FloatArray:
    """Inner products of the rows of two blocks, ``[len(left), len(right)]``."""
    products = sum(one @ right[name].T for name, one in left.items())
    assert isinstance(products, Tensor)
    return np.asarray(products.numpy())
