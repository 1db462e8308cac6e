"""Chase: dynamic sparse training whose weakest channels go one by one, so that a smaller network is left.

Yin et al., "Dynamic Sparsity Is Channel-Level Sparsity Learner", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from landscape.channels.groups import Group
from training.masks import Mask, kept
from training.sparsity.base import Gradient, MaskedMethod, Moment, Situation, Source
from training.sparsity.channels import (
    kept_mask,
    one_image,
    removable_groups,
    silenced_channels,
)
from training.sparsity.distribution import Distribution
from training.sparsity.prune_grow import begins_interval, check_positive, check_share, whole_steps
from training.sparsity.random import Random
from training.sparsity.ranking import top


@dataclass(frozen=True)
class Chase(MaskedMethod):
    """Drop and grow weights over all layers at once, with more of them than wanted at first; remove channels.

    Every change of the weights drops the smallest |w| of the network down to the sparsity and grows where
    |gradient| is largest, up to a density that falls from `soft_bound` above the wanted one to it, as a
    cosine. From `stop` on a change drops and grows a share of the weights instead, and no channel is removed
    any more. Grown weights start from 0; places just emptied are candidates. The batch of a change makes no
    step.

    Channels that one layer makes and a single convolution reads are ranked over all layers and removed for
    good, filter, batch norm and reading weights: their number grows as 1 − (1 − t)³. Sparsity is counted over
    all weights of the network with all its channels, so those that are left become denser. The authors thin
    what is too much for an event at random; here exactly as many channels go as are due.

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers at first.
    channel_sparsity
        Share of the channels that may be removed that is gone in the end (S_c).
    least
        A layer keeps this share of the channels that it would keep if all layers lost the same (β; 0.2 for
        VGG-19, 0.5 for ResNet-50), and one at least.
    score
        What a channel's rank is the mean of: |w| of all weights of its filter, or of the kept ones.
    interval
        Epochs from change to change of the weights; fractions are rounded to whole steps.
    channel_interval
        Epochs from removal to removal; each comes half an `interval` before a change of the weights.
    soft_bound
        Density above the wanted one at the beginning.
    exchange
        Share of the kept weights that changes after `stop` would drop and grow at the beginning and at the
        end of the training; a cosine between.
    stop
        Share of the training at which the sparsity is reached and the last channel removed.
    """

    distribution: Distribution = "erk"
    channel_sparsity: float = 0.5
    least: float = 0.5
    score: Literal["all", "kept"] = "all"
    interval: float = 2.0
    channel_interval: float = 2.0
    soft_bound: float = 0.05
    exchange: tuple[float, float] = (0.5, 0.005)
    stop: float = 130 / 160

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("channel_sparsity", "least", "soft_bound", "stop"):
            check_share(name.replace("_", "-"), getattr(self, name))
        for name in ("interval", "channel_interval"):
            check_positive(name.replace("_", "-"), getattr(self, name))
        for share in self.exchange:
            check_share("exchange", share)

    @property
    def structured(self) -> bool:
        """Channels are removed."""
        return True

    @property
    def gradient(self) -> Gradient:
        """Growth looks at the gradients of pruned weights."""
        return "dense"

    def groups(self, model: nn.Module, image: Tensor) -> list[Group]:
        """The channels that may go: between two convolutions that have masks."""
        masked = self.maskable(model)

        def why_not(group: Group) -> str:
            readers = group.having("input")
            if len(readers) != 1 or model.get_parameter(readers[0].name).dim() < 3:
                return "not exactly one convolution reads them"
            dense = [
                one.name for one in group.having("filter", "input", "depthwise") if one.name not in masked
            ]
            return f"{dense[0]} is kept dense" if dense else ""

        return removable_groups(model, image, why_not)

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Draw at random; no channel is removed yet."""
        self.groups(model, one_image(source))  # a network that has none is refused now
        random = Random(self.sparsity, self.distribution, keep_dense=self.keep_dense)
        return random.init_mask(model, source, generator)

    def silenced(self, model: nn.Module, mask: Mask, image: Tensor, memory: Mapping[str, Any]) -> Mask:
        """Batch norm of the removed channels; of one that happens to have no weight left it goes on."""
        if not memory:
            return {}
        groups = self.groups(model, image)
        return silenced_channels(model, groups, [_removed(memory, group) for group in groups])

    def last_step(self, moment: Moment) -> int:
        """When the sparsity and the number of channels are reached; at least 1."""
        return max(1, min(round(self.stop * moment.steps), moment.steps - 1))

    def update_due(self, moment: Moment) -> bool:
        """Where weights or channels change."""
        return self.weights_due(moment) or self.channels_due(moment)

    def weights_due(self, moment: Moment) -> bool:
        """After each interval, and at the last step of the soft bound."""
        inside = 0 < moment.step < moment.steps
        return inside and (begins_interval(moment, self.interval) or moment.step == self.last_step(moment))

    def channels_due(self, moment: Moment) -> bool:
        """Half an `interval` before each `channel_interval` ends, and at the last step."""
        half = whole_steps(self.interval / 2, moment)
        shifted = Moment(moment.step + half, moment.steps, moment.steps_per_epoch)
        last = self.last_step(moment)
        due = moment.step == last or begins_interval(shifted, self.channel_interval)
        return 0 < moment.step <= last and due

    def density(self, moment: Moment) -> float:
        """Of the weights after a change at `moment`, D(t)."""
        share = min(1.0, moment.step / self.last_step(moment))
        return min(1.0, 1 - self.sparsity + self.soft_bound / 2 * (1 + math.cos(math.pi * share)))

    def exchanged(self, moment: Moment) -> float:
        """Share of the kept weights that a change at `moment` drops, after the soft bound's end."""
        high, low = self.exchange
        return low + (high - low) / 2 * (1 + math.cos(math.pi * moment.step / moment.steps))

    def removed_share(self, moment: Moment) -> float:
        """Share of the channels that is to be gone at `moment`."""
        left = 1 - min(1.0, moment.step / self.last_step(moment))
        return self.channel_sparsity * (1 - left**3)

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """The masks after removing channels, after dropping and after growing, as far as they are due."""
        groups = self.groups(now.model, one_image(now.source))
        present = [~_removed(now.memory, group) for group in groups]
        masks = [now.mask]
        if self.channels_due(now.moment):
            present = self._fewer(now, groups, present)
            for group, part in zip(groups, present, strict=True):
                now.memory[_key(group)] = ~part
            room = kept_mask(now.model, groups, present)
            masks.append({name: part & room.get(name, part) for name, part in now.mask.items()})
        if self.weights_due(now.moment):
            room = kept_mask(now.model, groups, present)
            masks += self._mutated(now, masks[-1], room)
        return masks[1:]

    def _fewer(self, now: Situation, groups: Sequence[Group], present: Sequence[Tensor]) -> list[Tensor]:
        """Leave out the lowest channels, as many as are due, none below a layer's least number."""
        total = sum(group.size for group in groups)
        due = round(self.removed_share(now.moment) * total) - sum(int((~one).sum()) for one in present)
        scores = [self._scores(now, group) for group in groups]
        owners = [(number, channel) for number, group in enumerate(groups) for channel in range(group.size)]
        order = torch.sort(torch.cat(scores), stable=True).indices.tolist()
        left = [part.clone() for part in present]
        room = [
            int(part.sum()) - self.least_channels(group) for group, part in zip(groups, left, strict=True)
        ]
        for number, channel in (owners[one] for one in order):
            if due > 0 and room[number] > 0 and bool(left[number][channel]):
                left[number][channel] = False
                room[number] -= 1
                due -= 1
        return left

    def least_channels(self, group: Group) -> int:
        """Channels that a layer keeps at least."""
        return max(1, int(group.size * (1 - self.channel_sparsity) * self.least))

    def _scores(self, now: Situation, group: Group) -> Tensor:
        """Mean |w| of each channel's filter, (channels,) float64 on the CPU."""
        name = group.having("filter")[0].name
        sizes = now.model.get_parameter(name).detach().abs().flatten(1).double()
        counts = now.mask[name].flatten(1).sum(1).clamp(min=1) if self.score == "kept" else sizes.shape[1]
        return (sizes.sum(1) / counts).cpu()

    def _mutated(self, now: Situation, mask: Mask, room: Mapping[str, Tensor]) -> list[Mask]:
        """Masks after dropping and after growing where channels are left (`room`)."""
        total, count = sum(part.numel() for part in mask.values()), kept(mask)
        if now.moment.step <= self.last_step(now.moment):
            keep, target = round((1 - self.sparsity) * total), round(self.density(now.moment) * total)
        else:
            keep, target = count - int(self.exchanged(now.moment) * count), count
        sizes = {name: weight.detach().abs() for name, weight in now.weights().items()}
        dropped = _best(sizes, mask, keep)
        free = {name: room.get(name, torch.ones_like(part)) & ~part for name, part in dropped.items()}
        growth = {name: now.gradients[name].abs() for name in mask}
        grown = _best(growth, free, target - kept(dropped))
        return [dropped, {name: part | grown[name] for name, part in dropped.items()}]


def _key(group: Group) -> str:
    return f"removed {group.makers[0]}"


def _removed(memory: Mapping[str, Any], group: Group) -> Tensor:
    """The group's channels (bool) that are gone for good; kept in the method's memory."""
    none = torch.zeros(group.size, dtype=torch.bool, device=group.places[0].channels.device)
    found: Tensor = memory.get(_key(group), none)
    return found


def _best(scores: Mapping[str, Tensor], among: Mapping[str, Tensor], count: int) -> Mask:
    """Where the `count` largest scores of all tensors are, among some; ties go to the earlier place."""
    flat = [torch.cat([one[name].reshape(-1) for name in among]) for one in (scores, among)]
    chosen = top(flat[0], count, flat[1])
    parts = torch.split(chosen, [part.numel() for part in among.values()])
    return {name: part.reshape(among[name].shape) for name, part in zip(among, parts, strict=True)}
