"""Hooks of the user's: those that only watch are taken off the engine's copy, others are part of the network.

A hook that collects activations would otherwise run at every point and fill the user's memory. It only
watches if it returns nothing, writes into no tensor and sets no attribute of its module, and if the loss
doesn't read what it collects; that is seen in two calls. Two calls tell nothing of code that asks first (a
clip of large values), so hooks with a branch, in them or in what they call of the user's, stay. So do those
that PyTorch itself puts there (pruning, weight normalization): they compute weights.
"""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.checks.description import is_library
from landscape.engine.totals import batch_values
from landscape.examples.structure import tensors_in
from landscape.losses import Loss

Hooks = MutableMapping[int, Callable[..., Any]]
_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
_KINDS = ("_forward_pre_hooks", "_forward_hooks")


def take_off_watching(module: nn.Module, loss: Loss, batches: list[Any]) -> int:
    """Take off the hooks that only watch, in place; return how many of the user's stay.

    Parameters
    ----------
    module
        A copy of the user's network. Where none of its hooks are the user's, nothing is called.
    loss
        Its values must be the same without the hooks, or these stay: a loss may read what hooks collect.
    batches
        Two different ones of a few examples. With fewer, hooks stay.
    """
    watched = [
        _Watched(owner, hooks, key, hook)
        for owner, hooks in _hooks(module)
        for key, hook in hooks.items()
        if not is_library(getattr(hook, "__module__", None) or type(hook).__module__)
    ]
    if not watched or len(batches) < 2:
        return len(watched)
    for one in watched:
        one.hooks[one.key] = one
    try:
        expected = _values(loss, module, batches[0])
        _values(loss, module, batches[1])  # what was collected is another batch's from now on
    except Exception:
        return len(watched)  # whoever calls the loss next says what is wrong
    finally:
        for one in watched:
            one.hooks[one.key] = one.hook
    idle = [one for one in watched if one.called and not one.acts]
    for one in idle:
        del one.hooks[one.key]
    if idle and not _gives(loss, module, batches[0], expected):
        for one in idle:
            one.hooks[one.key] = one.hook
        return len(watched)
    return len(watched) - len(idle)


def take_off_those_of(like: nn.Module, module: nn.Module) -> None:
    """Take off, in place, the hooks that another copy of the same network has no more."""
    left = dict(_by_place(like))
    for name, hooks in _by_place(module):
        for key in [one for one in hooks if one not in left.get(name, hooks)]:
            del hooks[key]


def _by_place(module: nn.Module) -> Iterator[tuple[str, Hooks]]:
    for name, owner in module.named_modules():
        if not isinstance(owner, torch.jit.ScriptModule):
            yield from ((f"{name}{kind}", vars(owner)[kind]) for kind in _KINDS)


def _values(loss: Loss, module: nn.Module, batch: Any) -> dict[str, Tensor]:
    """What the loss gives, with gradients only where it needs them.

    Not in inference mode, where `torch.autograd.functional` takes derivatives to be 0.
    """
    try:
        with torch.no_grad():
            found = batch_values(loss(module, batch))
    except Exception:
        with torch.enable_grad():
            found = batch_values(loss(module, batch))
    return {name: value.clone() for name, value in found.values.items()}


def _gives(loss: Loss, module: nn.Module, batch: Any, expected: Mapping[str, Tensor]) -> bool:
    try:
        found = _values(loss, module, batch)
    except Exception:
        return False
    return found.keys() == expected.keys() and all(_same(one, found[name]) for name, one in expected.items())


def _hooks(module: nn.Module) -> Iterator[tuple[nn.Module, Hooks]]:
    for owner in module.modules():
        if not isinstance(owner, torch.jit.ScriptModule):
            for kind in _KINDS:
                yield owner, vars(owner)[kind]


class _Watched:
    """Stands for a hook, and notes whether it acts on what passes."""

    def __init__(self, owner: nn.Module, hooks: Hooks, key: int, hook: Callable[..., Any]) -> None:
        self.owner, self.hooks, self.key, self.hook = owner, hooks, key, hook
        self.called = self.acts = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.called = True
        passing = tensors_in([args[1:], kwargs])
        before = [one.detach().clone() for one in passing]
        held, weights = _held(self.owner), _weights(self.owner)
        copies = [one.detach().clone() for one in weights]
        asked: list[CodeType] = []
        with _Writes([*passing, *weights]) as writes, _noting_branches(asked):
            result = self.hook(*args, **kwargs)
        pairs = zip([*before, *copies], [*passing, *weights], strict=True)
        changed = writes.seen or any(not _same(one, two) for one, two in pairs)
        self.acts |= result is not None or changed or bool(asked) or _held(self.owner) != held
        return result


class _Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether an operation writes into the memory of some tensors, be it what was there before."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler for that, which takes seconds."""
        return False

    def __init__(self, tensors: Collection[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = {place for one in tensors if (place := _place(one))}
        self.seen = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        written = [
            value
            for number, one in enumerate(func._schema.arguments)
            if one.alias_info is not None and one.alias_info.is_write
            for value in tensors_in([args[number] if number < len(args) else (kwargs or {}).get(one.name)])
        ]
        self.seen |= any(_place(one) in self._places for one in written)
        return func(*args, **(kwargs or {}))


def _place(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


@contextmanager
def _noting_branches(asked: list[CodeType]) -> Iterator[None]:
    """Gather the user's functions that are called inside and may take one of several ways."""
    before = sys.getprofile()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and not is_library(frame.f_globals.get("__name__")) and has_branch(frame.f_code):
            asked.append(frame.f_code)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def has_branch(code: CodeType) -> bool:
    """Whether a function's way depends on values: conditions, loops, what follows ``and`` and ``or``.

    What is done about exceptions doesn't count.
    """
    steps = {one.offset: one for one in dis.get_instructions(code)}
    following = dict(itertools.pairwise(steps))
    place: int | None = next(iter(steps))
    jumps = {*dis.hasjrel, *dis.hasjabs}
    while place is not None:
        step = steps[place]
        if step.opname in _ENDS:
            return False
        if step.opname == "JUMP_FORWARD":
            place = step.argval
        elif step.opcode in jumps:
            return True
        else:
            place = following.get(place)
    return False


def _held(owner: nn.Module) -> dict[str, Any]:
    """Which objects a module holds, and which values they have where these can't change."""
    parts = {**vars(owner), **owner._parameters, **owner._buffers, **owner._modules}
    plain = {name: one for name, one in parts.items() if isinstance(one, bool | int | float | str)}
    return {name: id(one) for name, one in parts.items()} | plain


def _weights(owner: nn.Module) -> list[Tensor]:
    return [one for one in [*owner._parameters.values(), *owner._buffers.values()] if one is not None]


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())
