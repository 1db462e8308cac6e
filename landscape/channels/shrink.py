"""The same network with fewer channels: those that no layer reads are left out.

A channel is unread when every weight that would multiply it is exactly 0. Then the output doesn't depend on
it, whatever it holds, and its filter, its places in batch norm and the weights that would read it can go.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.channels.groups import Group, Place, channel_groups, positions
from landscape.channels.same import require_same
from landscape.channels.sizes import set_tensors


@dataclass(frozen=True)
class Shrunk:
    """A network without its unread channels.

    Attributes
    ----------
    model
        A copy with smaller layers of the same kinds and names.
    mask
        The given mask without what was cut away; tensors of which it keeps everything have none.
    before, after
        Channels by the layer that makes them, before and after.
    shapes
        Of the tensors that are smaller now, by name.
    """

    model: nn.Module
    mask: dict[str, Tensor]
    before: dict[str, int]
    after: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


@torch.no_grad()
def shrink(model: nn.Module, image: Tensor, mask: Mapping[str, Tensor] | None = None) -> Shrunk:
    """Leave out every channel that no layer reads; each group keeps one at least.

    Parameters
    ----------
    model
        Any network that `torch.fx` can trace; left as it is.
    image
        One input (1, C, H, W), or several, for its shape; the smaller network is compared on it.
    mask
        Bool by weight name, True = kept, for the weights that are pruned one by one.

    Raises
    ------
    UserError
        When the network's channels can't be followed, or when outputs would be others without them.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> _ = net[2].weight.data[:, :5].zero_()
    >>> shrink(net, torch.zeros(1, 3, 8, 8)).model[0]
    Conv2d(3, 3, kernel_size=(3, 3), stride=(1, 1))
    """
    groups = [group for group in channel_groups(model, image) if not group.held]
    tensors = dict(model.named_parameters())
    kept = [_at_least_one(~unread(tensors, group)) for group in groups]
    gone = positions(groups, [~part for part in kept])
    copied = copy.deepcopy(model)
    state = dict(copied.named_parameters()) | dict(copied.named_buffers())
    smaller = {name: cut(state[name], dims) for name, dims in gone.items() if _any(dims)}
    set_tensors(copied, smaller)
    if smaller:
        require_same(model, copied, image)
    left = {name: cut(part, gone.get(name, {})) for name, part in (mask or {}).items()}
    return Shrunk(
        model=copied,
        mask={name: part for name, part in left.items() if not bool(part.all())},
        before={maker: group.size for group in groups for maker in group.makers},
        after={
            maker: int(part.sum()) for group, part in zip(groups, kept, strict=True) for maker in group.makers
        },
        shapes={name: tuple(value.shape) for name, value in smaller.items()},
    )


def unread(tensors: Mapping[str, Tensor], group: Group) -> Tensor:
    """Channels (bool) whose every reading weight is exactly 0; none of a group that nothing reads.

    `tensors` are weights, or masks, by name.
    """
    readers = group.having("input")
    if not readers:
        return torch.zeros(group.size, dtype=torch.bool, device=group.places[0].channels.device)
    return ~_with_weights(tensors, group, readers)


def unwritten(tensors: Mapping[str, Tensor], group: Group) -> Tensor:
    """Channels (bool) whose filters have no weight but 0; `tensors` as for `unread`."""
    return ~_with_weights(tensors, group, group.having("filter"))


def _with_weights(tensors: Mapping[str, Tensor], group: Group, places: Sequence[Place]) -> Tensor:
    """Channels that have a weight other than 0 at one of the places."""
    found = torch.zeros(group.size, dtype=torch.bool, device=group.places[0].channels.device)
    for place in places:
        there = (tensors[place.name].detach().movedim(place.dim, 0).flatten(1) != 0).any(1)
        found[place.channels[there & (place.channels >= 0)]] = True
    return found


def cut(value: Tensor, gone: Mapping[int, Tensor]) -> Tensor:
    """A copy of a tensor without some positions (bool) of some dimensions."""
    for dim, part in gone.items():
        value = value.index_select(dim, (~part).nonzero().squeeze(1))
    return value.detach().clone(memory_format=torch.preserve_format)


def _any(dims: Mapping[int, Tensor]) -> bool:
    return any(bool(part.any()) for part in dims.values())


def _at_least_one(kept: Tensor) -> Tensor:
    if not bool(kept.any()):
        kept[0] = True
    return kept
