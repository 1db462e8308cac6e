"""Hooks of the user's: those that only watch are taken off the engine's copy, others are part of the network.

A hook that collects activations would otherwise run at every point and fill the user's memory. It only
watches if it returns nothing, writes into no tensor and sets no attribute of its module, and if the loss
doesn't read what it collects; that is seen in two calls. Two calls tell nothing of code that asks first (a
clip of large values), so hooks stay that have a branch, in them or in what they call, or look at a tensor's
number. So do those that PyTorch itself puts there (pruning, weight normalization): they compute weights.
"""

from __future__ import annotations

import cProfile
import dis
import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
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
_NUMBER = torch.ops.aten._local_scalar_dense.default
_BETWEEN = ("CACHE", "PRECALL", "TO_BOOL", "NOT_TAKEN", "COPY")
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
    """Notes whether an operation writes into the memory of some tensors, be it what was there before.

    Or whether a tensor's number becomes one of Python's, from which anything may follow.
    """

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
        self.seen |= func is _NUMBER or any(_place(one) in self._places for one in written)
        return func(*args, **(kwargs or {}))


def _place(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


@contextmanager
def _noting_branches(asked: list[CodeType]) -> Iterator[None]:
    """Gather called functions that may take one of several ways; those of torch and Python don't count."""
    before: Any = sys.getprofile()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and not _is_plain(frame.f_globals.get("__name__")) and has_branch(frame.f_code):
            asked.append(frame.f_code)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before if callable(before) else None)
        if isinstance(before, cProfile.Profile):  # up to Python 3.11 it isn't a function
            before.enable()


def _is_plain(module: str | None) -> bool:
    """Whether a module's functions do the same whatever values they are given, as far as hooks go."""
    name = str(module).partition(".")[0]
    return name in ("torch", "numpy", "landscape") or name in sys.stdlib_module_names


def has_branch(code: CodeType) -> bool:
    """Whether a function's way depends on values: conditions, loops, what follows ``and`` and ``or``.

    Neither what is done about exceptions counts nor questions that have the same answer at every point:
    ``isinstance``, ``is None``, ``self.training``.
    """
    steps = {one.offset: one for one in dis.get_instructions(code)}
    following = dict(itertools.pairwise(steps))
    jumps, seen, open_ways = {*dis.hasjrel, *dis.hasjabs}, set[int](), [next(iter(steps))]
    while open_ways:
        place = open_ways.pop()
        step = steps[place]
        if place in seen or step.opname in _ENDS:
            continue
        seen.add(place)
        onward = following.get(place)
        if step.opcode in jumps:
            if not step.opname.startswith("JUMP_") or "_IF_" in step.opname or "_OR_" in step.opname:
                if not _is_lasting(list(steps.values()), place):
                    return True
                open_ways.append(onward if onward is not None else place)
            open_ways.append(step.argval)
        elif onward is not None:
            open_ways.append(onward)
    return False


def _is_lasting(steps: Sequence[dis.Instruction], place: int) -> bool:
    """Whether the question before a jump is one of kind or mode."""
    number = next(at for at, one in enumerate(steps) if one.offset == place)
    jump, before = steps[number], [one for one in steps[:number] if one.opname not in _BETWEEN]
    if not jump.opname.startswith("POP_JUMP") or not before:
        return False
    last = before[-1]
    if (
        "NONE" in jump.opname
        or last.opname == "IS_OP"
        or (last.argval == "training" and "LOAD" in last.opname)
    ):
        return True
    if last.opname != "CALL":
        return False
    for one in reversed(before[:-1]):
        if "CALL" in one.opname or one.opcode in (*dis.hasjrel, *dis.hasjabs):
            return False
        if one.argval == "isinstance":
            return True
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
