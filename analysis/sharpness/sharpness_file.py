"""Measured sharpness as JSON, kept up to date while it is being computed, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite, isinf, nan
from pathlib import Path
from typing import Any, get_args

from analysis.sharpness.measure import Kind, Sharpness
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.files.json_files import has_seal, number_or_none, read_json, sealed

FORMAT = "sharpscape.sharpness"
VERSION = 2  # since then with a digest
_READ = (1, 2)
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
    content = sealed({"format": FORMAT, "version": VERSION, "results": [_entry(one) for one in entries]})
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
    return parse(read_json(path, "a file written by analysis.sharpness"), path)


def parse(content: Any, path: Path) -> list[Entry]:
    """Entries from parsed JSON.

    Raises
    ------
    UserError
        When it is something else.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path} holds no sharpness; expected a file written by analysis.sharpness")
    version = content.get("version")
    if version not in _READ or isinstance(version, bool):
        raise UserError(f"{path} has version {version}, but {_READ[0]} to {VERSION} is read here; update")
    if version == VERSION and not has_seal(content):
        raise UserError(f"{path} is damaged: its digest is missing; compute it anew with --overwrite")
    try:
        return [_read(one) for one in content["results"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
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
    for name, value in plain.items():
        if not isinstance(value, dict if name in ("settings", "about") else str):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    density = number_or_none(plain["about"].get("density"), "density", 0)
    if density is not None and density > 1:
        raise ValueError(f"density is {density}")
    measures = {name: _sharpness(one) for name, one in content["measures"].items()}
    return Entry(**plain, measures=measures)


def _sharpness(content: Mapping[str, Any]) -> Sharpness:
    least = {name: 0.0 if name.startswith("stderr") else None for name in _NUMBERS}
    found = {name: number_or_none(content[name], name, least[name]) for name in _NUMBERS}
    numbers = {name: nan if value is None else value for name, value in found.items()}
    if numbers["low"] > numbers["high"]:
        raise ValueError(f"low {numbers['low']} is above high {numbers['high']}")
    if content.get("diverged"):
        numbers["value"] = inf
    kind, details = content["kind"], content["details"]
    if kind not in get_args(Kind) or not isinstance(details, dict):
        raise TypeError(f"the kind {kind!r} or details of a measure")
    return Sharpness(**numbers, kind=kind, details=details)


def _plain(value: Any) -> Any:
    """JSON types only: a number that isn't finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
