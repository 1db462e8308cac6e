"""The planes that the command's options describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from landscape.commandline.command import load_network
from landscape.planes import BetweenPlane, PlaneSpec, RandomPlane
from landscape.planes.directions_file import read_directions
from landscape.planes.snapshots import trajectory_of
from landscape.surface.surface_options import Options


def chosen_planes(
    options: Options, name: str, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None
) -> list[PlaneSpec]:
    """All but the Hessian's, which needs the examples (`landscape.planes.hessian`).

    Parameters
    ----------
    options
        Of the command.
    name, params, mask
        The network's name, parameters and mask.

    Raises
    ------
    UserError
        For a file that can't be read or doesn't fit.
    """
    plane = options.plane
    if plane.between:
        others = [load_network(path, options.network) for path in plane.between]
        weights = [{key: value.detach() for key, value in one.model.named_parameters()} for one in others]
        names = tuple(one.name for one in others)
        third = weights[1] if len(weights) > 1 else None
        return [BetweenPlane(weights[0], third, names, plane.seed, plane.normalize or "filter")]
    if plane.trajectory:
        load = partial(load_network, network=options.network, quiet=True)
        return [trajectory_of(plane.trajectory, load, name, params, mask)]
    if plane.directions is not None:
        return [read_directions(plane.directions, plane.normalize or "none")]
    first = RandomPlane(plane.seed, plane.normalize or "filter")
    return [replace(first, seed=plane.seed + number) for number in range(plane.planes)]
