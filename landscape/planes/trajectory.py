"""The plane in which a training moved most: principal components of its path (Li et al. 2018, section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.kept_weights import checked_mask, resolve_mask
from landscape.planes.directions import Params, apply_mask
from landscape.planes.principal import MEMORY, principal_components
from landscape.surface import FloatArray, Path2D

MARGIN = 0.25  # of the path's extent, on each side, per unit of span


@dataclass(frozen=True, eq=False)
class TrajectoryPlane:
    """Through the final network, along the first two principal components of the way there.

    Made by `trajectory_plane`. Directions have length 1, so coordinates are distances in weight space.

    Attributes
    ----------
    components
        One or two directions by parameter name.
    path
        The recorded networks, and last the final one, at (0, 0), projected onto the plane; or those of
        several trainings, one after the other.
    explained_variance
        Each component's share of the variance of the path's points.
    outside_mask
        Share of the squared distances to the final network that lies in weights outside its mask.
    """

    components: tuple[Params, ...]
    path: Path2D
    explained_variance: tuple[float, ...]
    outside_mask: float = 0.0

    def directions(
        self, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dim: int
    ) -> list[Params]:
        """The first `dim` components.

        Raises
        ------
        UserError
            When there are fewer, or the mask isn't that of the components.
        """
        if len(self.components) < dim:
            raise UserError(
                f"the {len(self.path.alpha)} networks of the trajectory lie on one line, a plane needs three "
                "that don't; record more, or use --dim 1"
            )
        chosen = list(self.components[:dim])
        for one in chosen:
            masked = apply_mask(one, mask)
            if any(not torch.equal(value, masked[name]) for name, value in one.items()):
                raise UserError(
                    "the mask leaves out weights along which this plane's trajectory moves; "
                    "make the plane with the same mask"
                )
        return chosen

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        """From a margin before the path to a margin behind it, the final network on the grid."""
        return path_axis(self.path.alpha if index == 0 else self.path.beta, points, span)

    def about(self) -> dict[str, Any]:
        """Kind, number of networks, explained variances, and what the mask leaves out."""
        return {
            "kind": "trajectory",
            "label": self._label(),
            "axes": [
                f"PC {number}, {100 * share:.3g} %"
                for number, share in enumerate(self.explained_variance, start=1)
            ],
            "normalize": "none",
            "networks": len(self.path.alpha),
            **({"paths": [name for name, _ in self.path.parts]} if self.path.parts else {}),
            "explained_variance": list(self.explained_variance),
            "outside_mask": self.outside_mask,
        }

    def _label(self) -> str:
        names = ", ".join(name for name, _ in self.path.parts)
        whose = f"ways of {names}: {len(self.path.alpha)}" if names else f"way of {len(self.path.alpha)}"
        text = f"{whose} networks, principal components with % of variance, distances"
        outside = f", {100 * self.outside_mask:.3g} % of the way outside the mask"
        return text + outside if self.outside_mask else text


def trajectory_plane(
    params: Mapping[str, Tensor],
    networks: Sequence[Mapping[str, Tensor]] | Mapping[str, Sequence[Mapping[str, Tensor]]],
    *,
    mask: Mapping[str, Tensor] | str | None = "auto",
    labels: Sequence[str] | None = None,
    final: str = "final",
    memory: int = MEMORY,
) -> TrajectoryPlane:
    """The plane of a training's path, or of several trainings' paths, for `compute_surface`.

    As Li et al. ("Visualizing the Loss Landscape of Neural Nets", 2018, section 7) and their code: principal
    components of the displacements from the final network, with variances about their mean, taken over all
    parameters, and not rescaled. Buffers such as running statistics don't move; use
    ``batch_norm="recalibrate"``. A sparse network's plane stays where the final mask keeps weights; a
    training that changed its mask is projected there too, and `outside_mask` says what that leaves out.

    Parameters
    ----------
    params
        The final network's parameters.
    networks
        Those of the networks on the way, in order, such as ``dict(model.named_parameters())`` of each. Any
        sequence does; one that loads on demand needs memory for few networks at a time. One at the end that
        equals the final network isn't counted twice. A mapping from names to such sequences has several
        trainings, to whose paths nothing is added: each ends with its own last network.
    mask
        As for `compute_surface`, which must get the same: "auto", "none" or bool tensors.
    labels
        A name per network, over all trainings; numbers from 0 by default.
    final
        The final network's.
    memory
        See `principal_components`.

    Raises
    ------
    UserError
        When there is no network, one doesn't fit the final network, all equal it, or the arguments are
        something else, swapped for instance.
    """
    _check_arguments(params, networks)
    parts: tuple[tuple[str, int], ...] = ()
    if isinstance(networks, Mapping):
        parts = tuple((name, len(one)) for name, one in networks.items())
        networks = _Joined(list(networks.values()))
    if not len(networks) or any(not count for _, count in parts):
        raise UserError("the trajectory holds no network; expected at least one before the final one")
    names = [str(number) for number in range(len(networks))] if labels is None else list(labels)
    if len(names) != len(networks):
        raise UserError(f"{len(names)} labels for {len(networks)} networks; expected one each")
    kept = _kept(mask, params)
    way = networks
    if not parts:
        before = len(networks) - same_weights(params, networks[len(networks) - 1])
        names = [*names[:before], final]
        way = _Way(networks, before, params)
    found = principal_components(params, way, kept, names=names, memory=memory)
    if not found.directions:
        where = " where its mask keeps weights" if kept else ""
        raise UserError(f"the networks of the trajectory all equal the final one{where}; there is no way")
    alpha, beta = (
        found.coordinates[:, axis] if axis < len(found.directions) else np.zeros(len(found.coordinates))
        for axis in (0, 1)
    )
    path = Path2D(alpha, beta, tuple(names), parts)
    return TrajectoryPlane(found.directions, path, tuple(found.explained.tolist()), found.outside)


def _kept(
    mask: Mapping[str, Tensor] | str | None, params: Mapping[str, Tensor]
) -> Mapping[str, Tensor] | None:
    if isinstance(mask, Mapping):
        return checked_mask({name: one for name, one in mask.items() if name in params}, params)
    return resolve_mask("none" if mask is None else mask, None, params)[0]


def _check_arguments(params: object, networks: object) -> None:
    """Refuse what is neither one network nor several; those that load on demand aren't loaded for that."""
    expected = "expected trajectory_plane(params, networks): the final network's tensors by parameter name"
    if not _is_network(params):
        swapped = "; the two are swapped" if _is_network(networks) else ""
        raise UserError(f"params is a {type(params).__name__}{_inside(params)}; {expected}{swapped}")
    if _is_network(networks):
        raise UserError("networks is one network; expected a sequence of them, as in [network]")
    ways = networks if isinstance(networks, Mapping) else {"networks": networks}
    for name, way in ways.items():
        if isinstance(way, str | bytes | Tensor | Mapping) or not (
            hasattr(way, "__len__") and hasattr(way, "__getitem__")
        ):
            raise UserError(
                f"{name} is a {type(way).__name__}; expected a sequence of networks, each tensors by "
                "parameter name"
            )
        bad = [one for one in way if not _is_network(one)] if isinstance(way, list | tuple) else []
        if bad:
            raise UserError(
                f"{name} holds a {type(bad[0]).__name__}{_inside(bad[0])}; expected tensors by parameter "
                "name each, as in dict(model.named_parameters())"
            )


def _is_network(given: object) -> bool:
    return (
        isinstance(given, Mapping)
        and bool(given)
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in given.items())
    )


def _inside(given: object) -> str:
    """What a container holds first."""
    if isinstance(given, Mapping):
        given = list(given.values())
    if not isinstance(given, list | tuple):
        return ""
    return f" of {type(given[0]).__name__}" if given else " that is empty"


def path_axis(path: FloatArray, points: int, span: float) -> FloatArray:
    """Coordinates that hold a path with a margin, 0 among them.

    Parameters
    ----------
    path
        Coordinates along this axis.
    points
        Grid points, evenly spaced.
    span
        The margin on each side is ``span / 4`` of the path's extent, rounded so that 0 is a grid point.

    >>> path_axis(np.array([4.0, 2.0, 0.0]), 7, 1.0)
    array([-1.,  0.,  1.,  2.,  3.,  4.,  5.])
    """
    low, high = min(0.0, float(path.min())), max(0.0, float(path.max()))
    margin = MARGIN * span * ((high - low) or 1.0)
    if points < 2:
        return np.zeros(1)
    step = (high - low + 2 * margin) / (points - 1)
    before = min(max(round((margin - low) / step), 0), points - 1)
    if points > 2:
        before = min(max(before, 1), points - 2)
    after = points - 1 - before
    step = max([step, *([-low / before] if before else []), *([high / after] if after else [])])
    return (np.arange(points, dtype=np.float64) - before) * step


class _Way(Sequence[Mapping[str, Tensor]]):
    """The first networks of a sequence, then the final one."""

    def __init__(
        self, networks: Sequence[Mapping[str, Tensor]], before: int, final: Mapping[str, Tensor]
    ) -> None:
        self.networks, self.before, self.final = networks, before, final

    def __len__(self) -> int:
        return self.before + 1

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:  # type: ignore[override]
        return self.networks[index] if index < self.before else self.final


class _Joined(Sequence[Mapping[str, Tensor]]):
    """Several sequences, one after the other."""

    def __init__(self, ways: Sequence[Sequence[Mapping[str, Tensor]]]) -> None:
        self.places = [(way, index) for way in ways for index in range(len(way))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:  # type: ignore[override]
        way, own = self.places[index]
        return way[own]


def same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether both are the same network, on whatever devices."""
    return first.keys() == second.keys() and all(
        torch.equal(value.cpu(), second[name].cpu()) for name, value in first.items()
    )
