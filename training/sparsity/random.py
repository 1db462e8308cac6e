"""Static random masks: drawn once, never changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from training.masks import Mask, prunable
from training.sparsity.base import Draw, SparsityMethod
from training.sparsity.distribution import Distribution, layer_counts


@dataclass(frozen=True)
class Random(SparsityMethod):
    """Keep weights chosen at random, an exact number in each layer.

    Attributes
    ----------
    sparsity
        Pruned share of all convolution and linear weights, in [0, 1).
    distribution
        How the kept weights are shared among the layers.
    """

    sparsity: float = 0.9
    distribution: Distribution = "erk"

    def init_mask(self, model: nn.Module, draw: Draw, generator: torch.Generator) -> Mask:
        """Draw on the CPU, so that a seed gives the same mask on every device."""
        weights = prunable(model)
        counts = layer_counts(
            {name: tuple(weight.shape) for name, weight in weights.items()}, self.sparsity, self.distribution
        )
        mask = {}
        for name, weight in weights.items():
            flat = torch.zeros(math.prod(weight.shape), dtype=torch.bool)
            flat[torch.randperm(len(flat), generator=generator)[: counts[name]]] = True
            mask[name] = flat.reshape(weight.shape).to(weight.device)
        return mask
