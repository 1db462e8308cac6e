"""Eigenvectors as the plane of a loss surface."""

from __future__ import annotations

from typing import Literal

from analysis.hessian.result import Spectrum
from landscape.errors import UserError
from landscape.planes import GivenPlane

Which = tuple[Literal["top", "bottom"], int]


def eigenvector_plane(spectrum: Spectrum, *which: Which) -> GivenPlane:
    """The plane that eigenvectors span, at their own length 1 (not filter-normalized).

    Parameters
    ----------
    spectrum
        With eigenvectors: just computed, or read from a file that keeps them.
    which
        Ends and ranks, ``("top", 0)`` for the largest eigenvalue's; by default the first two of the top, as
        Ghorbani et al. and Yao et al. ("PyHessian", 2020) draw them.

    Raises
    ------
    UserError
        When the spectrum holds no such eigenvector.

    Examples
    --------
    ``compute_surface(model, data, plane=eigenvector_plane(spectrum, ("top", 0), ("bottom", 0)))``
    """
    chosen = which or (("top", 0), ("top", 1))
    given, values = [], []
    for end, rank in chosen:
        pairs = spectrum.top if end == "top" else spectrum.bottom
        if not 0 <= rank < len(pairs.directions):
            raise UserError(
                f"the spectrum holds {len(pairs.directions)} eigenvector(s) of the {end}, number {rank} is "
                "wanted; compute it with more, or keep them in the file with --keep-vectors"
            )
        given.append(pairs.directions[rank])
        values.append(float(pairs.values[rank]))
    names = [f"{end} {rank}" for end, rank in chosen]
    return GivenPlane(given, label="Hessian eigenvectors", extra={"vectors": names, "eigenvalues": values})
