"""Lottery tickets: train, remove the smallest weights, start again from the early weights, and so on.

Frankle and Carbin, "The Lottery Ticket Hypothesis" (2019), section 1; rewinding to a step after the first:
Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (2020), Algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from landscape.errors import UserError
from training.masks import Mask
from training.sparsity.base import MaskedMethod, Source
from training.sparsity.prune_grow import check_count
from training.sparsity.ranking import Ranking, check_reachable
from training.sparsity.shrinking import shrink


@dataclass(frozen=True)
class LotteryTicket(MaskedMethod):
    """Prune by magnitude in rounds, each trained from the same early weights; the first is dense.

    Attributes
    ----------
    prune_fraction
        Share of the kept weights that every round removes; the last one removes fewer where that reaches
        the sparsity exactly.
    rewind_step
        Steps of the first round after which the weights are stored that later rounds start from; 0 for the
        first weights.
    search_epochs
        Epochs of each round before the last; as many as the last one's by default.
    ranking
        One threshold over all layers (global), or a distribution that says how much each layer keeps.
    """

    prune_fraction: float = 0.2
    rewind_step: int = 0
    search_epochs: int | None = None
    ranking: Ranking = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.001 <= self.prune_fraction < 1:
            raise UserError(f"prune-fraction {self.prune_fraction}: expected a share from 0.001 to below 1")
        if self.rewind_step < 0:
            raise UserError(f"rewind-step {self.rewind_step}: expected 0 or more")
        if self.search_epochs is not None:
            check_count("search-epochs", self.search_epochs)

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Keep everything."""
        check_reachable(self.shapes(model), self.sparsity, self.ranking, self.keep_dense)
        return {
            name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.maskable(model).items()
        }

    @property
    def cuts(self) -> int:
        """Rounds after the dense one: the fewest that reach the sparsity."""
        # The tolerance is for sparsities that whole rounds reach, like 0.36 with 0.2, but for rounding.
        return math.ceil(math.log(1 - self.sparsity) / math.log(1 - self.prune_fraction) - 1e-9)

    def round_epochs(self, epochs: int) -> Sequence[int]:
        """Epochs of the dense round and of each cut's."""
        return (self.search_epochs or epochs,) * self.cuts + (epochs,)

    def next_round(self, model: nn.Module, mask: Mask, number: int) -> Mask:
        """Keep the kept weights that became largest."""
        sparsity = self.sparsity if number >= self.cuts else 1 - (1 - self.prune_fraction) ** number
        scores = {name: weight.detach().abs() for name, weight in self.maskable(model).items()}
        return shrink(mask, scores, sparsity, self.ranking, self.keep_dense)
