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
        What a person should know: that a checkpoint of an image folder doesn't name its classes; else empty.

    Raises
    ------
    UserError
        When a name is another, but for capital letters.
    """
    names = stored.get("classes")
    if found is None or not isinstance(names, (list, tuple)):
        of_folder = isinstance(stored.get("images"), Mapping)
        return "the checkpoint doesn't name its classes" if of_folder and found is not None else ""
    if len(names) != len(found):
        raise UserError(
            f"the model was trained on {len(names)} classes, {what} has {len(found)}; "
            "choose the --data that the model was trained on"
        )
    for number, (one, other) in enumerate(zip(names, found, strict=True)):
        if one.casefold() != other.casefold():
            raise UserError(
                f"class {number} of the model is {one}, of {what} {other}; "
                "choose the --data that the model was trained on, or name its classes as they were"
            )
    return ""
