"""What the two mutations of MEST share: prune by importance, grow at random, less and less of it.

Yuan et al., "MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge", 2021.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training.masks import Layer, Mask
from training.sparsity.base import Gradient, MaskedMethod, Moment, Situation, Source
from training.sparsity.distribution import Distribution, layer_counts
from training.sparsity.prune_grow import check_positive, check_share, grow_random
from training.sparsity.ranking import keep_top, top

Stages = tuple[float, float, float]


@dataclass(frozen=True)
class Mest(MaskedMethod):
    """Elastic mutation in three stages; what a subclass decides is between which two sparsities.

    The authors keep the first convolution, the shortcuts and the classifier dense, and count sparsity over
    the convolutions that are left (their profiles for CIFAR).

    The first mask keeps the largest initial weights of each layer. A grown weight starts from 0 without
    momentum; places just emptied are candidates like all others. A layer that is full and is to stay so is
    left alone.

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers.
    stages
        Share of all weights that is mutated in each stage, in points of sparsity (0.02 at sparsity 0.9 is a
        fifth of the kept ones). By default the authors' values for ResNet-32 at 0.9, 0.95 and 0.98, in
        between interpolated linearly; below 0.9 as there, above 0.98 in proportion to 1 − sparsity.
    switches
        Shares of the training at which the second and the third stage begin.
    interval
        Epochs from change to change, the first before step 0; fractions are rounded to whole steps. Trainings
        of few epochs need a shorter one than the authors'.
    lambda_g
        Weight of the latest step's gradient in the importance |w| + lambda_g·|gradient| that pruning goes by.
    """

    distribution: Distribution = "uniform"
    stages: Stages | None = None
    switches: tuple[float, float] = (90 / 160, 120 / 160)
    interval: float = 5.0
    lambda_g: float = 0.0

    published: ClassVar[Mapping[float, Stages]]
    """Stages by sparsity, ascending."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("interval", self.interval)
        first, second = self.switches
        if not 0 <= first <= second < 1:
            raise UserError(f"switches {first} {second}: expected ascending shares, at least 0 and below 1")
        if not 0 <= self.lambda_g < float("inf"):
            raise UserError(f"lambda-g {self.lambda_g}: expected 0 or more")
        for change in self.stages or ():
            check_share("stages", change)

    def published_dense(self) -> tuple[Layer, ...]:
        """Their profiles list the convolutions of the blocks alone."""
        return "first", "last", "shortcut"

    @abstractmethod
    def sparsities(self, change: float) -> tuple[float, float]:
        """Sparsity after pruning and after growing in a stage that mutates `change`."""

    @property
    def dynamic(self) -> bool:
        """Unless no stage mutates anything."""
        return any(self.changes())

    @property
    def gradient(self) -> Gradient:
        """The latest step's, if they count."""
        return "last" if self.lambda_g > 0 else "none"

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Keep the largest initial weights of each layer."""
        shapes = self.shapes(model)
        for change in self.changes():  # a distribution that can't reach one of them fails now, not in between
            for sparsity in self.sparsities(change):
                layer_counts(shapes, sparsity, self.distribution, self.keep_dense)
        scores = {name: weight.detach().abs() for name, weight in self.maskable(model).items()}
        first = self.sparsities(self.changes()[0])[1]
        return keep_top(scores, first, self.distribution, self.keep_dense)

    def changes(self) -> Stages:
        """The stages' shares: those given, or those published."""
        return self.stages if self.stages is not None else _interpolated(self.published, self.sparsity)

    def switch_steps(self, moment: Moment) -> tuple[int, int]:
        """First steps of the second and the third stage; at latest the last step of the training."""
        first, second = (min(round(share * moment.steps), moment.steps - 1) for share in self.switches)
        return first, second

    def change(self, moment: Moment) -> float:
        """Share of all weights that is mutated at `moment`."""
        return self.changes()[sum(moment.step >= first for first in self.switch_steps(moment))]

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """The masks after pruning and after growing."""
        shapes = {name: tuple(part.shape) for name, part in now.mask.items()}
        keep, target = (
            layer_counts(shapes, sparsity, self.distribution, self.keep_dense)
            for sparsity in self.sparsities(self.change(now.moment))
        )
        weights = now.weights()
        pruned: Mask = {}
        grown: Mask = {}
        for name, mask in now.mask.items():
            score = self._importance(weights[name].detach(), now.gradients.get(name))
            pruned[name], grown[name] = _mutated(score, mask, keep[name], target[name], now.generator)
        return pruned, grown

    def _importance(self, weight: Tensor, gradient: Tensor | None) -> Tensor:
        """Before the first step there is no gradient."""
        if gradient is None:
            return weight.abs()
        return weight.abs() + self.lambda_g * gradient.abs()


def _mutated(
    score: Tensor, mask: Tensor, keep: int, target: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Masks of one layer in turn: the `keep` best of the kept weights, then `target` by random growth."""
    if target == mask.numel() and bool(mask.all()):  # the same weights would only lose their values
        return mask, mask
    # Layers are rounded apart at the two sparsities, so a small one could keep more after pruning.
    pruned = top(score, min(keep, target), among=mask)
    return pruned, grow_random(pruned, target - int(pruned.sum()), generator)


def _interpolated(table: Mapping[float, Stages], sparsity: float) -> Stages:
    """Linear between the table's entries, the first one's below, in proportion to the density above."""
    factor = min(1.0, (1 - sparsity) / (1 - max(table)))
    columns = zip(*table.values(), strict=True)
    first, second, third = (factor * float(np.interp(sparsity, list(table), column)) for column in columns)
    return first, second, third
