"""The largest and the smallest eigenvalues, with their eigenvectors and residuals.

Lanczos with full reorthogonalization; when the basis has grown to its limit it restarts with the best Ritz
vectors (thick restart: Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems",
2000). Without a restart no method takes fewer products from one start vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.hessian.krylov import FloatArray, Krylov, Ritz, SymmetricOperator, random_unit
from landscape.errors import UserError

BASIS_BYTES = 4 << 30
_EXTRA = 20  # basis vectors beyond the wanted ones without which a restart would hardly advance
_FOLLOWS = 0.5  # a Ritz vector belongs to the part of the basis that holds more than this of its weight


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Some eigenvalues at one end of the spectrum, the outermost first.

    Attributes
    ----------
    values
        ``[k]``.
    residuals
        ``‖H y − λ y‖`` for the unit vector y, ``[k]``: an eigenvalue lies within this distance of λ.
    converged
        Whether the residual is within the tolerance times the largest absolute eigenvalue, ``[k]``.
    vectors
        Unit vectors in the kept space, ``[k, n]``.
    """

    values: FloatArray
    residuals: FloatArray
    converged: npt.NDArray[np.bool_]
    vectors: Tensor


@dataclass(frozen=True)
class Wanted:
    """What is looked for, and when it is found.

    Attributes
    ----------
    top, bottom
        How many of the largest and of the smallest eigenvalues, algebraically.
    tolerance
        Largest residual as a share of the largest absolute eigenvalue.
    max_products
        Products after which what was found is returned, converged or not.
    """

    top: int = 5
    bottom: int = 1
    tolerance: float = 1e-3
    max_products: int = 300

    def __post_init__(self) -> None:
        if self.top < 0 or self.bottom < 0 or self.top + self.bottom < 1:
            raise UserError(f"top {self.top} and bottom {self.bottom}: expected at least one eigenvalue")
        if not 0 < self.tolerance < 1:
            raise UserError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        if self.max_products < 1:
            raise UserError(f"max_products must be at least 1, got {self.max_products}")


class Lanczos:
    """The search, one product at a time.

    Parameters
    ----------
    operator
        The matrix.
    wanted
        What to look for; more than the matrix has is cut to what it has.
    seed
        Of the start vector.
    basis_bytes
        Memory of the basis, at least the few vectors that a restart needs.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        wanted: Wanted,
        seed: int = 0,
        basis_bytes: float = BASIS_BYTES,
    ) -> None:
        self.operator, self.wanted = operator, wanted
        self.krylov = Krylov(random_unit(operator, seed, 0), (seed, 1))
        self.products = 0
        vector = operator.size * operator.torch_dtype.itemsize
        least = 2 * (wanted.top + wanted.bottom) + _EXTRA
        self.capacity = min(operator.size, max(least, int(basis_bytes // vector)))

    @property
    def done(self) -> bool:
        """Whether everything was found, or no product is left to find it."""
        return (
            self.krylov.next is None
            or self.products >= self.wanted.max_products
            or (self.krylov.size > 0 and self._found(self.krylov.ritz()))
        )

    def advance(self) -> None:
        """One product; the basis is compressed first where it is full."""
        if self.krylov.size >= self.capacity:
            self.krylov.compress(self._best(self.krylov.ritz()))
        self.krylov.extend(self.operator)
        self.products += 1

    def worst(self) -> float:
        """The largest residual among the wanted pairs as a share of the largest eigenvalue; inf at first."""
        ritz = self.krylov.ritz()
        if len(ritz.values) < min(self.wanted.top + self.wanted.bottom, self.operator.size):
            return float("inf")
        scale = float(np.abs(ritz.values).max())
        return float(ritz.residuals[self._places(ritz)].max()) / scale if scale else 0.0

    def pairs(self) -> tuple[Eigenpairs, Eigenpairs]:
        """The top and the bottom ones as far as they are known now."""
        ritz = self.krylov.ritz()
        places = np.arange(len(ritz.values))
        return (
            self._pairs(ritz, places[::-1][: self.wanted.top]),
            self._pairs(ritz, places[: self.wanted.bottom]),
        )

    def known(self) -> tuple[FloatArray, Tensor]:
        """Converged eigenvalues ``[k]``, each once, and orthonormal vectors ``[k, n]``; all of them where the
        basis spans the whole space.
        """
        ritz = self.krylov.ritz()
        limit = self.wanted.tolerance * float(np.abs(ritz.values).max())
        places = np.arange(len(ritz.values)) if self.krylov.next is None else self._places(ritz)
        places = places[ritz.residuals[places] <= limit]
        return ritz.values[places], self.krylov.combine(ritz.vectors[:, places])

    def _pairs(self, ritz: Ritz, places: npt.NDArray[np.int64]) -> Eigenpairs:
        limit = self.wanted.tolerance * float(np.abs(ritz.values).max())
        residuals = ritz.residuals[places]
        vectors = self.krylov.combine(ritz.vectors[:, places])
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        return Eigenpairs(ritz.values[places], residuals, residuals <= limit, vectors)

    def _places(self, ritz: Ritz) -> npt.NDArray[np.int64]:
        """Where the wanted pairs stand among all, ascending."""
        count = len(ritz.values)
        places = np.arange(count)
        return np.unique(
            np.concatenate([places[: self.wanted.bottom], places[max(0, count - self.wanted.top) :]])
        )

    def _found(self, ritz: Ritz) -> bool:
        return self.worst() <= self.wanted.tolerance and (
            not self.krylov.exhausted or self._nothing_hidden(ritz)
        )

    def _nothing_hidden(self, ritz: Ritz) -> bool:
        """Whether the latest part of the basis has shown its ends, and they aren't among the wanted.

        From one start vector an eigenvalue shows once, however often it occurs. Where the space was
        exhausted, the search goes on from another vector, until that finds nothing that is wanted.
        """
        weight = np.square(ritz.vectors[self.krylov.fresh :]).sum(0)
        latest = np.flatnonzero(weight > _FOLLOWS)
        if not len(latest):
            return False
        limit = self.wanted.tolerance * float(np.abs(ritz.values).max())
        wanted = self._places(ritz)
        ends = [latest[-1]] * bool(self.wanted.top) + [latest[0]] * bool(self.wanted.bottom)
        return all(end not in wanted and ritz.residuals[end] <= limit for end in ends)

    def _best(self, ritz: Ritz) -> FloatArray:
        """The Ritz vectors to keep: the wanted ones, and half as many as there is room for beside them."""
        top, bottom = self.wanted.top, self.wanted.bottom
        extra = (self.capacity - top - bottom) // 2
        more = extra * top // (top + bottom)
        count = len(ritz.values)
        places = np.arange(count)
        keep = np.concatenate([places[: bottom + extra - more], places[count - top - more :]])
        return ritz.vectors[:, np.unique(keep)]


def eigenpairs(
    operator: SymmetricOperator,
    top: int = 5,
    bottom: int = 1,
    *,
    tolerance: float = 1e-3,
    max_products: int = 300,
    seed: int = 0,
) -> tuple[Eigenpairs, Eigenpairs]:
    """The `top` largest and the `bottom` smallest eigenvalues, algebraically, the outermost first.

    Parameters
    ----------
    operator
        A `HessianOperator`, or anything symmetric that multiplies.
    top, bottom
        How many; more than there are gives all.
    tolerance
        Largest residual as a share of the largest absolute eigenvalue. The eigenvalue itself is then closer
        still: its error is about the residual squared over the distance to the next one.
    max_products
        Stop here in any case; `Eigenpairs.converged` says what was reached.
    seed
        Of the start vector.

    Raises
    ------
    UserError
        For numbers that make no sense.
    """
    search = Lanczos(operator, Wanted(top, bottom, tolerance, max_products), seed)
    while not search.done:
        search.advance()
    return search.pairs()
