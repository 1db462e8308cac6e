"""What the command leaves behind: a table on the terminal, the interactive page and the picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.commandline.console import note, terminal
from landscape.commandline.console import out as print_line
from landscape.commandline.outputs import write_texts
from landscape.files.json_files import finite, sealed
from landscape.surface import Surface
from landscape.surface.glance import cells_of, losses_of
from landscape.surface.summary import metrics
from landscape.surface.surface_options import SurfaceOutput


def report_surfaces(surfaces: Sequence[Surface], paths: Sequence[Path], output: SurfaceOutput) -> list[Path]:
    """Print the table, write page and picture beside the surface files, and name every file.

    Returns
    -------
    list of Path
        All files, the surfaces first.
    """
    rows = [metrics(surface) for surface in surfaces]
    out = note if output.json == "-" else print_line
    if not write_texts([(output.json, lambda: to_json(surfaces, rows, paths))]):
        _print_table(surfaces, rows)
    for path in paths:
        out(f"wrote {path}")
    base = _base(paths)
    more = []
    if output.page:
        from landscape.viewer import view

        more.append(view(surfaces, metrics=rows).save(base.with_name(base.name + ".html")))
        out(f"wrote {more[-1]}")
    if output.plot and not any(np.isfinite(losses_of(one)).any() for one in surfaces):
        out("no picture: the loss isn't finite at any point")
    elif output.plot and any(one.dim == 2 and min(one.shape) < 2 for one in surfaces):
        print("no picture: one point along α is no area; --dim 1 computes a line")
    elif output.plot:
        from landscape.plot import plot_surfaces, save_figure

        more.append(save_figure(plot_surfaces(surfaces, metrics=rows), base.with_name(base.name + ".png")))
        out(f"wrote {more[-1]}")
    return [*paths, *more]


def to_json(surfaces: Sequence[Surface], rows: Sequence[dict[str, Any]], paths: Sequence[Path]) -> str:
    """A list with an object per surface; a number with an interval is [value, low, high], unknown is null."""
    content = [
        {
            "label": surface.label,
            "file": str(path),
            "metrics": row,
            "points": [int(plane.computed.sum()) for plane in surface.planes],
            "settings": surface.settings,
            "about": surface.about,
        }
        for surface, row, path in zip(surfaces, rows, paths, strict=True)
    ]
    return json.dumps([sealed(finite(one)) for one in content], indent=2, allow_nan=False) + "\n"


def _base(paths: Sequence[Path]) -> Path:
    """Common stem of page and picture: the surface's own for one, ``comparison`` for several."""
    if len(paths) > 1:
        return paths[0].with_name("comparison")
    name = paths[0].name
    return paths[0].with_name(name.removesuffix(".h5").removesuffix(".surface"))


def _print_table(surfaces: Sequence[Surface], rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, caption="[…] 95 % interval, ± standard error")
    table.add_column("")
    for surface in surfaces:
        table.add_column(Text(surface.label), justify="right", overflow="fold")
    cells = [dict(cells_of(surface, row)) for surface, row in zip(surfaces, rows, strict=True)]
    for name in dict.fromkeys(key for one in cells for key in one):
        table.add_row(name, *(Text(one.get(name, "–")) for one in cells))  # not str: brackets are markup
    terminal().print(table)
