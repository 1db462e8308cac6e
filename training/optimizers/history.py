"""The previous gradient, in an optimizer's state."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

from training.optimizers.flat import Flat, same, strided

PREVIOUS_GRADIENT = "previous_gradient"
State = MutableMapping[Tensor, dict[str, Any]]


class History:
    """One tensor ``state[parameter]["previous_gradient"]`` per parameter, all of them in one `Flat`.

    The state is what counts: tensors that somebody put there are copied into the `Flat`, and it is gone when
    they are.
    """

    def __init__(self) -> None:
        self.flat: Flat | None = None

    def find(self, state: State, params: list[Tensor]) -> Flat | None:
        """The previous gradient of `params`; None when the state has none of any."""
        kept = [state[one].get(PREVIOUS_GRADIENT) if one in state else None for one in params]
        if self.flat is not None and same(self.flat.parts, kept) and self.flat.fits(params):
            return self.flat
        return None if all(one is None for one in kept) else self._lay_out(state, params)

    @torch.no_grad()
    def store(self, state: State, params: list[Tensor]) -> None:
        """Copy the gradients of `params`; one without a gradient gets zeros."""
        flat = self.flat
        if flat is None or not flat.fits(params) or PREVIOUS_GRADIENT not in state[params[0]]:
            flat = self._lay_out(state, params)
        gradients = [one.grad for one in params]
        given = strided([one for one in gradients if one is not None])
        if len(given) == len(gradients):
            torch._foreach_copy_(flat.parts, given)
            return
        for part, gradient in zip(flat.parts, gradients, strict=True):
            part.zero_() if gradient is None else part.copy_(strided([gradient])[0])

    @torch.no_grad()
    def _lay_out(self, state: State, params: list[Tensor]) -> Flat:
        flat = Flat(params)
        for one, part in zip(params, flat.parts, strict=True):
            before = state[one].get(PREVIOUS_GRADIENT)
            if before is not None:
                part.copy_(before)
            state[one][PREVIOUS_GRADIENT] = part
        self.flat = flat
        return flat
