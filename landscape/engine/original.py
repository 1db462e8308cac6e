"""What the user's own network holds while copies of it are called.

A copy shares what closures refer to: a hook that does ``self.features = output`` stores them in the original.
The copy then goes on with the features that the original had when it was copied, and the original, which is
the user's, gets others.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.determinism import ROUNDING, relative_difference
from landscape.errors import UserError

_LONG = 10_000  # items, above which they aren't looked at
_TABLES = ("_parameters", "_buffers", "_modules")


class Original:
    """A network's attributes, tables of tensors included, and the contents of its lists and dicts."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._held = {(place, name): (value, _contents(value)) for place, name, value in _attributes(model)}

    def changes(self) -> list[tuple[str, str]]:
        """The module's place and the attribute's name of all that is another now."""
        now = {(place, name): value for place, name, value in _attributes(self._model)}
        gone = [one for one in self._held if one not in now]
        return gone + [one for one, value in now.items() if self._other(one, value)]

    def _other(self, one: tuple[str, str], value: Any) -> bool:
        if one not in self._held:
            return True
        before, contents = self._held[one]
        if before is not value or contents is None:
            return before is not value
        found = _contents(value) or []
        return len(found) != len(contents) or not all(map(operator.is_, found, contents))

    def now(self, place: str, name: str) -> Any:
        """What the network has there at present; an object of no use where it has nothing."""
        tables = _tables(dict(self._model.named_modules())[place])
        return next((table[name] for table in tables if name in table), _NOTHING)

    def restore(self) -> None:
        """Put back what was there; where a class doesn't allow it, it stays."""
        modules = dict(self._model.named_modules())
        for place, name in self.changes():
            before, contents = self._held.get((place, name), (_NOTHING, None))
            with suppress(Exception):
                _put(modules[place], name, before)
                _refill(before, contents)


@contextmanager
def restored(model: nn.Module) -> Iterator[Original]:
    """Calls of copies inside leave the network's attributes as they were, also where one fails."""
    original = Original(model)
    try:
        yield original
    finally:
        original.restore()


def check_own(
    call: Callable[[Any, Any], Mapping[str, Tensor]], module: nn.Module, batch: Any, original: Original
) -> None:
    """Refuse a copy that reads what its calls write into the original.

    Parameters
    ----------
    call
        Evaluates the loss in the gradient mode that it needs.
    module
        The copy, which was called before.
    batch
        A few examples.
    original
        As it was before these calls.

    Raises
    ------
    UserError
        When the loss is another, or none, without the attributes that were written.
    """
    changes = original.changes()
    if not changes:
        return
    before = call(module, batch)["loss"].detach().clone()
    with _without(module, original, changes):
        try:
            after = call(module, batch)["loss"].detach()
        except Exception:
            after = None
    if after is None or relative_difference(before, after) > ROUNDING.get(before.dtype, 0.0):
        place, name = changes[0]
        raise UserError(
            f"a hook or forward writes {f'{place}.{name}'.lstrip('.')!r} into the model itself, and the copy "
            "whose weights move reads its own: write to the module that the hook is given, or register a "
            "bound method"
        )


@contextmanager
def _without(module: nn.Module, original: Original, names: list[tuple[str, str]]) -> Iterator[None]:
    """Inside it the module doesn't have these attributes; of plain values it has what the original has now.

    A counter that a forward names in a message, say, isn't what it computes with. What both share is one.
    """
    modules, taken = dict(module.named_modules()), []
    for place, name in names:
        for table in _tables(modules[place]) if place in modules else ():
            now = original.now(place, name)
            if name in table and table[name] is not now:
                taken.append((table, name, table.pop(name)))
                if isinstance(now, bool | int | float | str):
                    table[name] = now
    try:
        yield
    finally:
        for table, name, value in taken:
            table[name] = value


def _tables(module: nn.Module) -> list[dict[str, Any]]:
    return [vars(module), *(vars(module).get(name, {}) for name in _TABLES)]


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    for place, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            for table in _tables(module):
                yield from ((place, name, value) for name, value in table.items() if name not in _TABLES)


def _put(module: nn.Module, name: str, value: Any) -> None:
    for table in _tables(module):
        if name in table:
            if value is _NOTHING:
                del table[name]
            else:
                table[name] = value
            return
    if value is not _NOTHING:
        setattr(module, name, value)


def _contents(value: Any) -> list[Any] | None:
    if type(value) not in (dict, OrderedDict, defaultdict, list, deque) or len(value) > _LONG:
        return None
    return [part for pair in value.items() for part in pair] if isinstance(value, dict) else list(value)


def _refill(value: Any, contents: list[Any] | None) -> None:
    if contents is None:
        return
    value.clear()
    if isinstance(value, dict):
        value.update(zip(contents[::2], contents[1::2], strict=True))
    else:
        value.extend(contents)


_NOTHING = object()
