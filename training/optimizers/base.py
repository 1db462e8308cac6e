"""The contract of an optimizer.

One frozen dataclass per file, whose fields are the hyper-parameters; `build` gives a plain
``torch.optim.Optimizer``. The loop calls ``step(closure)`` and never asks which one it is: the closure zeroes
the gradients, computes loss and gradients of the batch at the present weights, masks the gradients and
returns the loss. SGD calls it once, methods that look at a perturbed point as often as they need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerConfig(ABC):
    """Hyper-parameters that every optimizer has.

    Attributes
    ----------
    lr
        Peak learning rate; the schedule scales it at every step.
    """

    lr: float = 0.1

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return an optimizer over the model's parameters."""


def parameter_groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    """Parameter groups; without `decay_all`, tensors of one dimension (biases, norm layers) get no decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if decay_all:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
