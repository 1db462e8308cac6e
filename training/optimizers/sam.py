"""SAM and ASAM: the gradient at the worst point nearby, found with a gradient of the same batch.

Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization" (2021), algorithm 1;
Kwon et al., "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks" (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, overload

import torch
from torch import nn

from landscape.errors import UserError
from training.optimizers.perturbing import Closure, Perturbing, Restore, Schedule, frozen_statistics, one_of
from training.optimizers.settings import PerturbingConfig

Statistics = Literal["first", "both"]
Perturbation = Literal["global", "process"]


class SAM(Perturbing):
    """SAM around any optimizer: ``SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model)``.

    ``step(closure)`` calls the closure twice, at the weights and at the perturbed point, and returns the loss
    of the first call, that at the weights. The closure returns a loss of its own each time, not a buffer that
    its next call overwrites. ``torch.amp.GradScaler`` takes no closures; train in bfloat16, which needs none.

    Parameters
    ----------
    base, rho, rho_schedule, rho_c, restore
        As in `Perturbing`. Published rho: 0.05; for ASAM 0.5 (CIFAR-10) and 1 (CIFAR-100).
    model
        Whose batch-norm layers ``batch_norm="first"`` is about.
    batch_norm
        Which calls update running statistics: the "first", or "both".
    adaptive
        "none", or "asam": the perturbation in units of the weights.
    perturbation
        With several processes (``DistributedDataParallel``): "global" goes up the whole batch's gradient.
        With "process" each goes up that of its own part (the m-sharpness of Foret et al., with m the part's
        size): the first call is ``closure(sync=False)``, in which gradients must not be averaged (forward
        and backward under ``no_sync``).
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.05,
        *,
        model: nn.Module | None = None,
        batch_norm: Statistics = "first",
        adaptive: Literal["none", "asam"] = "none",
        perturbation: Perturbation = "global",
        rho_schedule: Schedule = "constant",
        rho_c: float | None = None,
        restore: Restore = "copy",
    ) -> None:
        one_of("batch_norm", batch_norm, ("first", "both"))
        one_of("adaptive", adaptive, ("none", "asam"))
        one_of("perturbation", perturbation, ("global", "process"))
        if batch_norm == "first" and model is None:
            raise UserError(
                "batch_norm 'first' needs model=…, whose layers it is about; or give batch_norm='both'"
            )
        self.model, self.batch_norm = model, batch_norm
        self.adaptive = adaptive
        self.perturbation = perturbation
        super().__init__(base, rho, rho_schedule=rho_schedule, rho_c=rho_c, restore=restore)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Where a ``GradScaler`` looks first: without this, it would end in an assertion of its own."""
        raise UserError(
            "SAM computes two gradients in a step, and torch.amp.GradScaler passes no closure on: train in "
            "bfloat16 without a scaler, or with S2SAM"
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Closure | None = None) -> Any:
        """Update the weights; raises UserError without a closure."""
        if closure is None:
            raise UserError("SAM computes the gradient twice: give step() a closure that computes it")
        first = partial(closure, sync=False) if self.perturbation == "process" else closure
        frozen = (
            nullcontext()
            if self.batch_norm == "both" or self.model is None
            else frozen_statistics(self.model)
        )
        loss = self._two_passes(first, closure, frozen)
        self.base.step()
        self.steps += 1
        return loss


@dataclass(frozen=True)
class SAMConfig(PerturbingConfig):
    """SAM around SGD: two gradients per step (Foret et al., 2021).

    Attributes
    ----------
    batch_norm
        Which of the two passes updates running statistics: the first, or both.
    perturbation
        With several processes: global goes up the whole batch's gradient, process up that of each one's part.
    """

    batch_norm: Statistics = "first"
    perturbation: Perturbation = "global"

    _adaptive: ClassVar[Literal["none", "asam"]] = "none"

    def build(self, model: nn.Module) -> SAM:
        """Return the optimizer over the model's parameters."""
        return SAM(
            super().build(model),
            self.rho,
            model=model,
            batch_norm=self.batch_norm,
            adaptive=self._adaptive,
            perturbation=self.perturbation,
            rho_schedule=self.rho_schedule,
            rho_c=self.rho_c,
            restore=self.restore,
        )


@dataclass(frozen=True)
class ASAMConfig(SAMConfig):
    """SAM with a perturbation in units of the weights, so that rho means the same at every scale of them.

    Kwon et al., 2021; the other settings are SAM's.
    """

    rho: float = 0.5

    _adaptive: ClassVar[Literal["none", "asam"]] = "asam"
