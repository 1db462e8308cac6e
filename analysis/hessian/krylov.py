"""A symmetric matrix on a growing orthonormal basis: the state that all Lanczos methods here share.

With the basis as rows of V, the state satisfies ``H Vᵀ = Vᵀ C + v bᵀ`` (a Krylov decomposition, Stewart,
"A Krylov–Schur algorithm for large eigenproblems", 2001). Lanczos makes C tridiagonal up to rounding; all its
entries are kept all the same, so that residuals state what was really computed, and a restarted basis or one
that had to be continued by a new vector needs no code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from landscape.engine.cuda_graph import numerics

FloatArray = npt.NDArray[np.float64]
_GROWTH = 16  # rows of the basis that are allocated at a time
_LOST = 256.0  # roundings of the matrix's size below which what is left of a product is noise


class SymmetricOperator(Protocol):
    """What the methods need of a matrix; `analysis.hessian.operator.HessianOperator` is one."""

    products: int
    torch_device: torch.device
    torch_dtype: torch.dtype

    @property
    def size(self) -> int:
        """Rows and columns."""
        ...

    def multiply(self, vectors: Tensor) -> Tensor:
        """``H V`` for ``[n]`` or ``[n, k]``."""
        ...


def random_unit(operator: SymmetricOperator, *key: int) -> Tensor:
    """Direction drawn uniformly, ``[n]``; the same for one key on every device (drawn on the CPU)."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(operator.size, generator=generator, dtype=torch.float64, device="cpu")
    unit: Tensor = drawn / drawn.norm()
    return unit.to(operator.torch_device, operator.torch_dtype)


@dataclass(frozen=True)
class Ritz:
    """Eigenpairs of H on the basis, ascending.

    Attributes
    ----------
    values
        ``[m]``.
    vectors
        Coefficients in the basis, ``[m, m]``, a column each.
    residuals
        ``‖H y − θ y‖``, ``[m]``.
    """

    values: FloatArray
    vectors: FloatArray
    residuals: FloatArray


class Krylov:
    """The basis, extended by one vector per product.

    Parameters
    ----------
    start
        First vector, of unit length, ``[n]``.
    key
        Seeds the vectors that continue an exhausted space; see `random_unit`.
    deflated
        Orthonormal rows that the basis avoids, ``[k, n]``.

    Attributes
    ----------
    projected
        C, ``[m, m]``.
    coupling
        b, ``[m]``.
    lost
        What products have outside the basis and beside `next`, ``[groups, m]``: along one unknown unit vector
        per restart or exhausted space.
    next
        v, or None where the basis spans the whole space.
    fresh
        Index from which the basis was built after the space was last exhausted or compressed.
    exhausted, restarts
        How many times a product gave nothing new, and the basis went on from another random vector.
    locked
        So many first vectors are eigenvectors that a restart kept.
    """

    def __init__(self, start: Tensor, key: tuple[int, ...] = (0,), deflated: Tensor | None = None) -> None:
        self._rows = start.new_empty(0, len(start))
        self.size = 0
        self.projected: FloatArray = np.zeros((0, 0))
        self.coupling: FloatArray = np.zeros(0)
        self.lost: FloatArray = np.zeros((0, 0))
        self.next: Tensor | None = start
        self.deflated = start.new_empty(0, len(start)) if deflated is None else deflated
        self.fresh, self.exhausted, self.restarts, self.locked, self._key = 0, 0, 0, 0, key

    @property
    def basis(self) -> Tensor:
        """V, orthonormal rows, ``[m, n]``."""
        return self._rows[: self.size]

    def extend(self, operator: SymmetricOperator) -> Tensor:
        """Multiply `next`, take it into the basis, and find the one after it; gives the product."""
        assert self.next is not None
        vector = self.next
        product = operator.multiply(vector)
        self._append(vector)
        rest = product - self.deflated.T @ (self.deflated @ product)
        basis, column = self.basis, np.zeros(self.size)
        for _ in range(2):  # twice is enough (Giraud et al. 2005) for full orthogonality
            found = basis @ rest
            rest = rest - basis.T @ found
            column += found.double().cpu().numpy()
        left = float(rest.double().norm())
        grown = np.zeros((self.size, self.size))
        grown[:-1, :-1] = self.projected
        grown[-1, :-1], grown[:, -1] = self.coupling, column
        grown[-1, : self.locked] = column[: self.locked]  # what the residuals of these have along the vector
        self._find_again(column[: self.locked])
        self.projected, self.coupling = grown, np.zeros(self.size)
        self.lost = np.pad(self.lost, ((0, 0), (0, 1)))
        scale = float(np.abs(grown).max(initial=0.0))
        if self.size + len(self.deflated) >= len(vector):
            self.next = None
        elif left <= _LOST * torch.finfo(vector.dtype).eps * scale:
            self.lost = np.vstack([self.lost, left * np.eye(1, self.size, self.size - 1)])
            self.fresh, self.exhausted = self.size, self.exhausted + 1
            self.next = self._random(operator)
        else:
            self.coupling[-1] = left
            self.next = self._orthogonal(rest / left)
        return product

    def ritz(self) -> Ritz:
        """Rayleigh–Ritz on the basis, with residuals from what was computed."""
        values, vectors = np.linalg.eigh((self.projected + self.projected.T) / 2)
        inside = np.linalg.norm(self.projected @ vectors - vectors * values, axis=0)
        outside = np.hypot(self.coupling @ vectors, np.abs(self.lost @ vectors).sum(0))
        return Ritz(values, vectors, np.hypot(inside, outside))

    def combine(self, coefficients: FloatArray) -> Tensor:
        """Vectors of the space from their coefficients ``[m, k]``, as rows ``[k, n]``."""
        basis = self.basis
        with numerics(basis.device, False):  # outside of an operator's own products, too
            return torch.as_tensor(coefficients.T.copy()).to(basis) @ basis

    def compress(self, coefficients: FloatArray) -> None:
        """Go on with the vectors that orthonormal coefficients ``[m, k]`` name (thick restart)."""
        rows = self.combine(coefficients)
        self._rows, self.size = rows, len(rows)
        self.projected = coefficients.T @ self.projected @ coefficients
        self.coupling = self.coupling @ coefficients
        self.lost = self.lost @ coefficients
        self.fresh, self.locked = self.size, 0

    def restart(self, operator: SymmetricOperator, coefficients: FloatArray) -> None:
        """Keep eigenvectors ``[m, k]`` and go on from a random vector orthogonal to them.

        Their residuals are noted as lost. The new part shows what the old one couldn't: from one start vector
        an eigenvalue is found once, however often it occurs.
        """
        self.compress(coefficients)
        self.lost = np.vstack([self.lost, self.coupling])
        self.coupling = np.zeros(self.size)
        self.locked, self.restarts = self.size, self.restarts + 1
        whole = self.size + len(self.deflated) >= self._rows.shape[1]
        self.next = None if whole else self._random(operator)

    def apply(self, coefficients: FloatArray) -> Tensor:
        """``H`` times the vector with these coefficients ``[m]``, without a product."""
        result = self.combine((self.projected @ coefficients)[:, None])[0]
        return result if self.next is None else result + float(self.coupling @ coefficients) * self.next

    def state(self) -> dict[str, Any]:
        """Everything, as arrays."""
        following = self.basis.new_empty(0) if self.next is None else self.next
        return {
            "basis": self.basis.cpu().numpy(),
            "projected": self.projected,
            "coupling": self.coupling,
            "lost": self.lost,
            "next": following.cpu().numpy(),
            "counts": np.array([self.fresh, self.exhausted, self.restarts, self.locked]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        like = self._rows
        # Copies in torch's own memory: its alignment decides which kernels are taken, and so the last bits.
        self._rows = torch.tensor(state["basis"]).to(like)
        self.size = len(self._rows)
        self.projected, self.coupling, lost = (
            np.array(state[name]) for name in ("projected", "coupling", "lost")
        )
        self.lost = np.diag(lost) if lost.ndim == 1 else lost  # of version 1
        self.next = torch.tensor(state["next"]).to(like) if len(state["next"]) else None
        counts = [int(one) for one in state["counts"]]
        self.fresh, self.exhausted, self.restarts, self.locked = (*counts, 0, 0)[:4]

    def _random(self, operator: SymmetricOperator) -> Tensor:
        return self._orthogonal(random_unit(operator, *self._key, self.exhausted + self.restarts))

    def _find_again(self, column: FloatArray) -> None:
        """Of the locked vectors' lost residuals, what a new vector of the basis has is lost no more."""
        rows = self.lost[:, : self.locked]
        if not rows.any():
            return
        along = np.linalg.lstsq(rows.T, column, rcond=None)[0]
        self.lost *= np.sqrt(np.maximum(0.0, 1.0 - np.square(along)))[:, None]

    def _append(self, vector: Tensor) -> None:
        if self.size == len(self._rows):
            self._rows = torch.cat([self._rows, vector.new_empty(_GROWTH, len(vector))])
        self._rows[self.size] = vector
        self.size += 1

    def _orthogonal(self, vector: Tensor) -> Tensor:
        """Of unit length and orthogonal to the basis to working precision."""
        for _ in range(2):
            for rows in (self.deflated, self.basis):
                vector = vector - rows.T @ (rows @ vector)
            vector = vector / vector.norm()
        return vector
