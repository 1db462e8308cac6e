"""SNIP: keep the weights that the loss depends on most, before training.

Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity" (2019), eq. 4-5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.masks import Mask
from training.sparsity.base import MaskedMethod, Source
from training.sparsity.prune_grow import check_count
from training.sparsity.ranking import Ranking, check_decided, keep_top
from training.sparsity.scoring import Loss, batch_losses, scored_copy, summed_gradients


@dataclass(frozen=True)
class Snip(MaskedMethod):
    """Rank the first weights by connection sensitivity, the share of each in the sum of ``|w · ∂L/∂w|``.

    Scores are computed in double precision.

    Attributes
    ----------
    batches
        Batches of training images that are looked at; gradients are summed over them before the absolute
        value is taken.
    images_per_batch
        Images in each; matters with several batches only where batch norm uses the batch's statistics.
    norm_statistics
        What batch norm uses during scoring: running statistics (mean 0 and variance 1 before training), as
        the method's authors do, or the batch's, as in training.
    ranking
        One threshold over all layers (global), or a distribution that says how much each layer keeps.
    """

    batches: int = 1
    images_per_batch: int = 128
    norm_statistics: Literal["running", "batch"] = "running"
    ranking: Ranking = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("batches", self.batches), ("images-per-batch", self.images_per_batch)):
            check_count(name, value)

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Score the weights on random training images."""
        images, labels = source.draw(self.batches * self.images_per_batch, generator)
        with scored_copy(model, generator, training=self.norm_statistics == "batch") as copied:
            losses = batch_losses(copied, images, labels, self.images_per_batch)
            scores = snip_scores(self.maskable(copied), losses)
        mask = keep_top(scores, self.sparsity, self.ranking, self.keep_dense)
        if self.ranking == "global":
            check_decided(scores, mask)
        return mask


def snip_scores(weights: Mapping[str, Tensor], losses: Sequence[Loss]) -> dict[str, Tensor]:
    """Sensitivity ``|w · g|`` of the summed loss to a factor on each weight, over its sum; so they sum to 1.

    All 0 where the loss depends on no weight.
    """
    gradients = summed_gradients(weights, losses)
    scores = {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}
    total = sum(float(score.double().sum()) for score in scores.values())
    return {name: score / total for name, score in scores.items()} if total else scores
