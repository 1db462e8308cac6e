"""No sparsity: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training.masks import Mask
from training.sparsity.base import Source, SparsityMethod


@dataclass(frozen=True)
class Dense(SparsityMethod):
    """Train all weights."""

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Return the empty mask: nothing is prunable."""
        return {}
