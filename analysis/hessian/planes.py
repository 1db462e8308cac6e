"""Eigenvectors as the plane of a loss surface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from analysis.hessian.result import Spectrum
from landscape.checks.arguments import whole
from landscape.errors import UserError
from landscape.planes import GivenPlane
from landscape.planes.directions import Normalization

End = Literal["top", "bottom"]
Which = tuple[End, int]


def eigenvector_plane(
    spectrum: Spectrum,
    *which: Which,
    normalize: Normalization = "none",
    extra: Mapping[str, Any] | None = None,
) -> GivenPlane:
    """The plane that eigenvectors span.

    Eigenvectors have length 1, so a coordinate is a distance between weights, and the loss's second
    derivative along an axis at the checkpoint is the eigenvalue.

    Parameters
    ----------
    spectrum
        With eigenvectors: just computed, or read from a file that keeps them.
    which
        Ends and ranks, ``("top", 0)`` for the largest eigenvalue's; by default the first two of the top, as
        Ghorbani et al. and Yao et al. ("PyHessian", 2020) draw them.
    normalize
        "none" by default. Any other normalization turns the directions away from the eigenvectors.
    extra
        What else the surface file says about the plane; JSON types only.

    Raises
    ------
    UserError
        When the spectrum holds no such eigenvector, and for ends and normalizations that there aren't.

    Examples
    --------
    ``compute_surface(model, data, plane=eigenvector_plane(spectrum, ("top", 0), ("bottom", 0)))``
    """
    if normalize not in get_args(Normalization):
        raise UserError(
            f"unknown normalization {normalize!r}; expected one of {', '.join(get_args(Normalization))}"
        )
    chosen = [_checked(one) for one in which or (("top", 0), ("top", 1))]
    given = []
    about: dict[str, list[Any]] = {"vectors": [], "eigenvalues": [], "residuals": [], "axes": []}
    for end, rank in chosen:
        pairs = spectrum.top if end == "top" else spectrum.bottom
        if not 0 <= rank < len(pairs.directions):
            raise UserError(
                f"the spectrum holds {len(pairs.directions)} eigenvector(s) of the {end}, number {rank} is "
                "wanted; compute it with more, or keep them in the file with --keep-vectors"
            )
        value = float(pairs.values[rank])
        given.append(pairs.directions[rank])
        about["vectors"].append(f"{end} {rank}")
        about["eigenvalues"].append(value)
        about["residuals"].append(float(pairs.residuals[rank]))
        about["axes"].append(f"{_UNITS[normalize]}, {_symbol(end, rank)} = {_number(value)}")
    facts = {"kind": "hessian", **about, **(extra or {})}
    return GivenPlane(given, normalize, label="Hessian eigenvectors", extra=facts)


def _checked(which: Any) -> Which:
    """An end and a rank; UserError for anything else."""
    if not isinstance(which, tuple | list) or len(which) != 2 or which[0] not in get_args(End):
        raise UserError(f'eigenvector {which!r}; expected ("top", rank) or ("bottom", rank), ranks from 0')
    return which[0], whole("an eigenvector's rank", which[1], -(2**63))


_UNITS: dict[str, str] = {
    "none": "distance",
    "filter": "filter-normalized",
    "layer": "layer-normalized",
    "weight": "weight-normalized",
}


def _symbol(end: str, rank: int) -> str:
    """λ₁, λ₂ … from the top; λmin for the smallest."""
    if end == "bottom":
        return "λmin" if rank == 0 else f"λmin+{rank}"
    return "λ" + "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(rank + 1))


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
