"""Reading the parts of a `Tree` as a schema has them; anything else is `MalformedError`, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from landscape.errors import UserError
from landscape.files.json_files import number_or_none
from landscape.hdf5.tree import Array, ForeignError, MalformedError, Scalar, Tree

Shape = tuple[int | None, ...]
LONGEST_AXIS = 1_000_000


def check_version(tree: Tree, form: str, newest: int, sealed: bool, program: str) -> int:
    """The format version of a file of that format.

    From version 2 on a file carries a digest; without one it was cut, or written by another program.

    Raises
    ------
    MalformedError
        For another format, or a version that isn't read here.
    """
    if tree.attrs.get("format") != form:
        raise ForeignError(f"an HDF5 file, but not one of {program}")
    version = integer(tree.attrs, "format_version")
    if version > newest:
        raise ForeignError(f"format version {version}, this program reads up to {newest}")
    if version < 1:
        raise ForeignError(f"format version {version}; expected 1 to {newest}")
    if version > 1 and not sealed:
        raise MalformedError(
            "its digest at the end is missing: the file was cut, or rewritten by another program"
        )
    return version


def group(tree: Tree, name: str) -> Tree:
    """A group that must be there."""
    if name not in tree.groups:
        raise MalformedError(f"the group {name} is missing")
    return tree.groups[name]


def optional(tree: Tree, name: str) -> Tree | None:
    """A group that may be missing, but is nothing else."""
    if name in tree.arrays:
        raise MalformedError(f"{name} is a data set; expected a group")
    return tree.groups.get(name)


def has_array(tree: Tree, name: str) -> bool:
    """Whether a data set is there that may be missing, but is nothing else."""
    if name in tree.groups:
        raise MalformedError(f"{name} is a group; expected a data set")
    return name in tree.arrays


def numbered(tree: Tree, what: str, most: int) -> list[Tree]:
    """Groups called 0, 1, …, and nothing else."""
    names = [str(number) for number in range(len(tree.groups))]
    if tree.arrays or set(names) != set(tree.groups) or len(names) > most:
        raise MalformedError(f"{what} aren't groups 0, 1, … (at most {most})")
    return [tree.groups[name] for name in names]


def array(tree: Tree, name: str, kind: str, shape: Shape) -> Array:
    """A data set of a type ("float64", "bool", "int64") and a shape, None for any length.

    Raises
    ------
    MalformedError
        When it is missing or another.
    """
    found = tree.arrays.get(name)
    if found is None:
        raise MalformedError(f"the data set {name} is missing")
    if found.dtype.newbyteorder("=") != np.dtype(kind):
        raise MalformedError(f"{name} holds {found.dtype}; expected {kind}")
    fits = len(found.shape) == len(shape) and all(
        wanted is None or wanted == there for wanted, there in zip(shape, found.shape, strict=True)
    )
    if not fits or any(one > LONGEST_AXIS for one in found.shape):
        expected = " × ".join("any" if one is None else str(one) for one in shape)
        raise MalformedError(f"{name} has the shape {list(found.shape)}; expected {expected}")
    return found.astype(kind, copy=False)


def grid(tree: Tree, name: str) -> Array:
    """Coordinates: at least one, finite, ascending."""
    found = array(tree, name, "float64", (None,))
    if not found.size or not np.isfinite(found).all() or (np.diff(found) <= 0).any():
        raise MalformedError(f"{name} isn't a grid: expected finite coordinates in ascending order")
    return found


def not_negative(values: Array | float, name: str) -> None:
    """Errors, counts and weights: NaN passes, it says unknown."""
    if (np.asarray(values) < 0).any():
        raise MalformedError(f"{name} is negative")


def attribute(attrs: Mapping[str, Scalar], name: str) -> Scalar:
    """An attribute that must be there."""
    if name not in attrs:
        raise MalformedError(f"the attribute {name} is missing")
    return attrs[name]


def integer(attrs: Mapping[str, Scalar], name: str, least: int | None = None) -> int:
    """A whole number, not below `least`."""
    value = attribute(attrs, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedError(f"{name} is {value!r}; expected a whole number")
    if least is not None and value < least:
        raise MalformedError(f"{name} is {value}; expected at least {least}")
    return value


def number(attrs: Mapping[str, Scalar], name: str, least: float | None = None) -> float:
    """A number, not below `least`; NaN passes, it says unknown."""
    value = attribute(attrs, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"{name} is {value!r}; expected a number")
    if least is not None and not isnan(value) and value < least:
        raise MalformedError(f"{name} is {value}; expected at least {least:g}")
    return float(value)


def flag(attrs: Mapping[str, Scalar], name: str) -> bool:
    """True or false."""
    value = attribute(attrs, name)
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise MalformedError(f"{name} is {value!r}; expected true or false")
    return bool(value)


def parsed(attrs: Mapping[str, Scalar], name: str) -> Any:
    """JSON in a text."""
    text = attribute(attrs, name)
    if not isinstance(text, str):
        raise MalformedError(f"{name} isn't JSON text")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{name} isn't JSON ({error})") from error


def mapping(attrs: Mapping[str, Scalar], name: str) -> dict[str, Any]:
    """A JSON object."""
    value = parsed(attrs, name)
    if not isinstance(value, dict):
        raise MalformedError(f"{name} is JSON, but no object")
    return value


def names(attrs: Mapping[str, Scalar], name: str, *, distinct: bool = True) -> tuple[str, ...]:
    """A JSON list of texts, each once where they are to be distinct."""
    value = parsed(attrs, name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MalformedError(f"{name} isn't a list of names")
    if distinct and len(set(value)) < len(value):
        raise MalformedError(f"{name} names one thing twice")
    return tuple(value)


def readable(path: object, what: str, read: Callable[[], Any]) -> Any:
    """What `read` gives; what is malformed becomes a `UserError` in one line."""
    try:
        return read()
    except ForeignError as error:
        raise UserError(f"{path}: {error}") from error
    except MalformedError as error:
        raise UserError(f"{path}: not a readable {what} ({error})") from error


def told(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The same without those of `names` that are null, which says no more than nothing there."""
    return {name: value for name, value in content.items() if value is not None or name not in names}


def finite(value: Any, name: str, least: float | None = None) -> None:
    """A value out of JSON is a finite number, not below `least`, or null."""
    try:
        number_or_none(value, name, least)
    except (TypeError, ValueError) as error:
        raise MalformedError(str(error)) from None


def one_of(value: Any, kinds: Sequence[type], name: str) -> None:
    """A value out of JSON has one of these types; a bool counts as no number."""
    if value is None or (isinstance(value, tuple(kinds)) and (bool in kinds or not isinstance(value, bool))):
        return
    wanted = " or ".join(_WORDS[one] for one in kinds)
    raise MalformedError(f"{name} is {str(value)[:40]!r}; expected {wanted}")


_WORDS = {str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list"}
