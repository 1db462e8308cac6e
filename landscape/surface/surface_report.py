"""What the command leaves behind: a table on the terminal, the interactive page and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.commandline.console import out, terminal
from landscape.surface import Surface
from landscape.surface.glance import cells_of, losses_of
from landscape.surface.summary import metrics
from landscape.surface.surface_options import OutputOptions


def report(surfaces: Sequence[Surface], paths: Sequence[Path], output: OutputOptions) -> list[Path]:
    """Print the table, write page and picture beside the surface files, and name every file.

    Returns
    -------
    list of Path
        All files, the surfaces first.
    """
    rows = [metrics(surface) for surface in surfaces]
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
