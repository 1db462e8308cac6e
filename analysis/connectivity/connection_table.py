"""A connection as a table and as JSON. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich.table import Table
from rich.text import Text

from analysis.connectivity.barriers import Barrier, barrier, mean_along
from landscape.files.json_files import finite, sealed
from landscape.surface import Split, Surface

FORMAT = "sharpscape.connectivity"
VERSION = 1
CAPTION = (
    "barrier: largest rise above the line between the ends' values, for the accuracy the largest fall; "
    "[…] 95 % interval, ± standard error, both over the examples"
)


def table(surfaces: Mapping[str, Surface]) -> Table:
    """A row per curve and split."""
    found = Table(show_edge=False, pad_edge=False, caption=CAPTION)
    for name in ("", "examples", "loss at t = 0", "at t = 1", "mean", "highest", "barrier", "at t"):
        found.add_column(name, justify="left" if not name else "right")
    found.add_column("accuracy at 0, 1", justify="right")
    found.add_column("barrier", justify="right")
    for curve, surface in surfaces.items():
        for name, split in surface.planes[0].splits.items():
            found.add_row(*(Text(cell) for cell in _cells(curve, surface, name, split)))
    return found


def _cells(curve: str, surface: Surface, name: str, split: Split) -> Iterator[str]:
    loss = split.metrics["loss"]
    values, errors = loss.values[:, 0], loss.stderr[:, 0]
    rise = barrier(surface, name)
    yield f"{curve}, {name}"
    yield str(split.examples)
    for end in (0, -1):
        yield f"{values[end]:.4g} ± {errors[end]:.2g}"
    yield f"{mean_along(surface, name):.4g}"
    yield f"{values.max():.4g}"
    yield _barrier(rise)
    yield f"{rise.t:.2g}"
    accuracy = split.metrics.get("accuracy")
    if accuracy is None:
        yield from ("–", "–")
        return
    yield f"{100 * accuracy.values[0, 0]:.2f}, {100 * accuracy.values[-1, 0]:.2f} %"
    yield f"{_barrier(barrier(surface, name, 'accuracy'), 100)} %"


def _barrier(found: Barrier, scale: float = 1.0) -> str:
    value, low, high = (scale * one for one in (found.height.value, found.height.low, found.height.high))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]" if isfinite(low) else f"{value:.3g}"


def to_json(surfaces: Mapping[str, Surface], names: tuple[str, str], about: Mapping[str, Any]) -> str:
    """Everything as JSON; what isn't finite is null, and a diverged barrier says so."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "ends": list(names),
        **about,
        "curves": {curve: _curve(surface) for curve, surface in surfaces.items()},
    }
    return json.dumps(sealed(finite(content)), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _curve(surface: Surface) -> dict[str, Any]:
    plane = surface.planes[0]
    return {
        "t": surface.alpha.tolist(),
        "plane": plane.about,
        "settings": surface.settings,
        "splits": {name: _split(surface, name, split) for name, split in plane.splits.items()},
    }


def _split(surface: Surface, name: str, split: Split) -> dict[str, Any]:
    found: dict[str, Any] = {"examples": split.examples}
    for key, metric in split.metrics.items():
        found[key] = {
            "values": metric.values[:, 0].tolist(),
            "stderr": metric.stderr[:, 0].tolist(),
            "mean": mean_along(surface, name, key),
        }
        if key in ("loss", "accuracy"):
            found[key]["barrier"] = _barrier_json(barrier(surface, name, key))
    return found


def _barrier_json(found: Barrier) -> dict[str, Any]:
    height = {key: value for key, value in asdict(found.height).items() if key in _HEIGHT}
    return {**height, "t": found.t, "diverged": not isfinite(found.height.value)}


_HEIGHT = ("value", "low", "high", "stderr_examples")
