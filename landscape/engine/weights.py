"""The weights of one module on a line, plane or more: ``w(c) = w* + Σ c[k]·d[k]``, written in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UserError


class Weights:
    """Makes a module's floating-point parameters views of one vector and moves that vector.

    The module must be the caller's own copy. Every point is computed afresh from w*, so that it has the same
    bits whatever was evaluated before. Addresses and sizes never change and the coordinates lie on the
    device, so that moving can be part of a captured CUDA graph.

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
        params = {name: one for name, one in module.named_parameters() if one.is_floating_point()}
        for direction in directions:
            _check(params, direction)
        self.start = torch.cat([one.detach().reshape(-1) for one in params.values()])
        self.directions = [_flat(params, direction, self.start) for direction in directions]
        self.coordinates = self.start.new_zeros(len(directions))
        self._now = self.start.clone()
        offset = 0
        for one in params.values():
            one.requires_grad_(False)
            one.data = self._now[offset : offset + one.numel()].view(one.shape)
            offset += one.numel()

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


def _flat(params: Mapping[str, Tensor], direction: Mapping[str, Tensor], like: Tensor) -> Tensor:
    parts = [
        direction.get(name, torch.zeros(one.shape, device="cpu")).to(like).reshape(-1)
        for name, one in params.items()
    ]
    return torch.cat(parts).detach()
