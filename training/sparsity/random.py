"""Static random masks: drawn once, never changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.masks import Mask
from training.sparsity.base import MaskedMethod, Source
from training.sparsity.distribution import Distribution, layer_counts


@dataclass(frozen=True)
class Random(MaskedMethod):
    """Keep weights chosen at random, an exact number in each layer.

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers.
    """

    distribution: Distribution = "erk"

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Draw on the CPU, so that a seed gives the same mask on every device."""
        weights = self.maskable(model)
        counts = layer_counts(self.shapes(model), self.sparsity, self.distribution, self.keep_dense)
        return {
            name: random_positions(weight.numel(), counts[name], generator)
            .reshape(weight.shape)
            .to(weight.device)
            for name, weight in weights.items()
        }


def random_positions(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` of `size` positions, drawn on the CPU: bool, shape (size,)."""
    flat = torch.zeros(size, dtype=torch.bool)
    flat[torch.randperm(size, generator=generator)[:count]] = True
    return flat
