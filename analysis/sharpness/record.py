"""Measured sharpness as JSON, kept up to date while it is being computed, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite, isinf, nan
from pathlib import Path
from typing import Any

from analysis.sharpness.measure import Sharpness
from landscape.errors import UserError
from landscape.files import atomic_path

FORMAT = "sharpscape.sharpness"
VERSION = 1
_NUMBERS = ("value", "low", "high", "stderr_examples", "stderr_draws")


@dataclass
class Entry:
    """One checkpoint on one split.

    Attributes
    ----------
    name, file, sha256
        The checkpoint's.
    split
        Which examples.
    settings
        Everything that determines the numbers; JSON types.
    about
        What is known besides: architecture, data, accuracy, sparsity, number of weights.
    measures
        Finished ones by name.
    """

    name: str
    file: str
    sha256: str
    split: str
    settings: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Sharpness] = field(default_factory=dict)


def to_json(entries: Sequence[Entry]) -> str:
    """JSON with null for what is undefined, and null with ``"diverged": true`` for what is infinite."""
    content = {"format": FORMAT, "version": VERSION, "results": [_entry(one) for one in entries]}
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def save(entries: Sequence[Entry], path: Path) -> None:
    """Write in one step: the file is always whole."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(entries), encoding="utf-8", errors="backslashreplace")


def load(path: Path) -> list[Entry]:
    """Read what `save` wrote.

    Raises
    ------
    UserError
        When the file is missing, isn't readable, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise UserError(f"{path}: {reason}; expected a file written by analysis.sharpness") from error
    return parse(content, path)


def parse(content: Any, path: Path) -> list[Entry]:
    """Entries from parsed JSON.

    Raises
    ------
    UserError
        When it is something else.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path} holds no sharpness; expected a file written by analysis.sharpness")
    if content.get("version") != VERSION:
        raise UserError(f"{path} has version {content.get('version')}, but {VERSION} is read here; update")
    try:
        return [_read(one) for one in content["results"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error!r}; compute it anew with --overwrite") from error


def _entry(entry: Entry) -> dict[str, Any]:
    plain = {key: value for key, value in asdict(entry).items() if key != "measures"}
    facts: dict[str, Any] = _plain(plain)
    return facts | {"measures": {name: _measure(one) for name, one in entry.measures.items()}}


def _measure(found: Sharpness) -> dict[str, Any]:
    diverged = {"diverged": True} if isinf(found.value) else {}
    plain: dict[str, Any] = _plain(asdict(found))
    return plain | diverged


def _read(content: Mapping[str, Any]) -> Entry:
    plain = {one.name: content[one.name] for one in fields(Entry) if one.name != "measures"}
    measures = {name: _sharpness(one) for name, one in content["measures"].items()}
    return Entry(**plain, measures=measures)


def _sharpness(content: Mapping[str, Any]) -> Sharpness:
    numbers = {name: nan if content[name] is None else float(content[name]) for name in _NUMBERS}
    if content.get("diverged"):
        numbers["value"] = inf
    return Sharpness(**numbers, kind=content["kind"], details=content["details"])


def _plain(value: Any) -> Any:
    """JSON types only: a number that isn't finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
