"""A surface at a glance: the words of the terminal's table, of notebooks, of a line. Needs no torch."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from landscape.escaping import plain
from landscape.surface import FloatArray, Surface

ROWS = ("Ra", "loss", "accuracy", "plane", "examples", "points", "stated error")
"""How those of the table's rows begin that a notebook shows."""


NORMALIZATIONS = {
    "filter": "filter-normalized",
    "layer": "layer-normalized",
    "weight": "weight-normalized",
    "none": "not normalized",
}


def normalization_text(normalize: str) -> str:
    """How directions were normalized, in words; where the axes differ, of each.

    >>> normalization_text("filter")
    'filter-normalized'
    >>> normalization_text("none (β: filter)")
    'not normalized (β: filter-normalized)'
    """
    name, _, other = normalize.removesuffix(")").partition(" (β: ")
    words = NORMALIZATIONS.get(name, name)
    return f"{words} (β: {NORMALIZATIONS.get(other, other)})" if other else words


def one_line(surface: Surface) -> str:
    """Such as "Surface('net', 51×51, α, β from -1 to 1, 1 plane, loss 0.31 to 12.5 on test, complete)"."""
    grid = "×".join(str(size) for size in surface.shape[: surface.dim])
    count = len(surface.planes)
    parts = [
        repr(plain(surface.label)),
        f"{grid} points",
        f"{'α' if surface.dim == 1 else 'α, β'} from {surface.alpha[0]:g} to {surface.alpha[-1]:g}",
        f"{count} plane{'' if count == 1 else 's'}",
    ]
    if surface.planes:
        known = losses_of(surface)[np.isfinite(losses_of(surface))]
        between = f"loss {known.min():.4g} to {known.max():.4g}" if known.size else "no finite loss"
        parts.append(f"{between} on {plain(surface.splits[0])}")
    return f"Surface({', '.join(parts)}, {'complete' if surface.complete else 'incomplete'})"


def small_table(surface: Surface) -> str:
    """The most important rows of the table that the command prints, as HTML."""
    from landscape.surface.summary import metrics

    if not surface.planes:
        return f"<code>{escape(one_line(surface))}</code>"
    rows = [row for row in cells_of(surface, metrics(surface)) if row[0].startswith(ROWS)]
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(plain(name))}</th><td style='text-align:left'>"
        f"{escape(plain(text))}</td></tr>"
        for name, text in rows
    )
    return (
        f"<table><caption style='text-align:left'><b>{escape(plain(surface.label))}</b></caption>"
        f"{body}</table>"
        "<small><code>.plot()</code> draws it, <code>.show()</code> is the interactive page, "
        "<code>.save(path)</code> keeps it</small>"
    )


def cells_of(surface: Surface, row: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's column for one surface, top to bottom."""
    first = surface.planes[0]
    timing = surface.about.get("timing") or {}
    examples = sum(split.examples for split in first.splits.values())
    rate = examples * timing.get("points", 0) / timing["seconds"] if timing.get("seconds") else float("nan")
    diverged = int(np.isinf(losses_of(surface)).sum())
    return [
        *((_title(name), _text(name, value)) for name, value in row.items() if name not in _RANGE),
        ("loss range", f"{_number(row.get('lowest loss'))} to {_number(row.get('highest loss'))}"),
        *([("diverged points", str(diverged))] if diverged else []),
        ("plane", _plane(first.about, len(surface.planes))),
        ("examples", " + ".join(f"{one.examples} {name}" for name, one in first.splits.items())),
        ("points", _points(surface)),
        ("stated error", _error(surface)),
        *([("stated error of log loss", _log_error(surface))] if _interpolated(surface) else []),
        ("time", f"{timing.get('seconds', 0.0):.1f} s, {rate:,.0f} examples/s"),
    ]


_RANGE = ("lowest loss", "highest loss")


def _plane(about: dict[str, Any], planes: int) -> str:
    ends = [about[end] for end in ("alpha_to", "beta_to") if end in about]
    kind = f"towards {' and '.join(ends)}" if ends else about.get("label") or about.get("kind")
    seeds = f", {planes} seeds" if planes > 1 else f", seed {about['seed']}" if "seed" in about else ""
    return f"{kind}, normalized: {about.get('normalize')}, mask: {about.get('mask')}{seeds}"


def losses_of(surface: Surface) -> FloatArray:
    """The steering split's losses, shape ``[plane, alpha, beta]``."""
    return np.array([plane.splits[surface.splits[0]].metrics["loss"].values for plane in surface.planes])


def _points(surface: Surface) -> str:
    computed = np.array([plane.computed for plane in surface.planes])
    unknown = int(np.isnan(losses_of(surface)[~computed]).sum())
    filled = int((~computed).sum()) - unknown
    return f"{int(computed.sum())} computed, {filled} interpolated" + (
        f", {unknown} unknown" if unknown else ""
    )


def _error(surface: Surface) -> str:
    """The worst plane's stated error, in loss units and as a share of that plane's range."""
    errors = [plane.splits[surface.splits[0]].metrics["loss"].error for plane in surface.planes]
    if not any(errors):
        return "none: every point computed"
    if not np.isfinite(errors).all():
        return "unknown: too few points"
    worst = int(np.argmax(errors))
    losses = losses_of(surface)[worst]
    width = float(np.ptp(losses[np.isfinite(losses)]))
    share = f" ({100 * errors[worst] / width:.2f} % of range)" if width > 0 else ""
    return f"{_number(errors[worst])}{share}"


def _interpolated(surface: Surface) -> bool:
    return not all(plane.computed.all() for plane in surface.planes)


def _log_error(surface: Surface) -> str:
    """The worst plane's, as a share of the loss itself: what is known of the valley."""
    if not (losses_of(surface) > 0).all():
        return "none: a loss isn't positive"
    errors = [plane.splits[surface.splits[0]].metrics["loss"].log_error for plane in surface.planes]
    if not np.isfinite(errors).all():
        return "unknown"
    return f"{max(errors):.2g}: losses within a factor of {np.exp(max(errors)):.3g}"


def _title(name: str) -> str:
    return f"{name} at the centre" if name.startswith(("loss", "accuracy", "lambda")) else name


def _text(name: str, value: Any) -> str:
    percent = name.startswith("accuracy") or name == "sparsity"
    scale, unit = (100.0, " %") if percent else (1.0, "")
    if isinstance(value, tuple):
        middle, low, high = (scale * one for one in value)
        if name.startswith(("loss", "accuracy")) and not np.isfinite([low, high]).all():
            return f"{_number(middle)}{unit}"
        if name.startswith("loss"):
            ratio = np.log(high / low) * middle if low > 0 else high - low  # see positive_interval
            return f"{_number(middle)} ± {_number(ratio / 3.92)}{unit}"
        if name.startswith("accuracy"):
            return f"{_number(middle)} [{_number(low)}, {_number(high)}]{unit}"
        known = np.isfinite([low, high]).all()
        return f"{_number(middle)} [{_number(low)}, {_number(high)}]" if known else _number(middle)
    return f"{_number(scale * value)}{unit}" if isinstance(value, float) else str(value)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"
