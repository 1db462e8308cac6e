"""Sparse evolutionary training: drop the smallest weights, grow as many at random places.

Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired by
Network Science", 2018, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.masks import Layer, Mask
from training.sparsity.base import MaskedMethod, Moment, Situation, Source
from training.sparsity.distribution import Distribution
from training.sparsity.prune_grow import (
    Anneal,
    annealed,
    begins_interval,
    check_positive,
    check_share,
    grow_random,
)
from training.sparsity.random import Random
from training.sparsity.ranking import top


@dataclass(frozen=True)
class Set(MaskedMethod):
    """Drop a fraction of each layer's kept weights and grow the same number at random, again and again.

    A grown weight starts from 0 without momentum; places just emptied are candidates like all others. A layer
    without an empty place is left alone. The first change comes after one interval.

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers.
    drop_fraction
        Share of a layer's kept weights that is dropped at once (ζ).
    interval
        Epochs from change to change; fractions are rounded to whole steps.
    criterion
        "magnitude" drops the smallest |w|; "signed" the fraction of the smallest positive weights and that
        of the negative ones closest to 0, as the authors do.
    anneal
        Keep the fraction constant, as the authors do, or let it fall to 0 with the training as a cosine.
    """

    distribution: Distribution = "erk"
    drop_fraction: float = 0.3
    interval: float = 1.0
    criterion: Literal["magnitude", "signed"] = "magnitude"
    anneal: Anneal = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("drop-fraction", self.drop_fraction)
        check_positive("interval", self.interval)

    def published_dense(self) -> tuple[Layer, ...]:
        """As for RigL, whose authors run both alike: uniform keeps the first convolution dense."""
        return ("first",) if self.distribution == "uniform" else ()

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Draw at random."""
        random = Random(self.sparsity, self.distribution, keep_dense=self.keep_dense)
        return random.init_mask(model, source, generator)

    def update_due(self, moment: Moment) -> bool:
        """After each interval; untrained weights are left as drawn."""
        return 0 < moment.step < moment.steps and begins_interval(moment, self.interval)

    def fraction(self, moment: Moment) -> float:
        """Share of the kept weights that is dropped at `moment`."""
        return annealed(self.drop_fraction, moment.step / moment.steps, self.anneal)

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """The masks after dropping and after growing."""
        fraction, weights = self.fraction(now.moment), now.weights()
        dropped: Mask = {}
        grown: Mask = {}
        for name, mask in now.mask.items():
            weight = weights[name].detach()
            survivors = mask if bool(mask.all()) else self._survivors(weight, mask, fraction)
            missing = int(mask.sum()) - int(survivors.sum())
            dropped[name], grown[name] = survivors, grow_random(survivors, missing, now.generator)
        return dropped, grown

    def _survivors(self, weight: Tensor, mask: Tensor, fraction: float) -> Tensor:
        """Kept weights that aren't dropped; for "signed", a kept 0 counts as positive."""
        groups = [mask]
        if self.criterion == "signed":
            groups = [mask & (weight >= 0), mask & (weight < 0)]
        survivors = torch.zeros_like(mask)
        for group in groups:
            size = int(group.sum())
            survivors |= top(weight.abs(), size - int(fraction * size), among=group)
        return survivors
