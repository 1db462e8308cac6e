"""Whether a network has numbers to start from, each weight its own.

What hasn't is refused before anything is copied or moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize

from landscape.errors import UserError
from landscape.examples.structure import tensors_in


def check_usable(model: Any) -> None:
    """Refuse what is no network, lazy layers that were never run, and weights without numbers of their own.

    Raises
    ------
    UserError
        With the layer or weight, and what to do.
    """
    if not isinstance(model, nn.Module):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        hint = "; call the class to make one" if isinstance(model, type) else ""
        raise UserError(f"the model is a {kind}; expected a torch.nn.Module{hint}")
    for name, one in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(one, UninitializedParameter | UninitializedBuffer):
            raise UserError(
                f"{name!r} belongs to a lazy layer that was never run, so it has no weights; "
                "call the model on one batch first (or load its weights)"
            )
        if one.is_meta:
            raise UserError(
                f"{name!r} is on the device 'meta' and holds no numbers; load the weights on a real device"
            )
        if isinstance(one, nn.Parameter) and one.layout != torch.strided:
            raise UserError(f"{name!r} is a sparse tensor ({one.layout}); expected dense ones: .to_dense()")
        if isinstance(one, nn.Parameter) and one.is_floating_point() and one.element_size() == 1:
            kind = str(one.dtype).removeprefix("torch.")
            raise UserError(
                f"{name!r} is {kind}, which PyTorch can only store; convert it: .to(torch.float32)"
            )
    if getattr(parametrize, "_cache_enabled", 0):
        raise UserError(
            "torch.nn.utils.parametrize.cached() is on, which keeps weights that were computed before others "
            "are moved; leave that block first"
        )
    _check_own_memory(model)


def _check_own_memory(model: nn.Module) -> None:
    """Refuse weights in memory of others: a copy, and whoever moves one, takes them apart."""
    known: dict[int, list[tuple[str, Tensor]]] = {}
    for name, one in _held(model):
        if one.layout != torch.strided or not one.numel():
            continue
        if isinstance(one, nn.Parameter) and _overlaps(one, one):
            raise UserError(
                f"entries of the parameter {name!r} lie in the same memory (an expanded tensor?); make it a "
                "tensor of its own, .clone(), and expand it in forward"
            )
        beside = known.setdefault(one.untyped_storage().data_ptr(), [])
        for other, two in beside:
            if (isinstance(one, nn.Parameter) or isinstance(two, nn.Parameter)) and _overlaps(one, two):
                raise UserError(
                    f"{other!r} and {name!r} lie in the same memory and are two tensors, which a copy of the "
                    "network takes apart; make them one parameter (a.weight = b.weight; transposed, view or "
                    "cut it in forward), or .clone() one of them"
                )
        beside.append((name, one))


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers and what modules keep beside them; each tensor once."""
    seen = set()
    for name, one in [*model.named_parameters(), *model.named_buffers()]:
        seen.add(id(one))
        yield name, one
    for place, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for attribute, value in vars(module).items():
            if (
                attribute in ("_parameters", "_buffers", "_modules")
                or f"{attribute}_orig" in module._parameters
            ):
                continue  # the last is computed at every call (torch's spectral normalization, pruning)
            for one in tensors_in(value):
                if id(one) not in seen:
                    seen.add(id(one))
                    yield f"{place}.{attribute}".lstrip("."), one


def _overlaps(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors of one memory share an entry; or two entries of one tensor, given twice, do."""
    (first, last), (start, end) = _range(one), _range(two)
    dense = all(
        stop - begin + 1 == _bytes(part) for part, begin, stop in ((one, first, last), (two, start, end))
    )
    if one is two:
        return not dense and len(set(_places(one))) < one.numel()
    if last < start or end < first:
        return False
    return dense or not set(_places(one)).isdisjoint(_places(two))


def _bytes(one: Tensor) -> int:
    return one.numel() * one.element_size()


def _range(one: Tensor) -> tuple[int, int]:
    """First and last byte."""
    last = sum((int(size) - 1) * int(stride) for size, stride in zip(one.shape, one.stride(), strict=True))
    first = int(one.storage_offset()) * one.element_size()
    return first, first + (last + 1) * one.element_size() - 1


def _places(one: Tensor) -> list[int]:
    """Byte of every entry."""
    places = torch.tensor(one.storage_offset(), device="cpu")
    for size, stride in zip(one.shape, one.stride(), strict=True):
        places = places.unsqueeze(-1) + stride * torch.arange(size, device="cpu")
    found: list[int] = (places * one.element_size()).flatten().tolist()
    return found
