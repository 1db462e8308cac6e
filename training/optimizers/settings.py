"""The settings that SAM and S2-SAM share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training.optimizers.perturbing import Perturbing, Restore, Schedule, check_radius
from training.optimizers.sgd import SGD


@dataclass(frozen=True)
class PerturbingConfig(SGD):
    """SGD with gradients taken at a perturbed point.

    Attributes
    ----------
    rho
        Length of the perturbation, over all weights together; published: 0.05 for CIFAR (ASAM 0.5), 1 for
        ImageNet.
    rho_schedule
        constant, or sqrt: the square root of rho_c / t in place of rho, t counting the updates of the weights
        from 1. Each round of lt starts it again, at rewind-step as the learning rate does.
    rho_c
        The c of the sqrt schedule.
    perturb_pruned
        Leave the gradients of pruned weights as they are, so that they are perturbed too (as the released
        code of S2-SAM does).
    restore
        copy: the weights come back exactly; subtract: with rounding residue (the released code).
    """

    rho: float = 0.05
    rho_schedule: Schedule = "constant"
    rho_c: float | None = None
    perturb_pruned: bool = False
    restore: Restore = "copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.rho, self.rho_schedule, self.rho_c)

    @property
    def masks_gradients(self) -> bool:
        """Whether the closure sets the gradients of pruned weights to 0."""
        return not self.perturb_pruned

    def build_at(self, model: nn.Module, step: int) -> torch.optim.Optimizer:
        """The optimizer for a round that starts after `step` updates."""
        optimizer = self.build(model)
        if isinstance(optimizer, Perturbing):
            optimizer.steps = step
        return optimizer
