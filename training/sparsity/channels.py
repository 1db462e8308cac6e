"""What methods that remove channels share: which ones may go, masks of them, what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from landscape.channels.groups import Group, channel_groups, positions
from landscape.channels.shrink import unread, unwritten
from landscape.errors import UserError
from training.flops import ForwardFlops
from training.masks import Mask
from training.sparsity.base import Source

Share = Literal["channels", "flops"]


def one_image(source: Source) -> Tensor:
    """A normalized training image (1, 3, H, W), always the same."""
    return source.draw(1, torch.Generator().manual_seed(0))[0]


def removable_groups(model: nn.Module, image: Tensor, but: Callable[[Group], str]) -> list[Group]:
    """Channels that one layer makes and that may go; those of residual sums, made by several, stay.

    Parameters
    ----------
    but
        Why a method leaves a group alone; empty where it doesn't.

    Raises
    ------
    UserError
        When there are none, with the reasons.
    """
    chosen: list[Group] = []
    reasons: list[str] = []
    for group in _groups(model, image):
        reason = group.held or ("" if len(group.makers) == 1 else "several layers add to them") or but(group)
        if reason:
            reasons.append(f"those of {group.makers[0] or 'the only layer'}: {reason}")
        else:
            chosen.append(group)
    if not chosen:
        raise UserError(
            f"no channel of this {type(model).__name__} can be removed ({'; '.join(reasons[:3])}); "
            "choose another network, or a method that prunes single weights"
        )
    return chosen


def _groups(model: nn.Module, image: Tensor) -> list[Group]:
    """As `channel_groups`, once for a network: a training changes no layer's size."""
    kind = image.shape, next(model.parameters()).device
    if _FOLLOWED.get(model, (None,))[0] != kind:
        _FOLLOWED[model] = kind, channel_groups(model, image)
    return _FOLLOWED[model][1]


_FOLLOWED: WeakKeyDictionary[nn.Module, tuple[tuple[torch.Size, torch.device], list[Group]]] = (
    WeakKeyDictionary()
)


def kept_mask(model: nn.Module, groups: Sequence[Group], kept: Sequence[Tensor]) -> Mask:
    """Filters, depthwise weights and reading weights of the kept channels; bool by weight name.

    `kept` are bool, one per channel of each group.
    """
    masks: Mask = {}
    gone = positions(groups, [~part for part in kept])
    for name, weight in model.named_parameters():
        if name in gone and weight.dim() > 1:
            masks[name] = torch.ones_like(weight, dtype=torch.bool)
            for dim, part in gone[name].items():
                masks[name].movedim(dim, 0)[part] = False
    return masks


def gone_channels(model: nn.Module, mask: Mapping[str, Tensor], group: Group) -> Tensor:
    """Channels (bool) that are neither made nor read by a weight of the mask, nor by one without a mask."""
    tensors = dict(model.named_parameters()) | dict(mask)
    return unread(tensors, group) & unwritten(tensors, group)


def silenced_channels(model: nn.Module, groups: Sequence[Group], gone: Sequence[Tensor]) -> Mask:
    """Batch norm's scales and all biases of the channels that are gone: bool, True = kept."""
    parameters = dict(model.named_parameters())
    return {
        name: ~part
        for name, dims in positions(groups, gone).items()
        for part in dims.values()
        if name in parameters and parameters[name].dim() == 1 and bool(part.any())
    }


def lowest(scores: Sequence[Tensor], count: int) -> list[int]:
    """How many of each group's channels are among the `count` lowest of all; ties go by order.

    >>> lowest([torch.tensor([3.0, 1.0]), torch.tensor([2.0, 9.0, 1.5])], 3)
    [1, 2]
    """
    owners = torch.cat([torch.full((len(one),), number) for number, one in enumerate(scores)])
    order = torch.sort(torch.cat([one.detach().cpu().double() for one in scores]), stable=True).indices
    return torch.bincount(owners[order[:count]], minlength=len(scores)).tolist()


def left(groups: Sequence[Group], scores: Sequence[Tensor], count: int) -> list[int]:
    """Channels that each group keeps when the `count` lowest go: one at least."""
    return [max(1, group.size - lost) for group, lost in zip(groups, lowest(scores, count), strict=True)]


def count_to_remove(
    groups: Sequence[Group], scores: Sequence[Tensor], share: float, of: Share, cost: Cost
) -> int:
    """How many of the lowest channels go: a share of all, or the fewest that save a share of the FLOPs.

    Raises
    ------
    UserError
        When so many FLOPs can't be saved.
    """
    total = sum(group.size for group in groups)
    if of == "channels":
        return round(share * total)
    low, high = 0, total
    if cost(left(groups, scores, total)) > 1 - share:
        most = 1 - cost(left(groups, scores, total))
        raise UserError(
            f"sparsity {share:g}: only {most:.3f} of the FLOPs go with all channels but one in each layer"
        )
    while low < high:
        middle = (low + high) // 2
        saves = cost(left(groups, scores, middle)) <= 1 - share
        low, high = (low, middle) if saves else (middle + 1, high)
    return low


class Cost:
    """FLOPs of an image as a share of the dense network's, by how many channels each group keeps."""

    def __init__(self, groups: Sequence[Group], flops: ForwardFlops) -> None:
        self.groups, self.flops = groups, flops

    def __call__(self, counts: Sequence[int]) -> float:
        """The share, for the groups' counts in their order."""
        shares: dict[str, dict[int, float]] = {}
        for group, count in zip(self.groups, counts, strict=True):
            for place in group.having("filter", "input", "depthwise"):
                lost = float((place.channels >= 0).double().mean()) * (1 - count / group.size)
                dims = shares.setdefault(place.name, {})
                dims[place.dim] = dims.get(place.dim, 1.0) - lost
        spent = sum(
            cost * math.prod(shares.get(name, {}).values()) for name, cost in self.flops.layers.items()
        )
        return (spent + self.flops.other) / self.flops.dense
