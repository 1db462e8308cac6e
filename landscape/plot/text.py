"""What a figure says in words: names, Ra, and how the surface was made."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan
from numbers import Real
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from landscape.escaping import plain
from landscape.intervals import interval_parts
from landscape.surface import Plane, Surface
from landscape.surface.glance import normalization_text

JOIN = "\u00a0· "  # no line begins with the dot
LONGEST_NAME = 17  # letters of a network's name beside an axis
LONGEST_TEXT = 400  # letters of a name or a word in a figure; fitting more into lines takes minutes
LONGEST_PRINT = 2000  # letters of what is told in words, such as the small print
SLACK = 0.92  # at screen resolution letters stand a little wider than on paper
NAMES = {"lambda_max": "λmax", "lambda_min": "λmin", "lambda_ratio": "|λmin/λmax|"}
MASKS = {"none": "no mask", "zeros": "mask from zero weights", "checkpoint": "mask from checkpoint"}


def literal(figure: Figure) -> None:
    """Let every text of a figure stand as it is: dollars are no mathematics, controls are shown as escapes.

    Tick labels stay: matplotlib writes powers of ten as mathematics.
    """
    ticks = {
        id(one)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis, getattr(axes, "zaxis", axes.xaxis))
        for one in (*axis.get_majorticklabels(), *axis.get_minorticklabels())
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in ticks:
            text.set_parse_math(False)
            text.set_text("\n".join(map(plain, _cut(text.get_text()).split("\n"))))


def _cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text as long as a figure takes: its beginning and its end."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def unit_of(surface: Surface, metric: str, split: str) -> str:
    """Axis title of a metric: "loss (nats)" for classifiers, else with the caller's own unit, if any."""
    name = NAMES.get(metric, metric)
    units = surface.about.get("units")
    known = {"loss": "nats"} if "accuracy" in surface.planes[0].splits[split].metrics else {}
    unit = (units if isinstance(units, Mapping) else {}).get(metric, known.get(metric, ""))
    return f"{name} ({unit})" if unit else name


def axis_title(about: Mapping[str, Any], symbol: str, end: str) -> str:
    """α or β, what the plane says of that axis, or what lies at 1 where it leads to another network."""
    said = dict(zip("αβ", about.get("axes") or (), strict=False)).get(symbol)
    if said:
        return f"{symbol} ({said})"
    return f"{symbol} (1 = {_short(str(about[end]))})" if about.get(end) else symbol


def _short(name: str) -> str:
    """A name that fits beside an axis: its beginning and its end."""
    return name if len(name) <= LONGEST_NAME else f"{name[:6]}…{name[7 - LONGEST_NAME :]}"


def roughness_text(row: Mapping[str, Any], planes: int) -> str:
    """Ra with its 95 % interval; empty where it isn't known."""
    if "Ra" not in row:
        return ""
    over = f" over\u00a0{planes}\u00a0planes" if planes > 1 else ""
    return f"Ra {interval_text(row['Ra'])}{over}"


def interval_text(value: Any) -> str:
    """A number, a text, or ``(value, low, high)`` as "0.380, 95 % [0.370, 0.391]"."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(part, Real) for part in parts):
        return str(value)
    numbers = [float(part) for part in parts]
    if not isfinite(numbers[0]):
        return "not finite"
    number, interval = interval_parts(*(numbers if len(numbers) == 3 else (numbers[0], nan, nan)))
    return f"{number}, 95 % {interval}" if interval else number


def conventions_text(surface: Surface, plane: Plane, metric: str, split: str) -> str:
    """Mask, normalization, data, examples and what was interpolated: what a comparison must have alike."""
    about, one = plane.about, plane.splits[split]
    parts = [mask_text(about), str(about.get("label") or "")]
    parts += [normalization_text(str(about.get("normalize", "")))]
    parts += [f"direction seed {about['seed']}"] if about.get("seed") is not None else []
    data = _name(surface.about.get("data"))
    parts += [data if split in data.split() else f"{data} {split}".strip()]
    parts += [f"{_examples(surface, plane, metric, split):,} examples"]
    own = one.metrics[metric].computed
    where = plane.computed if own is None else own
    computed, total = int(where.sum()), where.size
    if computed < total:
        error = one.metrics[metric].error
        within = f", error about {error:.2g}" if isfinite(error) else ""
        log_error = one.metrics[metric].log_error
        within += f", of log {metric} {log_error:.2g}" if isfinite(log_error) else ""
        parts += [f"{computed} of {total} points computed{within}"]
    diverged = np.isinf(one.metrics[metric].values)
    if diverged.any():
        radius = np.hypot(surface.alpha[:, None], surface.beta)[diverged].min()
        parts += [f"diverged from radius {radius:.2g}"]
    missing = int(np.isnan(one.metrics[metric].values).sum())
    if missing or not surface.complete:
        parts += [f"unfinished: {missing} points missing" if missing else "unfinished"]
    return JOIN.join(part for part in parts if part)


def _examples(surface: Surface, plane: Plane, metric: str, split: str) -> int:
    """How many the values are of: a curvature map may be of fewer than the loss."""
    if metric in NAMES:
        number = next(index for index, one in enumerate(surface.planes) if one is plane)
        entry = surface.about.get("curvature", {}).get(split, {}).get(str(number))
        if entry:
            return int(entry["settings"]["examples"]["count"])
    return plane.splits[split].examples


def mask_text(about: Mapping[str, Any]) -> str:
    """Where the mask came from and how sparse it is."""
    mask = str(about.get("mask", ""))
    density = about.get("density")
    text = MASKS.get(mask, f"mask: {mask}" if mask else "")
    if isinstance(density, Real) and float(density) < 1:
        text += f", {100 * (1 - float(density)):.4g} % sparse"
    return text


def wrap(
    text: str, inches: float, size: float, weight: str = "normal", family: str = "DejaVu Sans"
) -> list[str]:
    """Lines no wider than `inches` at that font size; only a word that is wider by itself is broken."""
    font = FontProperties(family=family, weight=weight, size=size)

    def fits(line: str) -> bool:
        width = text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
        return bool(width <= 72 * SLACK * inches)

    lines = [""]
    words = plain(_cut(text, LONGEST_PRINT)).split(" ")
    for word in " ".join(map(_cut, words)).split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while not fits(lines[-1]):
            head = next(n for n in range(len(lines[-1]) - 1, 0, -1) if fits(lines[-1][:n]) or n == 1)
            lines[-1:] = [lines[-1][:head], lines[-1][head:]]
    return lines


def _name(data: Any) -> str:
    """Short name of a data set, however the file describes it."""
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("data") or ""
    return str(data or "")
