"""The largest and the smallest eigenvalue of one Hessian, each to a relative accuracy of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.hessian.krylov import Ritz, SymmetricOperator
from analysis.hessian.lanczos import Lanczos, Wanted
from landscape.errors import UserError

FLOOR = 0.01  # share of the spectral radius below which an eigenvalue counts as that large

LARGEST_RESIDUAL = 0.1  # of the eigenvalue, however large the gap
CONFIRMED = 8  # products in which both ends, once accurate, must stay where they are


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    Attributes
    ----------
    high, low
        The largest and the smallest eigenvalue, algebraically; inf where the network diverged.
    residual_high, residual_low
        ``‖H y − λ y‖`` for their unit vectors: an eigenvalue lies within this distance.
    products
        Hessian-vector products that it took.
    converged
        Whether the tolerance was met.
    """

    high: float
    low: float
    residual_high: float
    residual_low: float
    products: int
    converged: bool


DIVERGED = Extremes(math.inf, math.inf, math.nan, math.nan, 0, True)


def extremes(
    operator: SymmetricOperator, *, tolerance: float = 0.01, max_products: int = 200, seed: int = 0
) -> Extremes:
    """Both ends by one Lanczos run.

    It ends when the error of each eigenvalue is at most `tolerance` times itself, or times a hundredth of
    the other's size where it is smaller than that. The error is taken as the smaller of the residual r and
    ``r² / gap``, with the gap to the next Ritz value (Parlett, "The symmetric eigenvalue problem", 1980,
    section 11.7), and r itself must be below a tenth: the first few Ritz values lie so far apart that
    ``r² / gap`` alone would believe them. A residual as a share of λmax, the usual rule, would leave the
    far smaller λmin unsettled. Either may be that of another eigenvalue, which the start vector shows first,
    so both ends must stay where they are in `CONFIRMED` more products. On 32 Hessians of small networks, from
    8 start vectors each, 0.4 % of the ends were then further off than a tolerance of 0.01, and 16 % without.

    Parameters
    ----------
    operator
        A `HessianOperator`, or anything symmetric that multiplies.
    tolerance, max_products
        When to stop; the second in any case.
    seed
        Of the start vector.

    Returns
    -------
    Extremes
        `DIVERGED` where a product isn't finite.

    Raises
    ------
    UserError
        For numbers that make no sense.
    """
    if not 0 < tolerance < 1:
        raise UserError(f"tolerance of the eigenvalues must lie between 0 and 1, got {tolerance}")
    # Met only after `_accurate` is, but for spaces that are exhausted before.
    search = Lanczos(operator, Wanted(1, 1, FLOOR * tolerance, max_products), seed)
    since, confirmed = _Since(tolerance), False
    while not (confirmed or search.done):
        search.advance()
        krylov = search.krylov
        if not (np.isfinite(krylov.projected).all() and np.isfinite(krylov.coupling).all()):
            return DIVERGED
        # Where the space was exhausted an eigenvalue may hide; the search then looks for it.
        confirmed = since.see(krylov.ritz()) >= CONFIRMED and not krylov.exhausted
    ritz = search.krylov.ritz()
    whole = search.krylov.next is None
    settled = confirmed or whole or search.products < max_products
    values, residuals = ritz.values, ritz.residuals
    return Extremes(
        float(values[-1]),
        float(values[0]),
        float(residuals[-1]),
        float(residuals[0]),
        search.products,
        bool(settled),
    )


class _Since:
    """How many products ago both ends became accurate and stayed where they are."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance, self._products = tolerance, 0
        self._ends = np.full(2, np.nan)

    def see(self, ritz: Ritz) -> int:
        """Take one more product's values into account."""
        ends = ritz.values[[0, -1]] if len(ritz.values) else np.zeros(2)
        size = np.maximum(np.abs(ends), FLOOR * np.abs(ritz.values).max(initial=0.0))
        if not _accurate(ritz, self._tolerance):
            self._ends = np.full(2, np.nan)
        elif bool((np.abs(ends - self._ends) <= self._tolerance * size).all()):
            self._products += 1
            return self._products
        else:
            self._ends = ends
        self._products = 0
        return 0


def _accurate(ritz: Ritz, tolerance: float) -> bool:
    """Whether both ends are settled; never before three Ritz values show a gap at each end."""
    values, residuals = ritz.values, ritz.residuals
    if len(values) < 3:
        return False
    scale = float(np.abs(values).max())
    for place, following in ((-1, -2), (0, 1)):
        residual, gap = float(residuals[place]), abs(float(values[place] - values[following]))
        error = min(residual, residual**2 / gap) if gap else residual
        size = max(abs(float(values[place])), FLOOR * scale)
        if error > tolerance * size or residual > LARGEST_RESIDUAL * size:
            return False
    return True
