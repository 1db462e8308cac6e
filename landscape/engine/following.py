"""Whether the engine's copy of a network follows its weights, and nothing but these.

A surface is wrong, and mostly flat, where the copy goes on computing with something else than the weights
that are moved: with what was made of them before (adapters merged on entering evaluation mode, caches), or
with the original's (a ``forward`` or hook that was put there and holds the network, a loss that reads one
outside).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.checks.determinism import relative_difference
from landscape.engine.hooks import take_off_those_of
from landscape.engine.original import Original
from landscape.engine.precision import in_precision
from landscape.errors import UserError
from landscape.examples.structure import tensors_in

Call = Callable[[Any, Any], Mapping[str, Tensor]]
"""``call(model, batch)``: what the loss gives, by name."""

_MOVED = 0.01  # share of the weights
_MOVED_FURTHER = 0.1  # what a power iteration is behind by goes with the square of this
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}
_ROUNDING_LOW = 5e-2
_SHARE = 0.02  # of what moving does; what is kept makes more


@dataclass(frozen=True)
class Source:
    """The user's network and how it is copied.

    Attributes
    ----------
    model
        Never touched.
    copy
        Copies it.
    device, dtype
        Of the copies.
    moving
        Names of the parameters that are going to move.
    original
        What `model` held before copies of it were called.
    """

    model: nn.Module
    copy: Callable[[nn.Module], nn.Module]
    device: torch.device
    dtype: torch.dtype
    moving: Sequence[str]
    original: Original

    def fresh(self) -> nn.Module:
        """A copy in evaluation mode that was never called."""
        return self._made().eval()

    def moved(self, values: Mapping[str, Tensor]) -> nn.Module:
        """A copy whose weights were these before it entered evaluation mode."""
        made = self._made()
        _put(made, values)
        return made.eval()

    def _made(self) -> nn.Module:
        return in_precision(self.copy(self.model), self.device, self.dtype)


def check_follows(call: Call, module: nn.Module, batch: Any, source: Source) -> None:
    """Refuse a network that doesn't follow its weights; see the module.

    Parameters
    ----------
    call
        Evaluates the loss in the gradient mode that it needs.
    module
        The engine's copy, in evaluation mode; its weights return to what they are.
    batch
        A few examples.
    source
        Where it was copied from.

    Raises
    ------
    UserError
        With what it computes with instead.
    """
    if not source.moving:
        return
    before = call(module, batch)["loss"].detach().clone()
    values = _beside(module, source.moving)
    with _moved(module, values):
        late = call(module, batch)["loss"].detach().clone()
    other = source.moved(values)
    take_off_those_of(module, other)
    read = _Read({"copy": _storages(other, source.moving), "original": _storages(source.model)})
    early = _observed(call, other, batch, read)["loss"].detach()
    if read.names["original"]:
        raise UserError(
            f"loss or network computes with {read.names['original'][0]!r} of the model itself, not of the "
            "copy whose weights move (a forward or hook that holds the model, a loss that reads one "
            "outside); use the model that is given, and copy.deepcopy for what shall stay"
        )
    off, effect = relative_difference(early, late), relative_difference(early, before)
    if off > max(_ROUNDING.get(early.dtype, _ROUNDING_LOW), _SHARE * effect):
        raise UserError(
            f"the network doesn't follow its weights: where these moved by 1 %, the loss is off by {off:.1g} "
            "of its size, since something made of them before is kept (adapters merged in evaluation mode, a "
            "cache, parametrize.cached); let it be computed from the weights at every call"
        )
    if read.complete and not read.names["copy"] and not effect and not off:
        raise UserError(
            "the loss doesn't use any of the weights that move "
            f"({', '.join(source.moving[:3])}{', …' if len(source.moving) > 3 else ''}); "
            "are adapters merged into others? name the ones that count with params (--params)"
        )


def _beside(
    module: nn.Module, names: Sequence[str], share: float = _MOVED, seed: int = 0
) -> dict[str, Tensor]:
    """Weights by name, moved a little."""
    generator, params = torch.Generator().manual_seed(seed), dict(module.named_parameters())
    return {name: _shifted(params[name].detach(), generator, share) for name in names if name in params}


def _shifted(value: Tensor, generator: torch.Generator, share: float) -> Tensor:
    noise = torch.randn(value.shape, generator=generator, dtype=torch.float32, device="cpu").to(value.device)
    exact = value.to(torch.promote_types(value.dtype, torch.float32))
    typical = exact.square().mean().sqrt() if value.numel() else exact.sum()
    scale = exact.abs() + 0.1 * torch.where(typical > 0, typical, torch.ones_like(typical))
    return (exact + share * noise * scale).to(value.dtype)


def _put(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    params = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            params[name].copy_(value)


@contextmanager
def moved_beside(
    module: nn.Module, names: Sequence[str], share: float = _MOVED_FURTHER, seed: int = 0
) -> Iterator[None]:
    """Inside it the parameters of these names are beside by a share; afterwards they are what they were."""
    with _moved(module, _beside(module, names, share, seed)):
        yield


@contextmanager
def _moved(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    params = dict(module.named_parameters())
    before = {name: params[name].detach().clone() for name in values}
    try:
        _put(module, values)
        yield
    finally:
        _put(module, before)


def _observed(call: Call, model: nn.Module, batch: Any, read: _Read) -> Mapping[str, Tensor]:
    try:
        with read:
            return call(model, batch)
    except Exception:  # the mode is in the way of some compiled or wrapped functions
        read.complete = False
        return call(model, batch)


def _storages(module: nn.Module, names: Sequence[str] | None = None) -> dict[int, str]:
    """Names of parameters by the address of their memory."""
    return {
        one.untyped_storage().data_ptr(): name
        for name, one in module.named_parameters()
        if (names is None or name in names) and one.numel()
    }


class _Read(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which of some memory operations are given."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler for that, which takes seconds."""
        return False

    def __init__(self, storages: Mapping[str, Mapping[int, str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages, self.complete = storages, True
        self.names: dict[str, list[str]] = {name: [] for name in storages}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for one in tensors_in([args, kwargs]):
            place = one.untyped_storage().data_ptr() if one.layout == torch.strided else 0
            for whose, known in self._storages.items():
                if place in known:
                    self.names[whose].append(known[place])
        return func(*args, **(kwargs or {}))
