"""A first look at how a loss uses the network, which decides how fast it can be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.determinism import ROUNDING, relative_difference
from landscape.engine.cost import Cost, measure
from landscape.engine.totals import BatchValues, batch_values
from landscape.errors import UserError
from landscape.examples.structure import tensors_in
from landscape.factories import place_of
from landscape.losses import Loss

Mode = Callable[[], AbstractContextManager[Any]]
_NEEDS_GRADIENTS = "the loss needs gradients"


@dataclass
class Probe:
    """What one call of the loss showed.

    Attributes
    ----------
    values
        What the loss returned.
    inputs
        The network's input at each call.
    obstacle
        Why the loss needs the module itself, or None where it only calls ``model(x)`` with one tensor.
    mode
        The gradient mode in which it runs: inference, or enabled where it differentiates by its inputs.
    cost
        Per example.
    unused
        Whether the loss never touched the network that it was given.
    """

    values: BatchValues
    inputs: list[Tensor]
    obstacle: str | None
    mode: Mode
    cost: Cost
    unused: bool = False


def probe(module: nn.Module, loss: Loss, batch: Any) -> Probe:
    """Call the loss on a batch, as strictly as it can stand.

    Raises
    ------
    UserError
        When the loss can't be called at all: what it raises, in one line.
    """
    recorder = _Recorder(module)
    unused = False
    mode: Mode = torch.inference_mode
    try:
        values = _call(loss, recorder, batch, mode)
        obstacle: str | None = recorder.obstacle
        unused = obstacle is None and not recorder.inputs
    except UserError:
        raise
    except Exception:
        values, mode, obstacle = _unrestricted(module, loss, batch)
    try:
        if mode is torch.inference_mode and _hides_derivatives(loss, module, batch, values):
            mode, obstacle = torch.enable_grad, _NEEDS_GRADIENTS
            values = _call(loss, module, batch, mode)
        with mode():
            cost = measure(lambda: loss(module, batch), module, max(values.count, 1))
    except UserError:
        raise
    except Exception as error:
        raise fails_again(error) from error
    return Probe(values, recorder.inputs, obstacle, mode, cost, unused)


def fails_again(error: Exception) -> UserError:
    """One line for a loss that worked once."""
    return UserError(
        f"the loss worked on the first examples and fails when it is called again: {place_of(error)}; "
        "let it leave its batch, and what it refers to, as they were"
    )


def _hides_derivatives(loss: Loss, module: nn.Module, batch: Any, values: BatchValues) -> bool:
    """Whether inference mode changes values: `torch.autograd.functional` takes derivatives there to be 0."""
    found = _call(loss, module, batch, torch.no_grad).values
    return found.keys() != values.values.keys() or any(
        relative_difference(one, found[name]) > ROUNDING.get(one.dtype, 0.0)
        for name, one in values.values.items()
    )


def _unrestricted(module: nn.Module, loss: Loss, batch: Any) -> tuple[BatchValues, Mode, str]:
    try:
        return (
            _call(loss, module, batch, torch.inference_mode),
            torch.inference_mode,
            "the loss needs the module itself",
        )
    except UserError:
        raise
    except Exception:
        pass
    try:
        return _call(loss, module, batch, torch.enable_grad), torch.enable_grad, _NEEDS_GRADIENTS
    except UserError:
        raise
    except Exception as error:
        kinds = [f"{str(one.dtype).removeprefix('torch.')} {list(one.shape)}" for one in tensors_in(batch)]
        holds = f"; the batch holds {', '.join(kinds[:5])}" if kinds else ""
        raise UserError(f"the loss fails on the first examples: {place_of(error)}{holds}") from error


def _call(loss: Loss, model: Callable[..., Any], batch: Any, mode: Mode) -> BatchValues:
    with mode():
        return batch_values(loss(model, batch))


@dataclass
class _Recorder:
    """Stands for the module and notes what is done with it."""

    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    obstacle: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            self.obstacle = "the network is called with more than one tensor"
        else:
            self.inputs.append(args[0])
        return self.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        self.obstacle = f"the loss uses the module's {name!r}"
        return getattr(self.module, name)
