"""The contract of an optimizer.

One frozen dataclass per file, whose fields are the hyper-parameters; `build` gives a plain
``torch.optim.Optimizer``. The loop calls ``step(closure)`` and never asks which one it is.

``closure(sync=True)`` zeroes the gradients, computes loss and gradients of the whole batch at the present
weights, masks the gradients where `OptimizerConfig.masks_gradients` says so, and returns the loss, a tensor
of its own each time. ``sync=False``, which only SAM's perturbation "process" asks for, keeps the gradients to
this process's part of the batch. SGD and S2-SAM call it once per step, SAM and ASAM twice; ``step`` returns
the loss of the first call. Afterwards the loop sets pruned weights to 0, and when the mask changes it zeroes
the pruned positions of every tensor in ``state[weight]``, of the optimizer and of those it wraps as ``base``.
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

    @property
    def masks_gradients(self) -> bool:
        """Whether the closure sets the gradients of pruned weights to 0."""
        return True

    @property
    def keeps_gradients(self) -> bool:
        """Whether a step leaves gradients in ``.grad`` as they are."""
        return True

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return an optimizer over the model's parameters."""

    def build_at(self, model: nn.Module, step: int) -> torch.optim.Optimizer:
        """The same for a round that is rewound to `step` (0 for the beginning) of the schedules.

        Momentum and previous gradients start from nothing; only schedules of the optimizer's own go on.
        """
        return self.build(model)


def parameter_groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    """Parameter groups; without `decay_all`, tensors of one dimension (biases, norm layers) get no decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if decay_all:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
