"""Magnitude pruning during training: gradually or at once.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression" (2017),
eq. 1; at once: Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from landscape.errors import UserError
from training.masks import Mask
from training.sparsity.base import MaskedMethod, Moment, Situation, Source
from training.sparsity.ranking import Ranking, check_reachable, keep_top
from training.sparsity.shrinking import shrink


@dataclass(frozen=True)
class Magnitude(MaskedMethod):
    """Train dense, remove the smallest weights from `begin` to `end`, then go on with a fixed mask.

    With `end` equal to `begin` all go at once, and with both 0 before the first step. Removed weights never
    come back. The default shares are those of the pruning baseline in Evci et al., "Rigging the Lottery"
    (2020), for CIFAR.

    Attributes
    ----------
    begin
        Share of the training's steps after which pruning starts.
    end
        Share after which the final sparsity is reached; less than 1, so that the final mask is trained.
    interval
        Between two cuts, in `interval_unit`; the last cut is at `end` in any case.
    interval_unit
        Whether the interval is counted in epochs or in steps.
    ranking
        One threshold over all layers (global), or a distribution that says how much each layer keeps; Zhu
        and Gupta prune all layers alike (uniform).
    """

    begin: float = 0.2
    end: float = 0.75
    interval: int = 1
    interval_unit: Literal["epochs", "steps"] = "epochs"
    ranking: Ranking = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.begin <= self.end < 1:
            raise UserError(
                f"begin {self.begin}, end {self.end}: expected shares of the training with "
                "0 <= begin <= end < 1"
            )
        if self.interval < 1:
            raise UserError(f"interval {self.interval}: expected 1 or more")

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Keep everything, or prune the first weights when `end` is 0."""
        check_reachable(self.shapes(model), self.sparsity, self.ranking, self.keep_dense)
        sparsity = 0 if self.end else self.sparsity
        return keep_top(_magnitudes(self, model), sparsity, self.ranking, self.keep_dense)

    @property
    def dynamic(self) -> bool:
        """Unless all is pruned before the first step."""
        return self.end > 0

    def update_due(self, moment: Moment) -> bool:
        """At `begin`, every interval from there, and at `end`."""
        first, last = self._range(moment)
        if not self.end or not first <= moment.step <= last:
            return False
        return (moment.step - first) % self._steps(moment) == 0 or moment.step == last

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """Keep the largest of the kept weights, as many as the schedule says."""
        sparsity = self.sparsity_at(now.moment)
        sizes = _magnitudes(self, now.model)
        return (shrink(now.mask, sizes, sparsity, self.ranking, self.keep_dense),)

    def sparsity_at(self, moment: Moment) -> float:
        """``sparsity · (1 - (1 - progress)³)``, with the progress from `begin` to `end` in 0..1."""
        first, last = self._range(moment)
        if moment.step >= last:
            return self.sparsity
        progress = max(moment.step - first, 0) / (last - first)
        return float(self.sparsity * (1 - (1 - progress) ** 3))

    def _range(self, moment: Moment) -> tuple[int, int]:
        """Steps of the first and the last cut; one is always before the last step of the training."""
        first, last = (min(round(share * moment.steps), moment.steps - 1) for share in (self.begin, self.end))
        return first, last

    def _steps(self, moment: Moment) -> int:
        return self.interval * (moment.steps_per_epoch if self.interval_unit == "epochs" else 1)


def _magnitudes(method: MaskedMethod, model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().abs() for name, weight in method.maskable(model).items()}
