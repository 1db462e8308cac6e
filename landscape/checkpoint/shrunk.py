"""The architecture ``shrunk``: another one with fewer channels, as a file of ours describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from landscape.channels.sizes import resize
from landscape.checkpoint.models import Architectures, find_architecture
from landscape.errors import UserError

SHRUNK = "shrunk"


class ShrunkModel:
    """Builds networks with fewer channels.

    Parameters
    ----------
    architectures
        Known architectures by name. A file may name these and torchvision's, nothing that would be imported.
    """

    def __init__(self, architectures: Architectures) -> None:
        self.architectures = architectures

    def __call__(
        self, *, model: str, arguments: Mapping[str, Any], shapes: Mapping[str, list[int]]
    ) -> nn.Module:
        """The network, its values 0; they are to be loaded.

        Parameters
        ----------
        model, arguments
            What builds the network with all channels.
        shapes
            Of the tensors that are smaller, by name.

        Raises
        ------
        UserError
            When the network isn't known, or the shapes aren't those of a smaller one.
        """
        if model not in self.architectures and not model.startswith("torchvision:"):
            raise UserError(
                f"model {SHRUNK}: {model!r} may not stand in a file; expected an architecture of ours, or "
                "torchvision:NAME"
            )
        architecture, _ = find_architecture(model, self.architectures)
        device = torch.get_default_device()
        with torch.device("meta"):  # the file has the size of the smaller one
            network = architecture.build(arguments)
        _check_shapes(network, shapes)
        resize(network, {name: tuple(shape) for name, shape in shapes.items()})
        if device.type == "meta":
            return network
        _check_persistent(network, model)
        network.to_empty(device=device)
        for value in network.state_dict().values():
            value.zero_()
        return network


def _check_shapes(network: nn.Module, shapes: Mapping[str, list[int]]) -> None:
    state = network.state_dict()
    if not isinstance(shapes, dict):
        raise UserError(f"model {SHRUNK}: its shapes are a {type(shapes).__name__}, expected a dict")
    for name, shape in shapes.items():
        before = state.get(name)
        if before is None or not isinstance(shape, list) or len(shape) != before.dim():
            raise UserError(f"model {SHRUNK}: a shape {shape} of {name!r}, which the network doesn't have")
        if not all(type(one) is int and 0 < one <= old for one, old in zip(shape, before.shape, strict=True)):
            raise UserError(
                f"model {SHRUNK}: {name!r} of shape {shape} isn't smaller than {list(before.shape)}"
            )


def _check_persistent(network: nn.Module, model: str) -> None:
    """What no ``state_dict`` has couldn't be loaded."""
    missing = [name for name, _ in network.named_buffers() if name not in network.state_dict()]
    if missing:
        raise UserError(f"model {SHRUNK}: {model} computes its {missing[0]!r} itself; shrink it in Python")
