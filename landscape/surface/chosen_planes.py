"""The planes that the command's options describe."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from landscape.commandline.subject import Subject, load_network
from landscape.planes import BetweenPlane, PlaneSpec, RandomPlane
from landscape.planes.directions_file import read_directions
from landscape.planes.snapshots import trajectory_of
from landscape.surface.surface_options import SurfaceOptions


def chosen_planes(options: SurfaceOptions, subject: Subject) -> list[PlaneSpec]:
    """All but the Hessian's, which needs the examples (`landscape.surface.hessian_plane`).

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
        return [trajectory_of(plane.trajectory, load, subject.loaded.name, subject.params, subject.mask)]
    if plane.directions is not None:
        return [read_directions(plane.directions, plane.normalize or "none")]
    first = RandomPlane(plane.seed, plane.normalize or "filter")
    return [replace(first, seed=plane.seed + number) for number in range(plane.planes)]
