"""What the files of a reproduction say of how they were made: whether they are what a scale asks for."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from figures.results import SUFFIX
from landscape.errors import UserError
from landscape.files.json_files import read_json
from landscape.surface import load_surface

Facts = Mapping[str, Any]


def made(product: Path) -> Facts | None:
    """By the words of `figures.reproduce.plan`; None where it isn't there, unfinished or unreadable.

    What a file doesn't say is left out.
    """
    if not product.is_file():
        return None
    read = next((one for end, one in _READERS.items() if product.name.endswith(end)), _other)
    try:
        return read(product)
    except (UserError, OSError):
        return None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):  # a file of somebody else's form
        return {}


def _surface(path: Path) -> Facts | None:
    surface = load_surface(path)
    if not surface.complete:
        return None
    sampling = surface.settings.get("sampling") or {}
    return {
        "checkpoint": surface.about.get("checkpoint", {}).get("sha256"),
        "span": float(surface.alpha[-1]),
        "points": len(surface.alpha),
        "planes": len(surface.planes),
        "split": surface.splits[0],
        "examples": surface.planes[0].splits[surface.splits[0]].examples,
        "tolerance": sampling.get("tolerance"),
        "max_points": sampling.get("max_points"),
        "mask": surface.planes[0].about.get("mask"),
    }


def _json(path: Path) -> Facts:
    content = read_json(path, "a result")
    if isinstance(content, Mapping):  # Figure 2's steps
        return {"rate": content.get("learning_rate"), "rho": content.get("rho")}
    (spectrum,) = content
    return {
        "checkpoint": spectrum["about"].get("checkpoint", {}).get("sha256"),
        "examples": spectrum["examples"],
        **{key: spectrum["settings"]["eigenvalues"][key] for key in ("top", "tolerance", "max_products")},
    }


def _csv(path: Path) -> Facts:
    with path.open(newline="", encoding="utf-8") as file:
        facts: dict[str, Any] = {"measures": {row["measure"] for row in csv.DictReader(file)}}
    beside = path.with_suffix(".json")
    if beside.exists():
        (result,) = read_json(beside, "sharpness in JSON")["results"]
        facts["checkpoint"] = result["sha256"]
    return facts


def _other(path: Path) -> Facts:
    return {}


_READERS: Mapping[str, Callable[[Path], Facts | None]] = {SUFFIX: _surface, ".json": _json, ".csv": _csv}
