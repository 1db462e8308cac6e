"""The largest and the smallest eigenvalues, with their eigenvectors and residuals.

Lanczos with full reorthogonalization; when the basis has grown to its limit it restarts with the best Ritz
vectors (thick restart: Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems",
2000). Without a restart no method takes fewer products from one start vector.

From one start vector an eigenvalue is found once, however often it occurs. So what was found is set aside,
and the search begins anew beside it, until a beginning shows nothing more that is wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.hessian.krylov import FloatArray, Krylov, Ritz, SymmetricOperator, random_unit
from landscape.checks.arguments import number, whole
from landscape.errors import UserError

BASIS_BYTES = 4 << 30
_EXTRA = 20  # basis vectors beyond the wanted ones without which a restart would hardly advance
_SETTLED = 1 / 3  # of the tolerance, at which pairs are set aside: mixtures of equal ones then meet it, too
_RISK = 0.01  # of leaving a repeated eigenvalue unseen, over the start vectors
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
        for name in ("top", "bottom"):  # kept in Python's own numbers, which JSON can hold
            object.__setattr__(self, name, whole(name, getattr(self, name), -(2**63)))
        if self.top < 0 or self.bottom < 0 or self.top + self.bottom < 1:
            raise UserError(f"top {self.top} and bottom {self.bottom}: expected at least one eigenvalue")
        if not 0 < number("tolerance", self.tolerance) < 1:
            raise UserError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        object.__setattr__(self, "tolerance", float(self.tolerance))
        object.__setattr__(self, "max_products", whole("max_products", self.max_products))


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
            or (self.krylov.size > 0 and self._complete(self.krylov.ritz()))
        )

    def advance(self) -> None:
        """One product; the basis is compressed first where it is full, or where what it shows is settled."""
        settled = self.krylov.size > 0 and self.worst() <= _SETTLED * self.wanted.tolerance
        if settled and not self.krylov.exhausted and self.krylov.next is not None:
            ritz = self.krylov.ritz()
            if not self.krylov.restarts or self._shown(ritz):
                self.krylov.restart(self.operator, ritz.vectors[:, self._places(ritz)])
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

    def _complete(self, ritz: Ritz) -> bool:
        """Whether the wanted pairs are accurate, and none is hidden by one that is equal to it."""
        if self.worst() > self.wanted.tolerance:
            return False
        if self.krylov.exhausted:
            return self._ends_are_settled(ritz)
        return self.krylov.restarts > 0 and not self._shown(ritz) and self._ends_are_settled(ritz)

    def _latest(self, ritz: Ritz) -> npt.NDArray[np.int64]:
        """Places of the Ritz pairs that belong to the latest part of the basis, ascending."""
        weight = np.square(ritz.vectors[self.krylov.fresh :]).sum(0)
        return np.flatnonzero(weight > _FOLLOWS)

    def _shown(self, ritz: Ritz) -> bool:
        """Whether the latest part of the basis holds one of the wanted pairs."""
        return bool(np.isin(self._latest(ritz), self._places(ritz)).any())

    def _ends_are_settled(self, ritz: Ritz) -> bool:
        """Whether the latest part of the basis has shown its ends, and they aren't among the wanted.

        An end is settled when its residual is within the tolerance, or when so many products from a random
        vector would have shown anything beyond the wanted ones: the chance of staying ε of the spread below
        the largest of n eigenvalues in k products is at most ``1.648 √n exp(−√ε (2k − 1))`` (Kuczyński and
        Woźniakowski, "Estimating the largest eigenvalue by the power and Lanczos algorithms with a random
        start", 1992).
        """
        latest, wanted = self._latest(ritz), self._places(ritz)
        if not len(latest):
            return False
        limit = self.wanted.tolerance * float(np.abs(ritz.values).max())
        ends = [(latest[-1], 1, self.wanted.top), (latest[0], -1, self.wanted.bottom)]
        return all(
            end not in wanted and (ritz.residuals[end] <= limit or self._unlikely(ritz, end, sign, count))
            for end, sign, count in ends
            if count
        )

    def _unlikely(self, ritz: Ritz, end: int, sign: int, count: int) -> bool:
        """Whether an eigenvalue beyond the last wanted one at this side would have shown by now."""
        steps = self.krylov.size - self.krylov.fresh
        last = ritz.values[-count] if sign > 0 else ritz.values[count - 1]
        spread = float(last - ritz.values[0]) if sign > 0 else float(ritz.values[-1] - last)
        share = max(0.0, sign * float(last - ritz.values[end])) / spread if spread > 0 else 0.0
        bound = 1.648 * math.sqrt(self.operator.size) * math.exp(-math.sqrt(share) * (2 * steps - 1))
        return bound <= _RISK

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
