"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from landscape.errors import UserError
from training.optimizers.base import OptimizerConfig, parameter_groups


@dataclass(frozen=True)
class SGD(OptimizerConfig):
    """SGD as ``torch.optim.SGD`` defines it.

    Attributes
    ----------
    momentum
        Share of the velocity kept from step to step.
    nesterov
        Look ahead along the velocity.
    weight_decay
        L2 coefficient, added to the gradient.
    decay_all
        Decay biases and normalization layers too, as the sparse-training papers do.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_all: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum {self.momentum}: expected at least 0 and below 1")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"weight-decay {self.weight_decay}: expected a finite number of at least 0")
        if self.nesterov and not self.momentum:
            raise UserError("nesterov with momentum 0: it needs momentum")

    @property
    def keeps_gradients(self) -> bool:
        """Not where torch's implementation for several tensors at once adds the momentum to them."""
        return not self.nesterov or self.weight_decay > 0

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the model's parameters."""
        return torch.optim.SGD(
            parameter_groups(model, self.weight_decay, self.decay_all),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )
