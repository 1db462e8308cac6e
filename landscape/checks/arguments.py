"""Numbers that a caller gives, in one line where they are something else."""

from __future__ import annotations

import math
from operator import index
from typing import Any

from landscape.errors import UserError

LARGEST = 1e30


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number, NumPy's among them.

    Raises
    ------
    UserError
        Where it is none, or below `least`.

    >>> whole("points", 3)
    3
    """
    try:
        found = None if isinstance(value, bool) else index(value)
    except TypeError:
        found = None
    if found is None:
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if found < least:
        raise UserError(f"{name} must be at least {least}, got {found}")
    return found


def number(name: str, value: Any) -> float:
    """A number, which may be infinite or NaN.

    Raises
    ------
    UserError
        Where it is none.

    >>> number("span", 1)
    1.0
    """
    try:
        found = None if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None:
        raise UserError(f"{name} must be a number, got {value!r}")
    return found


def positive(name: str, value: Any) -> float:
    """A finite number above 0, and one that float32 holds; UserError otherwise."""
    found = number(name, value)
    if not 0 < found < math.inf:
        raise UserError(f"{name} {found}: expected a positive, finite number")
    if found > LARGEST:
        raise UserError(f"{name} {found:g}: expected at most {LARGEST:g}")
    return found
