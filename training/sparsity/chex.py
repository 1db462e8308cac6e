"""CHEX: channels leave and return during one training, and only fewer and fewer return.

Hou et al., "CHEX: CHannel EXploration for CNN Model Compression", 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.channels.groups import Group, positions
from landscape.errors import UserError
from training.flops import forward_flops
from training.masks import Mask, prunable
from training.sparsity.base import Moment, Situation, Source, SparsityMethod
from training.sparsity.channels import (
    Cost,
    Share,
    count_to_remove,
    gone_channels,
    kept_mask,
    left,
    one_image,
    removable_groups,
    silenced_channels,
)
from training.sparsity.prune_grow import begins_interval, check_positive, check_share
from training.sparsity.ranking import top

_USED = "last used "  # memory: a tensor of the model's state, each channel as it was when last present


@dataclass(frozen=True)
class Chex(SparsityMethod):
    """Keep the channels that span a layer's filters best; let some others return with their old values.

    How many a layer keeps follows from batch norm's scales of all layers together, and which ones from the
    leverage scores of its filters (the L1 norm where a filter has fewer weights than there are filters). The
    first convolution and the channels of residual sums stay. A channel that goes takes its filter, its batch
    norm and the weights that read it along. One that returns has no momentum.

    Attributes
    ----------
    sparsity
        Share of the channels, or of the FLOPs, that is gone in the end (S), in [0, 1).
    of
        What `sparsity` counts: channels, as published, or flops of an image.
    regrow
        Share by which fewer are gone at first (δ₀); it falls to 0 as a cosine. By default the authors' 0.2 at
        sparsity 0.5 and 0.3 at 0.7, in between and beyond on their line.
    interval
        Epochs from change to change (ΔT); fractions are rounded to whole steps.
    stop
        Share of the training at which the channels change for the last time (T_max).
    """

    sparsity: float = 0.5
    of: Share = "channels"
    regrow: float | None = None
    interval: float = 2.0
    stop: float = 0.72

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UserError(f"sparsity {self.sparsity}: expected a share of at least 0 and below 1")
        check_positive("interval", self.interval)
        check_share("stop", self.stop)
        if self.regrow is not None and not 0 <= self.regrow <= self.sparsity:
            raise UserError(f"regrow {self.regrow}: expected 0 to the sparsity {self.sparsity}")

    @property
    def structured(self) -> bool:
        """Channels are removed."""
        return True

    @property
    def first_regrow(self) -> float:
        """δ₀, given or published."""
        return max(0.0, 0.5 * self.sparsity - 0.05) if self.regrow is None else self.regrow

    def last_step(self, moment: Moment) -> int:
        """When the channels change for the last time; at least 1."""
        return max(1, min(round(self.stop * moment.steps), moment.steps - 1))

    def returning(self, moment: Moment) -> float:
        """Share by which fewer are gone after a change at `moment` (δ_t)."""
        share = min(1.0, moment.step / self.last_step(moment))
        return self.first_regrow * (1 + math.cos(math.pi * share)) / 2

    def update_due(self, moment: Moment) -> bool:
        """After each interval, and at the last step of all changes."""
        last = self.last_step(moment)
        return 0 < moment.step <= last and (moment.step == last or begins_interval(moment, self.interval))

    def groups(self, model: nn.Module, image: Tensor) -> list[Group]:
        """The channels that may go, layer by layer."""
        first = next(iter(prunable(model)), "")

        def why_not(group: Group) -> str:
            if any(place.name == first for place in group.having("filter")):
                return "it is the first layer"
            return "" if group.having("scale") else "no batch norm scales them"

        return removable_groups(model, image, why_not)

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Remove the filters of smallest L1 norm, the same share in every layer."""
        image = one_image(source)
        groups = self.groups(model, image)
        norms = [_matrix(model.get_parameter, group).abs().sum(0) for group in groups]
        ranks = [one.argsort(stable=True).argsort() / len(one) for one in norms]  # alike in all layers
        cost = Cost(groups, forward_flops(model, image))
        count_to_remove(groups, ranks, self.sparsity, self.of, cost)  # what can't be reached is known now
        share = self.sparsity - self.first_regrow
        counts = left(groups, ranks, count_to_remove(groups, ranks, share, self.of, cost))
        return kept_mask(model, groups, [top(norm, count) for norm, count in zip(norms, counts, strict=True)])

    def first_memory(self, model: nn.Module, mask: Mask) -> dict[str, Any]:
        """The fresh values, for channels that are gone from the beginning."""
        state = model.state_dict()
        chosen = [name for name, value in state.items() if name in mask or value.dim() == 1]
        return {_USED + name: state[name].clone() for name in chosen}

    def silenced(self, model: nn.Module, mask: Mask, image: Tensor, memory: Mapping[str, Any]) -> Mask:
        """Batch norm of the channels that are gone."""
        if not mask:
            return {}
        groups = self.groups(model, image)
        return silenced_channels(model, groups, [gone_channels(model, mask, group) for group in groups])

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """One mask: a channel that is taken out and returns at once keeps its values and its history."""
        image = one_image(now.source)
        groups = self.groups(now.model, image)
        gone = [gone_channels(now.model, now.mask, group) for group in groups]
        self._remember(now, groups, gone)
        scales = [_scale(now.model, group) for group in groups]
        cost = Cost(groups, forward_flops(now.model, image))
        share = self.sparsity - self.returning(now.moment)
        few, many = (
            left(groups, scales, count_to_remove(groups, scales, one, self.of, cost))
            for one in (self.sparsity, share)
        )
        kept = [
            self._explored(now, group, ~lost, low, high)
            for group, lost, low, high in zip(groups, gone, few, many, strict=True)
        ]
        return (kept_mask(now.model, groups, kept),)

    def _explored(self, now: Situation, group: Group, present: Tensor, few: int, many: int) -> Tensor:
        """The channels that a layer has next: the `few` best of those present, and others up to `many`."""
        score = column_scores(_matrix(now.model.get_parameter, group), few)
        kept = top(score, few, among=present.cpu())
        count = many - int(kept.sum())
        if count > 0:
            used = _matrix(lambda name: now.memory[_USED + name], group)
            others = (~kept).nonzero().squeeze(1)
            chance = torch.softmax(residuals(used[:, others], used[:, kept]), 0)
            kept[others[torch.multinomial(chance, count, generator=now.generator)]] = True
        return kept.to(present.device)

    def _remember(self, now: Situation, groups: Sequence[Group], gone: Sequence[Tensor]) -> None:
        """Take over the values of all channels that are present."""
        state, lost = now.model.state_dict(), positions(groups, gone)
        for key in [key for key in now.memory if key.startswith(_USED)]:
            name = key.removeprefix(_USED)
            absent = ~now.mask[name] if name in now.mask else lost.get(name, {}).get(0)
            value = state[name].clone()
            now.memory[key] = value if absent is None else torch.where(absent, now.memory[key], value)

    def restored(self, now: Situation, mask: Mask) -> Mapping[str, Tensor]:
        """What channels that return were when they were last present: weights, batch norm, statistics."""
        groups = self.groups(now.model, one_image(now.source))
        back = positions(
            groups,
            [
                gone_channels(now.model, now.mask, group) & ~gone_channels(now.model, mask, group)
                for group in groups
            ],
        )
        state, values = now.model.state_dict(), {}
        for name, dims in back.items():
            fresh = mask[name] & ~now.mask[name] if name in mask else dims[0]
            if bool(fresh.any()):
                values[name] = torch.where(fresh, now.memory[_USED + name], state[name])
        return values


def column_scores(matrix: Tensor, count: int) -> Tensor:
    """How much each column (rows, columns) matters to the best approximation of rank `count`.

    The norms of the rows of the first `count` right singular vectors, or, where there are more columns than
    rows, the columns' L1 norms, as the authors have it.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return matrix.abs().sum(0)
    vectors = torch.linalg.eigh(matrix.T @ matrix).eigenvectors  # ascending
    scores: Tensor = vectors[:, matrix.shape[1] - count :].norm(dim=1)
    return scores


def residuals(columns: Tensor, kept: Tensor) -> Tensor:
    """Norms of what the span of `kept` (rows, k) leaves of each of `columns` (rows, n)."""
    values, vectors = torch.linalg.eigh(kept.T @ kept)
    real = values > values.max().clamp(min=1e-300) * 1e-12
    basis = kept @ vectors[:, real] / values[real].sqrt()
    norms: Tensor = (columns - basis @ (basis.T @ columns)).norm(dim=0)
    return norms


def _matrix(tensor: Any, group: Group) -> Tensor:
    """The filters of a group's layer as columns, float64 on the CPU; `tensor` gives one by its name."""
    place = group.having("filter")[0]
    weight: Tensor = tensor(place.name)
    return weight.detach().cpu().double().flatten(1).T


def _scale(model: nn.Module, group: Group) -> Tensor:
    """Mean |γ| of a group's batch norms by channel."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for place in group.having("scale"):
        scale, channels = model.get_parameter(place.name).detach().abs().cpu().double(), place.channels.cpu()
        total.index_add_(0, channels[channels >= 0], scale[channels >= 0])
    return total / len(group.having("scale"))
