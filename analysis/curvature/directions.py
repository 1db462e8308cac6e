"""The directions of a stored plane again: kept in the file, or made anew from its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from landscape.compute import directions_digest
from landscape.errors import UserError
from landscape.planes import GivenPlane, RandomPlane
from landscape.planes.directions import Normalization, Params
from landscape.surface import Surface


def plane_directions(
    surface: Surface,
    number: int,
    params: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None,
    eigenvectors: Sequence[Mapping[str, Tensor]] = (),
) -> list[Params]:
    """One direction per axis of plane `number`, the same bits as those that the surface was computed along.

    Parameters
    ----------
    surface
        As stored.
    params, mask
        The network's parameters by name, and the mask of the surface (None: none).
    eigenvectors
        Directions of a Hessian plane, where the caller has them and the file doesn't.

    Raises
    ------
    UserError
        When the file kept none and they don't follow from its description, or they come out otherwise.
    """
    plane = surface.planes[number]
    about, dim = plane.about, surface.dim
    normalize: Normalization = about.get("normalize", "none")
    if plane.directions:
        found = [{name: torch.from_numpy(value) for name, value in axis.items()} for axis in plane.directions]
    elif about.get("kind") == "random":
        spec = RandomPlane(int(about["seed"]), normalize, bool(about.get("skip_vectors", True)))
        found = spec.directions(params, mask, dim)
    elif about.get("kind") == "hessian" and eigenvectors:
        found = GivenPlane(eigenvectors, normalize).directions(params, mask, dim)
    elif about.get("kind") == "curve":
        raise UserError(
            "a curve of analysis.connectivity has no curvature map; a straight line between two networks is "
            "`landscape.surface a.pt --between b.pt --dim 1 --keep-directions`"
        )
    else:
        raise UserError(
            f"plane {number} ({about.get('label') or about.get('kind')}) doesn't hold its directions; "
            "compute the surface with --keep-directions"
        )
    described = surface.settings.get("planes", [{}] * len(surface.planes))[number]
    found = [{name: axis[name] for name in params if name in axis} for axis in found]  # in order
    if described.get("digest") not in (None, directions_digest(found)):
        raise UserError(
            f"the directions of plane {number} come out differently here than when the surface was computed; "
            "compute the surface with --keep-directions"
        )
    return found
