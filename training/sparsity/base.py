"""The contract of a sparsity method.

A method is one file with one frozen dataclass: its fields are its hyper-parameters (the command line shows
them by itself), `init_mask` makes the mask before the first step, and dynamic methods override `update_mask`.
The loop applies the mask to weights, gradients and optimizer state; a method only decides it. A mask is
per weight, so a channel method returns one that is constant over each channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.masks import Mask

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""``draw(count, generator)``: normalized training images, not augmented, and labels, without replacement."""


@dataclass(frozen=True)
class Moment:
    """Where the training is: `step` updates of `steps` are done, `steps_per_epoch` make an epoch."""

    step: int
    steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class SparsityMethod(ABC):
    """Decides which weights are kept."""

    @abstractmethod
    def init_mask(self, model: nn.Module, draw: Draw, generator: torch.Generator) -> Mask:
        """Return the mask to start with, on the model's device; leaves the model as it is."""

    def update_mask(
        self, model: nn.Module, mask: Mask, moment: Moment, draw: Draw, generator: torch.Generator
    ) -> Mask | None:
        """Return the mask for the next steps, or None to keep it: static methods always keep it.

        Called after every optimizer step. Weights that the new mask grows start from 0 with no momentum.
        """
        return None
