"""What SAM and S2-SAM share: an optimizer around another one, which looks at a point beside the weights."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import UserError
from training.optimizers.ascent import Adaptive, ascent
from training.optimizers.flat import Flat, strided

Schedule = Literal["constant", "sqrt"]
Restore = Literal["copy", "subtract"]
Closure = Callable[..., Any]
PERTURBATION = "perturbation"  # in a state_dict
_LENGTH = ("rho", "rho_schedule", "rho_c")


class Perturbing(torch.optim.Optimizer):
    """A ``torch.optim.Optimizer`` around `base`, whose parameter groups are its own.

    Parameters
    ----------
    base
        The optimizer that makes the steps.
    rho
        Length of the perturbation, over all parameters together.
    rho_schedule, rho_c
        "constant" keeps `rho`; "sqrt" takes ``sqrt(rho_c / t)`` in its place in step t = 1, 2, ….
    restore
        "copy" brings the exact weights back; "subtract" takes the perturbation away again, which leaves
        rounding residue and needs no copy of the weights.

    Raises
    ------
    UserError
        When an option isn't one of its values, or `base` is no optimizer that steps without a closure.
    """

    adaptive: Adaptive = "none"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float,
        *,
        rho_schedule: Schedule = "constant",
        rho_c: float | None = None,
        restore: Restore = "copy",
    ) -> None:
        check_radius(rho, rho_schedule, rho_c)
        one_of("restore", restore, ("copy", "subtract"))
        _check_base(base, type(self).__name__)
        self.base = base
        self.rho, self.rho_schedule, self.rho_c, self.restore = rho, rho_schedule, rho_c, restore
        self.steps = 0
        super().__init__(base.param_groups, base.defaults)
        self._begin_anew()

    @property
    def apart(self) -> tuple[str, ...]:
        """Keys of a parameter's state that is another in each of several processes."""
        return ()

    @property
    def radius(self) -> float:
        """Length of the next perturbation."""
        return self.rho if self.rho_c is None else math.sqrt(self.rho_c / (self.steps + 1))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, `base` and the perturbation's length included."""
        return {
            **super().state_dict(),
            "base": self.base.state_dict(),
            "steps": self.steps,
            PERTURBATION: self._perturbation(),
        }

    def _perturbation(self) -> dict[str, Any]:
        """Of which kind, and how long."""
        kind = {"optimizer": type(self).__name__, "adaptive": self.adaptive}
        return {**kind, **{name: getattr(self, name) for name in _LENGTH}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same class; raises UserError for another optimizer's.

        Like learning rates, `rho` and its schedule are from then on those of the state.
        """
        own = dict(state_dict)
        if not {"base", "steps"} <= own.keys():
            raise UserError(
                f"optimizer state with {', '.join(own)}: {type(self).__name__} needs base and steps too; "
                f"load another optimizer's state into .base"
            )
        perturbation = own.pop(PERTURBATION, {})  # older states have none
        for name, value in perturbation.items():
            if name not in _LENGTH and value != self._perturbation().get(name):
                raise UserError(
                    f"optimizer state of {perturbation.get('optimizer')} with {name} {value!r}, loaded into "
                    f"{type(self).__name__} with {self._perturbation().get(name)!r}: make the same optimizer"
                )
        self.base.load_state_dict(own.pop("base"))
        for name in _LENGTH:
            setattr(self, name, perturbation.get(name, getattr(self, name)))
        self.steps = own.pop("steps")
        super().load_state_dict(own)

    def __getstate__(self) -> dict[str, Any]:
        # A learning-rate scheduler puts a `step` of this instance there.
        return {key: value for key, value in vars(self).items() if not key.startswith("_") and key != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._follow(self.base)
        self._saved: Flat | None = None
        self._inside = False

    def _follow(self, base: torch.optim.Optimizer) -> None:
        """Have the very list of the base's groups: a learning rate set here is the base's.

        A state that is loaded into the base gives it another list. Wrappers that never called torch's
        constructor (accelerate's) have no place for hooks.
        """
        self.param_groups = base.param_groups
        known = weakref.ref(self)

        def follow(base: torch.optim.Optimizer) -> None:
            optimizer = known()
            if optimizer is not None:
                optimizer.param_groups = base.param_groups

        before = getattr(self, "_following", None)
        if before is not None:
            before.remove()
        hooked = hasattr(base, "_optimizer_load_state_dict_post_hooks")
        self._following = base.register_load_state_dict_post_hook(follow) if hooked else None

    def _parameters(self) -> list[Tensor]:
        return [one for group in self.param_groups for one in group["params"] if one.requires_grad]

    @contextmanager
    def _moved(self, params: list[Tensor], direction: list[Tensor]) -> Iterator[None]:
        """Inside, `params` are at ``w + radius * direction``; afterwards at w again, whatever happens.

        Autocast keeps casts of the weights until its outermost block ends: thrown away whenever the weights
        move, or the passes inside would be at other weights.
        """
        self._check_not_inside()
        radius = self.radius if direction else 0.0
        self._turn(params, direction)
        self._inside = True
        try:
            if radius == 0:
                yield
                return
            saved = self._save(params)
            try:
                with torch.no_grad():
                    torch._foreach_add_(params, direction, alpha=radius)
                torch.clear_autocast_cache()
                if saved:  # the direction's memory may go before the new gradient needs some
                    direction = []
                    self._release_direction()
                yield
            finally:
                with torch.no_grad():
                    if saved:
                        torch._foreach_copy_(params, saved)
                    else:
                        torch._foreach_sub_(params, direction, alpha=radius)
                        self._release_direction()
                torch.clear_autocast_cache()
        finally:
            self._inside = False

    def _turn(self, params: list[Tensor], direction: list[Tensor]) -> None:
        """Where a group maximizes, worse is lower: turn the direction of its parameters around."""
        rising = {id(one) for group in self.param_groups if group.get("maximize") for one in group["params"]}
        if rising and direction:
            for one, part in zip(params, direction, strict=True):
                if id(one) in rising:
                    part.neg_()

    def _save(self, params: list[Tensor]) -> list[Tensor]:
        """A copy of the weights, in memory kept for it; empty where they are restored without."""
        if self.restore == "subtract":
            return []
        if self._saved is None or not self._saved.fits(params):
            self._saved = Flat(params)
        with torch.no_grad():
            torch._foreach_copy_(self._saved.parts, params)
        return self._saved.parts

    def _release_direction(self) -> None:
        """The direction handed to `_moved` is not needed any more."""

    def _two_passes(self, first: Closure, second: Closure, frozen: AbstractContextManager[None]) -> Any:
        """SAM's gradient in ``.grad``: `second`'s, up the gradient of `first`, whose loss is returned."""
        self._check_not_inside()
        with torch.enable_grad():
            loss = first()
        params = self._taking_part()
        gradients = strided([torch.zeros_like(one) if one.grad is None else one.grad for one in params])
        for one in params:
            one.grad = None  # the direction takes its memory, so zeroing gradients must not reach it
        with torch.enable_grad(), frozen, self._moved(params, self._upwards(gradients, params)):
            some = bool(gradients)
            del gradients
            second()
        if some and all(one.grad is None for one in params):
            raise UserError(
                f"{type(self).__name__}: the closure computed no gradient at the perturbed weights; "
                "call backward() inside it"
            )
        return loss

    def _taking_part(self) -> list[Tensor]:
        """Parameters that are perturbed after the first of two passes: those with a gradient."""
        return [one for one in self._parameters() if one.grad is not None]

    def _forget_all_but(self, params: list[Tensor], keys: Sequence[str]) -> None:
        """Drop `keys` of parameters that are frozen or gone: out of date when they come back."""
        present = {id(one) for one in params}
        for one in [one for one in self.state if isinstance(one, Tensor) and id(one) not in present]:
            for key in keys:
                self.state[one].pop(key, None)
            if not self.state[one]:
                del self.state[one]

    def _upwards(self, gradients: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Along which to move, of length 1, from the gradients, which may be overwritten."""
        return ascent(gradients, params, self.adaptive)

    def _check_not_inside(self) -> None:
        if self._inside:
            raise UserError(
                f"{type(self).__name__}: the weights are perturbed; step after leaving that block"
            )


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch-norm layers inside normalize as before, but their running statistics stay as they are."""
    layers = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def check_radius(rho: float, rho_schedule: Schedule, rho_c: float | None) -> None:
    """Raise UserError unless these are a length and a schedule of it."""
    if not 0 <= rho < math.inf:
        raise UserError(f"rho {rho}: expected a finite number of at least 0")
    one_of("rho_schedule", rho_schedule, ("constant", "sqrt"))
    if (rho_schedule == "sqrt") != (rho_c is not None):
        raise UserError(
            f"rho_c {rho_c} with rho_schedule {rho_schedule!r}: sqrt needs c, constant takes none"
        )
    if rho_c is not None and not 0 < rho_c < math.inf:
        raise UserError(f"rho_c {rho_c}: expected a finite number above 0")


def _check_base(base: object, name: str) -> None:
    """Raise UserError unless `base` makes a step from the gradients that it finds."""
    example = f"{name}(torch.optim.SGD(model.parameters(), lr=0.1), …)"
    if not isinstance(base, torch.optim.Optimizer):
        raise UserError(f"{name} around a {type(base).__name__}: expected an optimizer, as in {example}")
    if isinstance(base, Perturbing):
        raise UserError(
            f"{name} around {type(base).__name__}: both perturb the weights; give the optimizer inside"
        )
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f"{name} around {type(base).__name__}: it computes gradients of its own during a step, all at "
            f"unperturbed weights; give an optimizer that steps without a closure, as in {example}"
        )


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise UserError unless the option's value is one of its choices."""
    if value not in choices:
        raise UserError(f"{name} {value!r}: expected {' or '.join(choices)}")
