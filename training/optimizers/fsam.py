"""Friendly SAM: the worst point nearby, looked for along what is particular to the batch.

Li, Zhou, He, Cheng and Huang, "Friendly Sharpness-Aware Minimization" (CVPR 2024): of the batch's gradient,
the part that all batches share, an exponential moving average, is taken away before the weights are perturbed
along it.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training.optimizers.ascent import ascent
from training.optimizers.perturbing import Closure, Restore, Schedule, one_of
from training.optimizers.sam import SAM, Perturbation, SAMConfig, Statistics
from training.optimizers.sgd import SGD

Average = Literal["paper", "official"]
_AVERAGE = "gradient_average"  # in the state of a parameter


class FriendlySAM(SAM):
    """Friendly SAM around any optimizer: ``FriendlySAM(torch.optim.SGD(…, lr=0.05), model=model)``.

    With the batch's gradient g at the weights and its average ``m_t = decay m_(t-1) + (1 - decay) g``, the
    second gradient is taken at ``w + rho d / ‖d‖``, where ``d = g - sigma m_t``. With ``sigma=0``: SAM.

    The average is kept in ``state[parameter]["gradient_average"]``; set pruned weights to 0 there when a mask
    changes.

    Parameters
    ----------
    base, model, batch_norm, adaptive, perturbation, rho_schedule, rho_c, restore
        As in `SAM`.
    rho
        Length of the perturbation. Published, with `sigma` 1 and `decay` 0.95 or 0.6: 0.2 (CIFAR-100,
        ResNet-18).
    sigma
        How much of the average is taken away.
    decay
        Share of the average kept from step to step (the paper's λ), in [0, 1).
    average
        "paper" as above, with an average of 0 before the first step; "official", as in the released code,
        takes ``m_(t-1)`` away, and the first gradient is the first average: with `sigma` 1 the same direction
        but for what the beginning leaves in the average.

    Raises
    ------
    UserError
        When an option isn't one of its values, as in `SAM`.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.2,
        *,
        sigma: float = 1.0,
        decay: float = 0.95,
        average: Average = "paper",
        model: nn.Module | None = None,
        batch_norm: Statistics = "first",
        adaptive: Literal["none", "asam"] = "none",
        perturbation: Perturbation = "global",
        rho_schedule: Schedule = "constant",
        rho_c: float | None = None,
        restore: Restore = "copy",
    ) -> None:
        check_average(sigma, decay, average)
        self.sigma, self.decay, self.average = sigma, decay, average
        super().__init__(
            base,
            rho,
            model=model,
            batch_norm=batch_norm,
            adaptive=adaptive,
            perturbation=perturbation,
            rho_schedule=rho_schedule,
            rho_c=rho_c,
            restore=restore,
        )

    @property
    def apart(self) -> tuple[str, ...]:
        """With `perturbation` "process" the averages, each of one process's gradients."""
        return (_AVERAGE,) if self.perturbation == "process" else ()

    def _perturbation(self) -> dict[str, Any]:
        own = {"sigma": self.sigma, "decay": self.decay, "average": self.average}
        return {**super()._perturbation(), **own}

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._averages: dict[Tensor, Tensor] = {}

    def _taking_part(self) -> list[Tensor]:
        """Those with an average, too: a gradient that is missing is 0, however gradients are zeroed."""
        if not (some := super()._taking_part()):
            return []
        known = {id(one) for one in some}
        return [one for one in self._parameters() if id(one) in known or self._average(one) is not None]

    def _average(self, one: Tensor) -> Tensor | None:
        return self.state[one].get(_AVERAGE) if one in self.state else None

    @torch.no_grad()
    def _upwards(self, gradients: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        if not gradients:
            return []
        kept = [self._average(one) for one in params]
        averages = [
            torch.zeros_like(one) if mean is None else mean.to(one)
            for one, mean in zip(params, kept, strict=True)
        ]
        new = torch._foreach_mul(averages, self.decay)
        torch._foreach_add_(new, gradients, alpha=1 - self.decay)
        if self.average == "official":
            for mean, one, gradient in zip(kept, new, gradients, strict=True):
                if mean is None:
                    one.copy_(gradient)
        self._averages = dict(zip(params, new, strict=True))
        # The official one takes away that of the step before.
        torch._foreach_sub_(gradients, new if self.average == "paper" else averages, alpha=self.sigma)
        return ascent(gradients, params, self.adaptive)

    def _two_passes(self, first: Closure, second: Closure, frozen: AbstractContextManager[None]) -> Any:
        """As `SAM`'s; the average changes after both, so that a step that failed can be repeated."""
        try:
            loss = super()._two_passes(first, second, frozen)
            for one, average in self._averages.items():
                self.state[one][_AVERAGE] = average
        finally:
            self._averages = {}
        self._forget_all_but(self._parameters(), (_AVERAGE,))
        return loss


def check_average(sigma: float, decay: float, average: str) -> None:
    """Raise UserError unless these say what is taken away of which average."""
    if not 0 <= sigma < math.inf:
        raise UserError(f"sigma {sigma}: expected a finite number of at least 0")
    if not 0 <= decay < 1:
        raise UserError(f"decay {decay}: expected at least 0 and below 1")
    one_of("average", average, ("paper", "official"))


@dataclass(frozen=True)
class FriendlySAMConfig(SAMConfig):
    """Friendly SAM around SGD: two gradients per step, up what is particular to the batch (Li et al., 2024).

    Attributes
    ----------
    sigma
        How much of the gradients' average is taken away from the direction; 0 is SAM.
    decay
        Share of that average kept from step to step; published: 0.95 and 0.6.
    average
        paper: with the present gradient, from 0; official (released code): without it, from the first one.
    """

    rho: float = 0.2
    sigma: float = 1.0
    decay: float = 0.95
    average: Average = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_average(self.sigma, self.decay, self.average)

    def build(self, model: nn.Module) -> FriendlySAM:
        """Return the optimizer over the model's parameters."""
        return FriendlySAM(
            SGD.build(self, model),
            self.rho,
            sigma=self.sigma,
            decay=self.decay,
            average=self.average,
            model=model,
            batch_norm=self.batch_norm,
            perturbation=self.perturbation,
            rho_schedule=self.rho_schedule,
            rho_c=self.rho_c,
            restore=self.restore,
        )
