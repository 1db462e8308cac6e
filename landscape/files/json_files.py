"""JSON results: read with bounds, and with a digest so that no damage goes unnoticed. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.files import check_regular

LARGEST = 256 << 20  # bytes: a thousand times the results of a long run
KEY = "sha256_of_content"


def read_json(path: str | os.PathLike[str], expected: str) -> Any:
    """What a JSON file holds.

    Parameters
    ----------
    path
        The file.
    expected
        For messages: "a file written by analysis.sharpness".

    Raises
    ------
    UserError
        When it is missing, too large, not JSON, or other than its digest says.
    """
    file, wanted = Path(path), f"expected {expected}"
    try:
        if check_regular(file) > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 20} MiB; expected {expected}")
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected {expected}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read, not readable as JSON ({error}); {wanted}") from error
    for one in content if isinstance(content, list) else [content]:
        if isinstance(one, Mapping) and KEY in one and one[KEY] != _digest(one):
            raise UserError(
                f"{path}: damaged, or edited since it was written (its SHA-256 doesn't fit); make it anew, "
                f'or remove "{KEY}" from it to read it as it is'
            )
    return content


def as_json(content: Any) -> str:
    """As `json.dumps`, keys in order, NumPy's numbers as Python's.

    >>> import numpy as np
    >>> as_json({"b": np.int64(2), "a": np.bool_(True)})
    '{"a": true, "b": 2}'
    """
    return json.dumps(content, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same JSON object with its digest, which `read_json` checks."""
    plain = json.loads(json.dumps(content))  # tuples become lists, keys texts
    return {**plain, KEY: _digest(plain)}


def finite(value: Any) -> Any:
    """The same with null in place of NaN and infinity, which JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def has_seal(content: Any) -> bool:
    """Whether an object carries a digest; what `read_json` gave has passed it then."""
    return isinstance(content, Mapping) and KEY in content


def number_or_none(value: Any, name: str, least: float | None = None) -> float | None:
    """A finite number out of JSON, not below `least`, or None.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {str(value)[:40]!r}, not a number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is a whole number of {len(str(abs(value)))} digits") from None
    if not isfinite(number) or (least is not None and number < least):
        raise ValueError(f"{name} is {number}")
    return number


def _digest(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != KEY}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
