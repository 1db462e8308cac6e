"""RigL: drop the smallest weights, grow where the loss gradient is largest.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.masks import Layer, Mask
from training.sparsity.base import Gradient, MaskedMethod, Moment, Situation, Source
from training.sparsity.distribution import Distribution
from training.sparsity.prune_grow import Anneal, annealed, check_positive, check_share
from training.sparsity.random import Random
from training.sparsity.ranking import top


@dataclass(frozen=True)
class Rigl(MaskedMethod):
    """Drop the smallest |w| of each layer and grow as many where |gradient| is largest.

    The gradient is that of all weights, pruned ones too; the batch that gives it makes no step. A weight that
    is dropped and grown again at once keeps its value and momentum; others start from 0.

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers.
    drop_fraction
        Share of a layer's kept weights that is dropped at the first change (α).
    update_interval
        Steps from change to change (ΔT), the first before step 0.
    stop
        Share of the training after which the mask stays as it is (T_end).
    anneal
        Let the fraction fall to 0 at `stop` as a cosine, or keep it constant.
    """

    distribution: Distribution = "erk"
    drop_fraction: float = 0.3
    update_interval: int = 100
    stop: float = 0.75
    anneal: Anneal = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("drop-fraction", self.drop_fraction)
        check_positive("update-interval", self.update_interval)
        check_share("stop", self.stop)

    @property
    def gradient(self) -> Gradient:
        """Growth looks at the gradients of pruned weights."""
        return "dense"

    def published_dense(self) -> tuple[Layer, ...]:
        """The authors' uniform distribution keeps the first convolution dense, the others mask it."""
        return ("first",) if self.distribution == "uniform" else ()

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Draw at random."""
        random = Random(self.sparsity, self.distribution, keep_dense=self.keep_dense)
        return random.init_mask(model, source, generator)

    def last_step(self, moment: Moment) -> int:
        """The last step at which the mask may change, T_end; at least 1, so that the cosine is defined."""
        return max(1, round(self.stop * moment.steps))

    def update_due(self, moment: Moment) -> bool:
        """At 0, ΔT, 2ΔT, … up to T_end."""
        last = min(self.last_step(moment), moment.steps - 1)
        return moment.step <= last and moment.step % self.update_interval == 0

    def fraction(self, moment: Moment) -> float:
        """Share of the kept weights that is dropped at `moment`, f_decay."""
        return annealed(self.drop_fraction, moment.step / self.last_step(moment), self.anneal)

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """One mask: candidates for growth are all weights that survived no drop, those dropped included."""
        fraction, weights = self.fraction(now.moment), now.weights()
        new: Mask = {}
        for name, mask in now.mask.items():
            size = int(mask.sum())
            count = int(fraction * size)
            survivors = top(weights[name].detach().abs(), size - count, among=mask)
            new[name] = survivors | top(now.gradients[name].abs(), count, among=~survivors)
        return (new,)
