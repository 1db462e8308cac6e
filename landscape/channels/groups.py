"""Groups of channels: what has to be cut in one go when channels are removed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from landscape.channels.follow import follow
from landscape.channels.labels import Atoms, Labels
from landscape.channels.walk import Role, Touch


@dataclass(frozen=True)
class Place:
    """Where a group's channels lie in one of the network's tensors.

    Attributes
    ----------
    name, dim
        The tensor's name in the ``state_dict``, and the dimension.
    role
        ``filter``: the weight that makes the channels; ``input``: a weight that reads them; what they only
        pass: ``depthwise`` weights, ``scale`` and ``statistic`` of batch norm, ``bias``.
    channels
        For each position along the dimension the channel of the group, -1 for another's: (size,) int64.
    """

    name: str
    dim: int
    role: Role
    channels: Tensor

    def of(self, chosen: Tensor) -> Tensor:
        """Where chosen channels (bool, one per channel) lie: bool, one per position."""
        own = self.channels.clamp(min=0)
        return chosen.to(self.channels.device)[own] & (self.channels >= 0)


@dataclass(frozen=True)
class Group:
    """Channels of one or several layers that depend on each other.

    Attributes
    ----------
    size
        Number of channels.
    places
        All tensors that have them, in the network's order.
    held
        Why none of them may be removed; empty where they may.
    """

    size: int
    places: tuple[Place, ...]
    held: str

    def having(self, *roles: Role) -> tuple[Place, ...]:
        """The places of these roles."""
        return tuple(place for place in self.places if place.role in roles)

    @property
    def makers(self) -> list[str]:
        """Names of the layers whose filters make the channels."""
        return [place.name.removesuffix("weight").removesuffix(".") for place in self.having("filter")]


def channel_groups(model: nn.Module, image: Tensor) -> list[Group]:
    """All groups of a network, those that may not be cut included.

    Parameters
    ----------
    model
        Any network that `torch.fx` can trace; left as it is.
    image
        One input (1, C, H, W), for its shape.

    Raises
    ------
    UserError
        As `landscape.channels.follow.follow`.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> [(one.size, one.makers, one.held) for one in channel_groups(net, torch.zeros(1, 3, 8, 8))]
    [(8, ['0'], ''), (4, ['3'], "they are the network's output")]
    """
    found = follow(model, image)
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    touches = [replace(touch, labels=found.atoms.roots(touch.labels)) for touch in found.touches.values()]
    reasons = found.atoms.reasons()
    return [_group(units, touches, reasons, found.outside, device) for units in _components(touches)]


def _components(touches: Sequence[Touch]) -> Iterator[Labels]:
    """The sets of labels of each group, ascending; filters of one layer are in one group."""
    roots = [touch.labels for touch in touches if touch.role == "filter"]
    together = Atoms()
    together.new(1 + max((int(one.max()) for one in roots), default=-1))
    for one in roots:
        together.join(one, np.full_like(one, one[0]))
    every = np.unique(np.concatenate(roots)) if roots else np.array([], dtype=np.int64)
    owners = together.roots(every)
    for owner in np.unique(owners):
        yield every[owners == owner]


def _group(
    units: Labels,
    touches: Sequence[Touch],
    reasons: Mapping[int, str],
    outside: Collection[str],
    device: torch.device,
) -> Group:
    places = [place for touch in touches if (place := _place(touch, units, device)) is not None]
    held = [reasons[unit] for unit in units.tolist() if unit in reasons]
    held += [f"{one.name} is used elsewhere, too" for one in places if one.name in outside]
    return Group(len(units), tuple(places), next(iter(held), ""))


def _place(touch: Touch, units: Labels, device: torch.device) -> Place | None:
    """The part of a tensor's dimension that a group has; None where it has none. Labels are roots."""
    near = np.minimum(np.searchsorted(units, touch.labels), len(units) - 1)
    channels = np.where(units[near] == touch.labels, near, -1)
    if not (channels >= 0).any():
        return None
    return Place(touch.name, touch.dim, touch.role, torch.from_numpy(channels).to(device))


def positions(groups: Sequence[Group], chosen: Sequence[Tensor]) -> Mapping[str, dict[int, Tensor]]:
    """Where chosen channels lie: by tensor and dimension, bool, one per position."""
    found: dict[str, dict[int, Tensor]] = {}
    for group, part in zip(groups, chosen, strict=True):
        for place in group.places:
            here = place.of(part)
            dims = found.setdefault(place.name, {})
            dims[place.dim] = dims[place.dim] | here if place.dim in dims else here
    return found
