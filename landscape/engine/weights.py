"""The weights of one module on a line, plane or more: ``w(c) = w* + Σ c[k]·d[k]``, written in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UserError

_ALIGNED = 16  # bytes: what a GPU's vector loads, and cuDNN's and cuBLAS' faster kernels, ask of an address


class Weights:
    """Makes a module's floating-point parameters views of one vector and moves that vector.

    The module must be the caller's own copy. Every point is computed afresh from w*, so that it has the same
    bits whatever was evaluated before. Addresses and sizes never change and the coordinates lie on the
    device, so that moving can be part of a captured CUDA graph. Each parameter begins at a multiple of 16
    bytes.

    Parameters
    ----------
    module
        Its parameters, in their present type and on their present device, are w*.
    directions
        Tensors by parameter name; parameters that one doesn't name stay where they are.

    Raises
    ------
    UserError
        When a direction names an unknown parameter or has another shape.
    """

    def __init__(self, module: nn.Module, directions: Sequence[Mapping[str, Tensor]]) -> None:
        self._params = {name: one for name, one in module.named_parameters() if one.is_floating_point()}
        self._places, total = _places(self._params)
        for direction in directions:
            _check(self._params, direction)
        like = next(iter(self._params.values())).detach()
        self.start = self._flat(self._params, like.new_zeros(total))
        self.directions = [self._flat(direction, torch.zeros_like(self.start)) for direction in directions]
        self.coordinates = self.start.new_zeros(len(directions))
        self._now = self.start.clone()
        for name, one in self._params.items():
            one.requires_grad_(False)
            one.data = self._part(self._now, name)

    def turn(self, directions: Sequence[Mapping[str, Tensor]]) -> None:
        """Take other directions, as many, into the memory of the present ones.

        Raises
        ------
        UserError
            As when this was made, and for another number of them.
        """
        if len(directions) != len(self.directions):
            raise UserError(f"{len(directions)} direction(s) in place of {len(self.directions)}")
        for direction in directions:
            _check(self._params, direction)
        for into, direction in zip(self.directions, directions, strict=True):
            self._flat(direction, into.zero_())

    def aim(self, coordinates: Sequence[float]) -> None:
        """Set the coordinates of the next `write`.

        Raises
        ------
        UserError
            When there aren't as many as directions.
        """
        if len(coordinates) != len(self.directions):
            raise UserError(f"{len(coordinates)} coordinates for {len(self.directions)} direction(s)")
        self.coordinates.copy_(torch.tensor(coordinates, dtype=self.coordinates.dtype, device="cpu"))

    def write(self) -> None:
        """Put the parameters at the coordinates."""
        self._now.copy_(self.start)
        for direction, coordinate in zip(self.directions, self.coordinates.unbind(), strict=True):
            self._now.addcmul_(direction, coordinate)

    def support(self) -> dict[str, Tensor]:
        """Weights that aren't zero everywhere on the plane, bool by name; of matrices and filters."""
        found = self.start != 0
        for direction in self.directions:
            found |= direction != 0
        return {name: self._part(found, name) for name, one in self._params.items() if one.dim() > 1}

    def _part(self, flat: Tensor, name: str) -> Tensor:
        one, first = self._params[name], self._places[name]
        return flat[first : first + one.numel()].view(one.shape)

    def _flat(self, values: Mapping[str, Tensor], into: Tensor) -> Tensor:
        for name, value in values.items():
            self._part(into, name).copy_(value.detach())
        return into


def _places(params: Mapping[str, Tensor]) -> tuple[dict[str, int], int]:
    """Where each parameter begins in the vector, in numbers, and the length of that."""
    found, total = {}, 0
    for name, one in params.items():
        found[name] = total
        step = max(1, _ALIGNED // one.element_size())
        total += -(-one.numel() // step) * step
    return found, total


def _check(params: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> None:
    for name, value in direction.items():
        if name not in params:
            raise UserError(
                f"the direction names {name!r}, which is no floating-point parameter of the model"
            )
        if value.shape != params[name].shape:
            raise UserError(
                f"the direction has shape {list(value.shape)} for {name!r}; "
                f"expected {list(params[name].shape)}, as the parameter"
            )
