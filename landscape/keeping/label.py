"""A finished result that is asked for under another name: a label decides no number."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from landscape.errors import UserError

Result = TypeVar("Result")


def labelled(found: Result, label: str, save: Callable[[Result], object]) -> Result:
    """`found` with this label, in its file, too, where that can be written; as it is for none or its own.

    Parameters
    ----------
    found
        A dataclass whose `about` has a label.
    label
        "" asks for none.
    save
        Writes the result in place of the file.
    """
    given: Any = found
    if not label or given.about.get("label") == label:
        return found
    fresh: Result = replace(given, about={**given.about, "label": label})
    with suppress(UserError):
        save(fresh)
    return fresh
