"""S2-SAM: sharpness-aware minimization with one gradient per step.

Ji et al., "A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate
Sparse Training" (2024): the gradient is taken at ``u_t = w_(t-1) + rho g_(t-1) / ‖g_(t-1)‖``, up the gradient
of the step before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from training.optimizers.ascent import Adaptive, ascent
from training.optimizers.flat import Flat, normalize
from training.optimizers.history import PREVIOUS_GRADIENT, History
from training.optimizers.perturbing import (
    Closure,
    Perturbing,
    Restore,
    Schedule,
    frozen_statistics,
    one_of,
)
from training.optimizers.settings import PerturbingConfig
from training.optimizers.witness import Witness

FirstStep = Literal["plain", "sam"]
_POINT = "previous_point"


class S2SAM(Perturbing):
    """Single-step SAM around any optimizer: ``S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)``.

    ``step(closure)`` calls the closure exactly once, at the perturbed point, and returns its loss. Without a
    closure, compute the gradient inside ``with optimizer.perturbed():`` (several backward passes accumulate
    there at the same point) and call ``step()`` after it. Outside, the weights are the real ones: evaluate,
    save and clip gradients there. With a ``GradScaler``, ``scaler.unscale_(optimizer)`` comes before
    ``scaler.step(optimizer)`` or is done by it; a step that it skips keeps the previous gradient.

    The perturbation comes from the gradient as ``step`` finds it in ``.grad``: averaged and unscaled, without
    weight decay and momentum. A copy is kept in ``state[parameter]["previous_gradient"]``; set pruned weights
    to 0 there when a mask changes. During forward and backward pass, memory holds this copy and one of the
    weights beyond what `base` needs.

    Parameters
    ----------
    base, rho, rho_schedule, rho_c, restore
        As in `Perturbing`. Published rho: 0.05 for CIFAR, 1 for ImageNet.
    adaptive
        "none"; "asam" scales the perturbation by the weights (`ascent`); "official" does what the released
        code calls adaptive.
    first_step
        "plain" doesn't perturb the first step, which has no previous gradient; "sam" computes two gradients
        in it (so it needs ``step(closure)``), as SAM does.
    model
        Needed by ``first_step="sam"`` only: the second gradient of that step leaves the running statistics of
        its batch-norm layers alone.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    >>> optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1), rho=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     with optimizer.perturbed():
    ...         ((weight[0] ** 2 + 4 * weight[1] ** 2) / 2).backward()
    ...     optimizer.step()
    >>> [round(value, 6) for value in weight.tolist()]
    [0.807575, 0.321194]
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.05,
        *,
        rho_schedule: Schedule = "constant",
        rho_c: float | None = None,
        adaptive: Adaptive = "none",
        first_step: FirstStep = "plain",
        restore: Restore = "copy",
        model: nn.Module | None = None,
    ) -> None:
        one_of("adaptive", adaptive, ("none", "asam", "official"))
        one_of("first_step", first_step, ("plain", "sam"))
        if first_step == "sam" and model is None:
            raise UserError(
                "first_step 'sam' needs model=…, for the running statistics of its batch-norm layers"
            )
        self.adaptive, self.first_step, self.model = adaptive, first_step, model
        super().__init__(base, rho, rho_schedule=rho_schedule, rho_c=rho_c, restore=restore)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._history = History()
        self._scratch: Flat | None = None
        self._points: list[Tensor] = []
        self._ready = False
        self._witness = Witness()
        self._witness.watch(self._parameters())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero the gradients, wherever they were computed."""
        super().zero_grad(set_to_none)
        self._witness.forget()

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Inside, the weights are at the perturbed point: put forward and backward passes there.

        Afterwards, also after an exception, they are the real ones.

        Raises
        ------
        UserError
            Inside another such block, or in a first step that must be SAM's.
        """
        self._check_not_inside()
        self._ready = False
        params = self._parameters()
        self._witness.watch(params)
        previous = self._history.find(self.state, params)
        if previous is None and self.first_step == "sam":
            raise UserError("first_step 'sam' computes two gradients in the first step: use step(closure)")
        with self._moved(params, self._direction(params, previous)), self._witness.block():
            yield
            self._note_point()
        self._ready = True

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Closure | None = None) -> Any:
        """Update the weights; with a closure, compute loss and gradient at the perturbed point first.

        Raises
        ------
        UserError
            When the gradient was not computed inside `perturbed`, or by the closure: that would be a step of
            the base optimizer and nothing else. Where only a part of it was not, that is a warning.
        """
        self._check_not_inside()
        loss = None if closure is None else self._evaluate(closure)
        if not self._ready:
            raise UserError(
                "step() without a closure: compute the gradient inside `with optimizer.perturbed():`"
            )
        self._check_whence(closure is not None)
        self._remember()
        self.base.step()
        self.steps += 1
        self._ready = False
        self._witness.forget()
        return loss

    def _check_whence(self, by_closure: bool) -> None:
        """Refuse a gradient of the unperturbed weights; say so where it is a part of the gradient."""
        if not self._witness.outside:
            return
        where = "inside the closure" if by_closure else "inside `with optimizer.perturbed():`"
        whole = not self._witness.inside
        text = f"{'the gradient' if whole else 'a part of the gradient'} was computed at unperturbed weights"
        text = f"{text}: call backward() {where}, the forward pass too, and zero_grad() before it"
        if whole:
            raise UserError(text)
        warnings.warn(text, stacklevel=3)

    def _evaluate(self, closure: Closure) -> Any:
        if self.first_step == "plain" or self.model is None or not self._is_first():
            with torch.enable_grad(), self.perturbed():
                return closure()

        def second() -> None:
            closure()
            self._note_point()

        with self._witness.block():
            loss = self._two_passes(closure, second, frozen_statistics(self.model))
        self._ready = True
        return loss

    def _is_first(self) -> bool:
        return self._history.find(self.state, self._parameters()) is None

    def _direction(self, params: list[Tensor], previous: Flat | None) -> list[Tensor]:
        if previous is None or self.radius == 0:
            return []
        if self.adaptive == "none":
            return self._unit(params, previous)
        official = self.adaptive == "official"
        points = [self.state[one].get(_POINT, one).to(one) for one in params] if official else params
        return ascent(previous.parts, points, self.adaptive)

    @torch.no_grad()
    def _unit(self, params: list[Tensor], previous: Flat) -> list[Tensor]:
        """The previous gradient at length 1, in memory that is held until `_release_direction` only."""
        if self._scratch is None or not self._scratch.fits(params):
            self._scratch = Flat(params)
        self._scratch.allocate()
        normalize(previous.vectors, self._scratch.vectors)
        return self._scratch.parts

    def _release_direction(self) -> None:
        if self._scratch is not None:
            self._scratch.release()

    def _note_point(self) -> None:
        """Where the gradient was taken: the official adaptive perturbation asks for it in the next step."""
        if self.adaptive == "official":
            self._points = [one.detach().clone() for one in self._parameters()]

    def _remember(self) -> None:
        params = self._parameters()
        if params:  # all may be frozen
            self._history.store(self.state, params)
        for one, point in zip(params, self._points, strict=False):
            self.state[one][_POINT] = point
        self._forget_all_but(params, (PREVIOUS_GRADIENT, _POINT))


@dataclass(frozen=True)
class S2SAMConfig(PerturbingConfig):
    """S2-SAM around SGD (Ji et al., 2024).

    Attributes
    ----------
    adaptive
        asam scales the perturbation by the weights; official is what the released code calls adaptive.
    first_step
        plain: not perturbed; sam: two gradients in the first step.
    """

    adaptive: Adaptive = "none"
    first_step: FirstStep = "plain"

    def build(self, model: nn.Module) -> S2SAM:
        """Return the optimizer over the model's parameters."""
        return S2SAM(
            super().build(model),
            self.rho,
            rho_schedule=self.rho_schedule,
            rho_c=self.rho_c,
            adaptive=self.adaptive,
            first_step=self.first_step,
            restore=self.restore,
            model=model if self.first_step == "sam" else None,
        )
