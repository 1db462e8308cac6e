"""Whether class number k of some data is what a network learned as number k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.errors import UserError


def check_class_names(stored: Mapping[str, Any], found: Sequence[str] | None, what: str) -> str:
    """Compare the classes that a checkpoint was trained on with those of data, number by number.

    Parameters
    ----------
    stored
        What the checkpoint says about its data: ``classes``, their names by number, where they had any.
    found
        Names of the data's classes; None where they have none.
    what
        The data, as a message calls them.

    Returns
    -------
    str
        What a person should know: that only one of the two names its classes, where the checkpoint is of an
        image folder or has names; else empty. Numbers are no names.

    Raises
    ------
    UserError
        When a name is another, but for capital letters.
    """
    names = _words(stored.get("classes"))
    if names and not _words(found):
        return f"{what} doesn't name its classes, the checkpoint does: whether they are the same isn't known"
    if not names:
        of_folder = isinstance(stored.get("images"), Mapping)
        return "the checkpoint doesn't name its classes" if of_folder and found is not None else ""
    assert found is not None
    if len(names) != len(found):
        raise UserError(
            f"the model was trained on {len(names)} classes, {what} has {len(found)}; "
            "choose the --data that the model was trained on"
        )
    for number, (one, other) in enumerate(zip(names, found, strict=True)):
        if one.strip().casefold() != other.strip().casefold():
            raise UserError(
                f"class {number} of the model is {one}, of {what} {other}; "
                "choose the --data that the model was trained on, or name its classes as they were"
            )
    return ""


def _words(names: object) -> list[str]:
    """Names that say more than a number; empty where there are none."""
    found = [one for one in names if isinstance(one, str)] if isinstance(names, (list, tuple)) else []
    return [] if all(one.strip().isdecimal() for one in found) else found
