"""Values from a spec to typed options of ``python -m training``, and back to its command line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from cyclopts import CycloptsError, convert

from landscape.errors import UserError

Options = dict[str, Any]


@cache  # evaluating annotations takes most of the time of a large plan
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def option_names(kind: type) -> set[str]:
    """Fields of an options dataclass."""
    return {item.name for item in fields(kind)}


def normalized(table: Mapping[str, Any]) -> Options:
    """Option names as fields: ``batch-size`` becomes ``batch_size``."""
    return {key.replace("-", "_"): value for key, value in table.items()}


def check_known(names: Iterable[str], known: Collection[str], where: str, what: str) -> None:
    """Raise UserError at the first name that isn't known, suggesting the nearest one.

    >>> check_known(["epoch"], ["epochs", "lr"], "my.toml", "option")
    Traceback (most recent call last):
    landscape.errors.UserError: my.toml: unknown option 'epoch' (did you mean epochs?); known: epochs, lr
    """
    for name in names:
        if name not in known:
            match = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f" (did you mean {match[0]}?)" if match else ""
            raise UserError(f"{where}: unknown {what} {name!r}{hint}; known: {', '.join(sorted(known))}")


def build(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """Make the dataclass `kind` with `values` as the training's command line would.

    Raises
    ------
    UserError
        When a value is of another type than its option, or out of its range.
    """
    hints = _hints(kind)
    typed = {name: _typed(value, hints[name], f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**typed)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _typed(value: Any, hint: Any, where: str) -> Any:
    words = _words(value)
    try:
        if isinstance(value, Mapping) or value == []:
            raise TypeError("expected one value, or a list of at least one")
        result = convert(hint, words)
    except (CycloptsError, TypeError, ValueError) as error:
        message = " ".join(str(error).replace(type(error).__name__, "").split())
        raise UserError(f"{where} = {value!r}: {message}") from error
    # A list for a plain option would become a list of its values, and 2.5 the integer 2.
    if isinstance(value, list) != isinstance(result, tuple) or (
        isinstance(value, float) and result != value and get_origin(hint) is None
    ):
        raise UserError(f"{where} = {value!r}: expected {getattr(hint, '__name__', hint)}")
    return result


def tokens(kind: type, values: Mapping[str, Any]) -> list[str]:
    """The command line of some options of the dataclass `kind`.

    A list of any length is given as one option for each item, as cyclopts reads it.
    """
    hints = _hints(kind)
    line = []
    for name, value in values.items():
        option, words = f"--{name.replace('_', '-')}", _words(value)
        if isinstance(value, list) and not _any_length(hints[name]):
            line += [option, *words]
        else:
            line += [f"{option}={word}" for word in words]
    return line


def _any_length(hint: Any) -> bool:
    return any(Ellipsis in get_args(part) for part in (hint, *get_args(hint)))


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def table(content: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The table at `key`, empty when there is none; UserError when it is something else."""
    value = content.get(key, {})
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {key} = {value!r}: expected a table")
    return value


def list_of(value: Any, kind: type, where: str, what: str) -> list[Any]:
    """`value` if it is a list of one or more of `kind`; UserError otherwise."""
    fits = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    if not fits or not all(type(item) is kind for item in value):
        raise UserError(f"{where}: {what} = {value!r}: expected a list of {kind.__name__}, at least one")
    return list(value)
