"""Sharpness files from strangers: what isn't as the schema has it is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.sharpness.sharpness_file import load
from landscape.errors import UserError

MEASURE = {"value": 1.0, "low": 0.5, "high": 1.5, "stderr_examples": 0.1, "stderr_draws": None}


def of_version_1() -> dict[str, Any]:
    """As files were before they had digests."""
    measure = {**MEASURE, "kind": "estimate", "details": {}}
    one = {"name": "net", "file": "net.pt", "sha256": "", "split": "test", "settings": {}, "about": {}}
    return {
        "format": "sharpscape.sharpness",
        "version": 1,
        "results": [{**one, "measures": {"sam": measure}}],
    }


def changed(content: dict[str, Any], changes: Mapping[str, Any], *, measure: bool) -> dict[str, Any]:
    place = content["results"][0]["measures"]["sam"] if measure else content["results"][0]
    place.update(changes)
    return content


IN_ENTRY: list[dict[str, Any]] = [
    {"name": 3},
    {"file": None},
    {"sha256": ["x"]},
    {"split": {}},
    {"settings": []},
    {"settings": "rho"},
    {"about": 3},
    {"about": {"density": 1.5}},
    {"about": {"density": -0.5}},
    {"about": {"density": "half"}},
    {"measures": []},
    {"measures": {"sam": 1.0}},
    {"measures": {"sam": {}}},
    {"measures": None},
]
IN_MEASURE: list[dict[str, Any]] = [
    {"value": "1"},
    {"value": True},
    {"value": [1.0]},
    {"low": 2.0},
    {"high": 0.0},
    {"high": "x"},
    {"stderr_examples": -0.1},
    {"stderr_draws": -1},
    {"stderr_draws": {}},
    {"kind": "upper bound"},
    {"kind": 1},
    {"kind": None},
    {"details": []},
    {"details": "x"},
]
WHOLE: list[Any] = [
    [],
    {},
    None,
    {"format": "sharpscape.comparison", "version": 1, "results": []},
    *(
        {"format": "sharpscape.sharpness", "version": one, "results": []}
        for one in (0, -7, 3, "1", True, None)
    ),
    {"format": "sharpscape.sharpness", "version": 2, "results": []},
    {"format": "sharpscape.sharpness", "version": 1, "results": {"0": {}}},
    {"format": "sharpscape.sharpness", "version": 1},
    {"format": "sharpscape.sharpness", "version": 1, "results": [1]},
    {"format": "sharpscape.sharpness", "version": 1, "results": 5},
]


def refused(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_version_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(of_version_1()), encoding="utf-8")
    assert load(path)[0].measures["sam"].value == 1.0


@pytest.mark.parametrize("changes", IN_ENTRY)
def test_hostile_entry_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(tmp_path / "x.json", changed(of_version_1(), changes, measure=False))


@pytest.mark.parametrize("changes", IN_MEASURE)
def test_hostile_measure_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(tmp_path / "x.json", changed(of_version_1(), changes, measure=True))


@pytest.mark.parametrize("content", WHOLE)
def test_hostile_file_is_refused(tmp_path: Path, content: Any) -> None:
    refused(tmp_path / "x.json", content)
