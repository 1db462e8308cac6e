"""What the command leaves behind: a table on the terminal, the interactive page and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.options import OutputOptions
from landscape.store import Surface
from landscape.summary import metrics


def report(surfaces: Sequence[Surface], paths: Sequence[Path], output: OutputOptions) -> list[Path]:
    """Write page and picture beside the surface files, print the table, and name every file.

    Returns
    -------
    list of Path
        All files, the surfaces first.
    """
    rows = [metrics(surface) for surface in surfaces]
    base = _base(paths)
    written = list(paths)
    if output.page:
        from landscape.viewer import view

        written.append(view(surfaces, metrics=rows).save(base.with_name(base.name + ".html")))
    if output.plot:
        from landscape.plot import plot_surfaces, save_figure

        written.append(save_figure(plot_surfaces(surfaces, metrics=rows), base.with_name(base.name + ".png")))
    _print(surfaces, rows, written)
    return written


def _base(paths: Sequence[Path]) -> Path:
    """Common stem of page and picture: the surface's own for one, ``comparison`` for several."""
    if len(paths) > 1:
        return paths[0].with_name("comparison")
    name = paths[0].name
    return paths[0].with_name(name.removesuffix(".h5").removesuffix(".surface"))


def _print(surfaces: Sequence[Surface], rows: Sequence[dict[str, Any]], written: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for surface in surfaces:
        table.add_column(surface.label, justify="right", overflow="fold")
    cells = [dict(_cells(surface, row)) for surface, row in zip(surfaces, rows, strict=True)]
    for name in dict.fromkeys(key for one in cells for key in one):
        table.add_row(name, *(one.get(name, "–") for one in cells))
    console = Console()
    console.print(table)
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _cells(surface: Surface, row: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's column for one surface, top to bottom."""
    computed = sum(int(plane.computed.sum()) for plane in surface.planes)
    total = sum(plane.computed.size for plane in surface.planes)
    first = surface.planes[0]
    timing = surface.about.get("timing", {})
    examples = sum(split.examples for split in first.splits.values())
    rate = examples * timing.get("points", 0) / timing["seconds"] if timing.get("seconds") else float("nan")
    diverged = int(
        sum(
            np.isinf(plane.splits[surface.splits[0]].metrics["loss"].values).sum() for plane in surface.planes
        )
    )
    return [
        *((name, _text(name, value)) for name, value in row.items() if name not in _RANGE),
        ("loss range", f"{_number(row.get('lowest loss'))} to {_number(row.get('highest loss'))}"),
        *([("diverged points", str(diverged))] if diverged else []),
        ("plane", _plane(first.about, len(surface.planes))),
        ("examples", " + ".join(f"{one.examples} {name}" for name, one in first.splits.items())),
        ("points", f"{computed} computed, {total - computed} interpolated"),
        ("stated error", _error(surface)),
        ("time", f"{timing.get('seconds', 0.0):.1f} s, {rate:,.0f} examples/s"),
    ]


_RANGE = ("lowest loss", "highest loss")


def _plane(about: dict[str, Any], planes: int) -> str:
    seeds = f", {planes} seeds" if planes > 1 else f", seed {about['seed']}" if "seed" in about else ""
    return f"{about.get('kind')}, normalized: {about.get('normalize')}, mask: {about.get('mask')}{seeds}"


def _error(surface: Surface) -> str:
    errors = [plane.splits[surface.splits[0]].metrics["loss"].error for plane in surface.planes]
    finite = surface.loss[np.isfinite(surface.loss)]
    width = float(np.ptp(finite)) if finite.size else float("nan")
    worst = max(errors)
    return (
        "none: every point computed"
        if worst == 0
        else f"{_number(worst)} ({100 * worst / width:.2f} % of range)"
    )


def _text(name: str, value: Any) -> str:
    percent = name.startswith("accuracy") or name == "sparsity"
    scale, unit = (100.0, " %") if percent else (1.0, "")
    if isinstance(value, tuple):
        middle, low, high = (scale * one for one in value)
        if name.startswith(("loss", "accuracy")):
            return f"{_number(middle)}{unit} ± {_number((high - low) / 3.92)}"
        return f"{_number(middle)} [{_number(low)}, {_number(high)}]"
    return f"{_number(scale * value)}{unit}" if isinstance(value, float) else str(value)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"
