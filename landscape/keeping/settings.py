"""Whether an earlier result was made with the same settings; what differs is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from landscape.errors import UserError

Json = dict[str, Any]

FUNCTIONS = "functions"
"""The settings' entry that describes code: digests by name, and the Python that they are of."""

OTHERWISE = "choose another output path, or overwrite it with --overwrite"


def check_settings(
    holder: str, stored: Mapping[str, Any], wanted: Mapping[str, Any], otherwise: str = OTHERWISE
) -> None:
    """Refuse an earlier result that isn't the one that is wanted.

    Parameters
    ----------
    holder
        What was made with the stored settings, as "x.h5 holds a surface".
    stored, wanted
        Everything that determines the numbers; JSON types.
    otherwise
        What to do.

    Raises
    ------
    UserError
        Naming the first difference.

    >>> check_settings("x.h5 holds a surface", {"span": 1.0}, {"span": 1.0})
    """
    difference = result_difference(dict(stored), dict(wanted))
    if difference is not None:
        raise UserError(f"{holder} made with other settings ({difference}); {otherwise}")


def settings_difference(stored: Json, wanted: Json) -> str | None:
    """The first setting in which two runs differ, as "name: stored … , wanted …", or None."""
    for name in sorted({*stored, *wanted}):
        old, new = stored.get(name), wanted.get(name)
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            return f"{name}: the file has {json.dumps(old)}, this run wants {json.dumps(new)}"
    return None


def result_difference(stored: Json, wanted: Json) -> str | None:
    """The first setting in which an earlier result differs, functions last and in words; None for none."""
    stored = known_settings(stored, wanted)
    parts = [{key: value for key, value in one.items() if key != FUNCTIONS} for one in (stored, wanted)]
    return settings_difference(*parts) or _other_function(stored, wanted)


def known_settings(stored: Json, wanted: Json) -> Json:
    """`stored`, with the functions of `wanted` where it can't tell: older files, other versions of Python."""
    known, asked = stored.get(FUNCTIONS), wanted.get(FUNCTIONS)
    if asked is None:
        return stored
    if not isinstance(known, Mapping) or known.get("python") != asked["python"]:
        return stored | {FUNCTIONS: asked}
    return stored | {FUNCTIONS: asked | dict(known)}


def _other_function(stored: Json, wanted: Json) -> str | None:
    """Which of the functions isn't the file's, in words."""
    for name, digest in wanted.get(FUNCTIONS, {}).items():
        if stored[FUNCTIONS].get(name) != digest:
            of = f"code, or values that it refers to: {stored[FUNCTIONS].get(name)}, not {digest}"
            return f"the {name}: the file has another function ({of})"
    return None
