"""What the viewer's page is told about surfaces: JSON types only, every name as it is, numbers rounded.

The page's scripts read it in ``assets/data.js``; `landscape.viewer` escapes it for HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

import sharpscape
from landscape.intervals import listed
from landscape.surface import BoolArray, Metric, Path2D, Plane, Split, Surface
from landscape.surface.glance import normalization_text

Json = dict[str, Any]

DIGITS = 6  # of every value on the page; the surface file has them all
MASKS = {"checkpoint": "mask from the checkpoint", "zeros": "mask from exact zeros", "none": "no mask"}


def payload(surfaces: Sequence[Surface], metrics: Sequence[Mapping[str, Any]]) -> Json:
    """What the page's scripts read, as JSON types; numbers have `DIGITS` significant digits.

    A row of metrics that says anything also says mask and plane: numbers of others can't be compared.
    """
    metrics = [
        {**row, **_conditions(one)} if row else row for one, row in zip(surfaces, metrics, strict=True)
    ]
    return {
        "format": "sharpscape.page",
        "version": 1,
        "generator": generator(),
        "columns": list(dict.fromkeys(str(name) for row in metrics for name in row)),
        "surfaces": [
            {**_surface(surface, row), "label": label}
            for surface, row, label in zip(surfaces, metrics, numbered(surfaces), strict=True)
        ],
    }


def numbered(surfaces: Sequence[Surface]) -> list[str]:
    """Labels, those that occur several times with a number: menus and legends must tell them apart."""
    labels = [surface.label for surface in surfaces]
    return [
        f"{label} ({labels[: index + 1].count(label)})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    ]


def _surface(surface: Surface, row: Mapping[str, Any]) -> Json:
    return {
        "dim": surface.dim,
        "complete": surface.complete,
        "alpha": _rounded(surface.alpha, 10),
        "beta": _rounded(surface.beta, 10),
        "center": surface.center,
        "planes": [
            _plane(plane, name, surface)
            for plane, name in zip(surface.planes, _plane_names(surface), strict=True)
        ],
        "metrics": [_named_cell(str(name), value) for name, value in row.items()],
        "facts": list(_facts({**surface.about, "settings": surface.settings})),
    }


def _plane(plane: Plane, name: str, surface: Surface) -> Json:
    units = surface.about.get("units")
    return {
        "name": name,
        "notes": [*_notes(plane.about), name],
        "axes": [_axis_title("α", "alpha_to", plane.about), _axis_title("β", "beta_to", plane.about)],
        "computed": _bits(plane.computed),
        "path": _path(plane.path),
        "splits": [
            _split(split_name, split, units if isinstance(units, Mapping) else {})
            for split_name, split in plane.splits.items()
        ],
    }


def _split(name: str, split: Split, units: Mapping[str, Any]) -> Json:
    # A classifier's loss is a cross-entropy; the unit of any other is the caller's to say.
    known = {"accuracy": "fraction"} | ({"loss": "nats"} if "accuracy" in split.metrics else {})
    return {
        "name": name,
        "examples": split.examples,
        "metrics": [
            {
                "name": metric_name,
                "unit": str(units.get(metric_name, known.get(metric_name, ""))),
                **_metric(metric),
            }
            for metric_name, metric in split.metrics.items()
        ],
    }


def _metric(metric: Metric) -> Json:
    """Values with null where there is none; `diverged` lists the flat indices of the infinite ones."""
    return {
        "values": _rounded(metric.values, DIGITS),
        "diverged": np.flatnonzero(np.isinf(metric.values)).tolist(),
        "stderr": _rounded(metric.stderr, 3) if np.isfinite(metric.stderr).any() else None,
        "error": _number(metric.error, 3),
        "log_error": _number(metric.log_error, 3),
        "computed": None if metric.computed is None else _bits(metric.computed),
    }


def _bits(mask: BoolArray) -> str:
    return "".join(np.where(mask.ravel(), "1", "0"))


def _path(path: Path2D | None) -> Json | None:
    if path is None:
        return None
    labels = [str(label) for label in path.labels]
    parts = [[str(name), count] for name, count in path.parts] or [["", len(labels)]]
    places = {"alpha": _rounded(path.alpha, DIGITS), "beta": _rounded(path.beta, DIGITS)}
    return {**places, "labels": labels, "parts": parts}


def _rounded(values: npt.NDArray[np.float64], digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values.ravel().tolist()]


def _number(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if isfinite(value) else None


def _named_cell(name: str, value: Any) -> Json:
    """A cell with what its name says of its unit: accuracies look as they do in the read-out."""
    cell = {"name": name, **_cell(value)}
    if not 0 <= cell.get("value", -1) <= 1:
        return cell
    if name.startswith("accuracy"):
        return {**cell, "unit": "fraction"}
    return {**cell, "value": 100 * cell["value"], "unit": "%"} if name == "sparsity" else cell


def _cell(value: Any) -> Json:
    """A table cell: ``{"value"}``, ``{"value", "low", "high"}`` or ``{"text"}``."""
    if isinstance(value, bool | np.bool_):
        return {"text": "yes" if value else "no"}
    if isinstance(value, tuple | list) and len(value) == 3:
        parts = zip(("value", "low", "high"), (_cell(part).get("value") for part in value), strict=True)
        found = dict(parts)
        return found if None not in found.values() else _cell(value[0])
    if isinstance(value, Real):
        number = float(value)
        if isfinite(number):
            return {"value": _number(number, DIGITS)}
        return {"text": "—" if isnan(number) else "not finite"}
    return {"text": "—" if value is None else str(value)}


def _conditions(surface: Surface) -> dict[str, str]:
    notes = [_notes(plane.about) for plane in surface.planes]
    names = _seeds(surface) or ", ".join(_plane_names(surface))
    return {"mask": notes[0][0].partition(",")[0], "plane": f"{names}, {notes[0][1]}"}


def _notes(about: Mapping[str, Any]) -> list[str]:
    """Mask and normalization in words: without them two surfaces can't be compared."""
    mask = str(about.get("mask", "unknown"))
    density = about.get("density")
    sparse = (
        f", {100 * (1 - float(density)):.4g} % sparse" if density is not None and float(density) < 1 else ""
    )
    return [
        MASKS.get(mask, f"mask: {mask}") + sparse,
        normalization_text(str(about.get("normalize", "normalization unknown"))),
    ]


def _axis_title(symbol: str, end: str, about: Mapping[str, Any]) -> str:
    """Such as "α (filter-normalized)", or "β (1 = NAME)" where the axis leads to another network.

    What the plane itself says of its axes goes first.
    """
    said = dict(zip("αβ", about.get("axes") or (), strict=False)).get(symbol)
    if said:
        return f"{symbol} ({said})"
    if about.get(end):
        return f"{symbol} (1 = {about[end]})"
    normalize = str(about.get("normalize", ""))
    own = re.search(rf"{symbol}: (\w+)", normalize)  # "none (β: filter)": axes that differ
    name = own[1] if own else normalize
    return f"{symbol} ({normalization_text(name)})" if name else symbol


def _plane_names(surface: Surface) -> list[str]:
    """A short, distinct name for each plane of a surface."""
    names = [_plane_name(plane.about) for plane in surface.planes]
    return [f"{name} ({index + 1})" if names.count(name) > 1 else name for index, name in enumerate(names)]


def _seeds(surface: Surface) -> str:
    """Of several planes that differ in their seeds only, as "direction seeds 0 to 9"; else nothing."""
    seeds = [plane.about.get("seed") for plane in surface.planes]
    if len(seeds) < 2 or _plane_names(surface) != [f"direction seed {seed}" for seed in seeds]:
        return ""
    return f"direction seeds {listed(seeds)}"


def _plane_name(about: Mapping[str, Any]) -> str:
    if about.get("alpha_to"):
        return f"towards {about['alpha_to']}"
    if about.get("label") or about.get("kind") == "given":
        return str(about.get("label", "given directions"))
    return f"direction seed {about['seed']}" if "seed" in about else str(about.get("kind", "plane"))


def _facts(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested provenance as (name, text) lines."""
    for key, value in about.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _facts(value, f"{name} · ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield name, text if len(text) <= 400 else f"{text[:399]}…"


def generator() -> str:
    """Name and version of the program, for the page and ``--version``."""
    return f"sharpscape {sharpscape.version()}"
