"""Batches of any structure: the tensors in tuples, dicts, data classes and others, to list, move and cut.

PyTorch's own trees end at data classes, ``UserDict`` (Hugging Face's batches) and whatever else they
weren't told of.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Change = Callable[[Tensor], Tensor]

_LEAVES = (type, str, bytes, int, float, complex, nn.Module, np.ndarray, np.generic, types.ModuleType)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors, in order; each object is looked into once."""
    return list(_tensors(value, {}))


def map_tensors(value: Any, change: Change) -> Any:
    """The same structure with every tensor changed; parts without tensors are the same objects.

    >>> import torch
    >>> map_tensors({"x": (torch.ones(1), "a")}, lambda one: 2 * one)
    {'x': (tensor([2.]), 'a')}
    """
    return _Mapping(change).of(value)


def length(batch: Any) -> int | None:
    """Of the first axis that all tensors of a batch have in common, or None where there is none."""
    lengths = {len(one) for one in tensors_in(batch) if one.dim()}
    return lengths.pop() if len(lengths) == 1 else None


def cut(batch: Any) -> tuple[Any, Any] | None:
    """A batch as its first half and the rest, or None where its tensors have no common first axis.

    Tensors, arrays and lists of that length are cut; everything else must be no tensor, or a scalar.
    """
    count = length(batch)
    if count is None or count < 2 or any(one.layout != torch.strided for one in tensors_in(batch)):
        return None
    middle = count // 2
    parts = [_cut(batch, count, part) for part in (slice(0, middle), slice(middle, count))]
    return parts[0], parts[1]


def _cut(value: Any, count: int, part: slice) -> Any:
    if isinstance(value, list | np.ndarray) and len(value) == count and not _holds_tensors(value):
        return value[part]
    if isinstance(value, dict):
        return _refilled(value, {key: _cut(one, count, part) for key, one in value.items()})
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_cut(one, count, part) for one in value)
    return map_tensors(value, lambda one: one[part] if one.dim() else one)


def _holds_tensors(value: Any) -> bool:
    return next(_tensors(value, {}), None) is not None


def _tensors(value: Any, seen: dict[int, Any]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, _LEAVES) or value is None or id(value) in seen:
        return
    seen[id(value)] = value
    for one in _parts(value):
        yield from _tensors(one, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(_attributes(value).values())


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds, in slots too."""
    names = [one for kind in type(value).__mro__ for one in _named(vars(kind).get("__slots__", ()))]
    slots = {one: getattr(value, one) for one in names if not one.startswith("__") and hasattr(value, one)}
    return slots | (getattr(value, "__dict__", None) or {})


def _named(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else [one for one in slots if isinstance(one, str)]


class _Mapping:
    """One walk; what was met before is met again as the same new object."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._done: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, _LEAVES) or value is None:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = (value, value)  # inside a cycle, as it is
            self._done[id(value)] = (value, self._new(value))
        return self._done[id(value)][1]

    def _new(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._change(value)
        if isinstance(value, PackedSequence):
            return value._replace(data=self._change(value.data))
        if not _holds_tensors(value):
            return value
        if isinstance(value, dict):
            return _refilled(value, {key: self.of(one) for key, one in value.items()})
        if isinstance(value, tuple | list):
            parts = [self.of(one) for one in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        other = copy.copy(value)
        self._done[id(value)] = (value, other)  # its parts may refer to it
        for name, one in _attributes(value).items():
            object.__setattr__(other, name, self.of(one))
        return other


def _refilled(value: dict[Any, Any], items: dict[Any, Any]) -> Any:
    if type(value) is dict:
        return items
    other = copy.copy(value)  # a defaultdict keeps its default
    for key, one in items.items():
        dict.__setitem__(other, key, one)
    for name, one in vars(other).items() if hasattr(other, "__dict__") else ():
        if name in items and isinstance(one, Tensor):  # Hugging Face's outputs hold both
            object.__setattr__(other, name, items[name])
    return other
