"""What the command leaves behind: a table, the page with the map in it, pictures of λmax and the ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.curvature.curvature_options import CurvatureOutput
from analysis.curvature.map_record import KEY, METRICS
from landscape.commandline.console import out, terminal
from landscape.surface import FloatArray, Surface

DRAWN = ("lambda_max", "lambda_ratio")
_TITLES = {"lambda_max": "λmax", "lambda_min": "λmin", "lambda_ratio": "|λmin/λmax|"}


def report_map(
    surface: Surface, path: Path, split: str, planes: Sequence[int], output: CurvatureOutput
) -> list[Path]:
    """Print the table, write page and pictures beside the surface file, and name every file."""
    numbers = list(planes) or list(range(len(surface.planes)))
    _print_table(surface, split, numbers)
    written = [path]
    base = path.with_name(path.name.removesuffix(".h5").removesuffix(".surface"))
    if output.page:
        from landscape.viewer import view

        written.append(view([surface]).save(base.with_name(base.name + ".html")))
    if output.plot:
        written += _draw(surface, base, split, numbers)
    for one in written:
        out(f"wrote {one}")
    return written


def _draw(surface: Surface, base: Path, split: str, numbers: Sequence[int]) -> list[Path]:
    from landscape.plot import plot_surfaces

    drawn = []
    for number in numbers:
        place = f".plane{number}" if len(surface.planes) > 1 else ""
        for name in DRAWN:
            if not np.isfinite(surface.metric(name, plane=number, split=split).values).any():
                out(f"no picture of {name}: it isn't finite at any point")
                continue
            target = base.with_name(f"{base.name}{place}.{name}.png")
            plot_surfaces([surface], metric=name, split=split, plane=number, metrics=[{}], path=target)
            drawn.append(target)
    return drawn


def _print_table(surface: Surface, split: str, numbers: Sequence[int]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for number in numbers:
        label = f"plane {number}" if len(surface.planes) > 1 else surface.label
        table.add_column(Text(label), justify="right")  # not str: brackets are markup
    cells = [_cells(surface, split, number) for number in numbers]
    for name in cells[0]:
        table.add_row(name, *(Text(one[name]) for one in cells))
    terminal().print(table)


def _cells(surface: Surface, split: str, number: int) -> dict[str, str]:
    """One column, top to bottom."""
    entry = surface.about[KEY][split][str(number)]
    found: dict[str, str] = {}
    for name in METRICS:
        metric = surface.metric(name, plane=number, split=split)
        if surface.center is not None:
            found[f"{_TITLES[name]} at the centre"] = _number(metric.values[surface.center])
        found[f"{_TITLES[name]} range"] = _range(metric.values)
        found[f"{_TITLES[name]} stated error"] = _number(metric.error)
    diverged = int(np.isinf(surface.metric("lambda_max", plane=number, split=split).values).sum())
    unsettled = sum(not point[-1] for point in entry["points"])
    factor = entry["log_error"]
    return found | {
        "half of λmax between points within": "–" if factor is None else f"a factor of {np.exp(factor):.3g}",
        "diverged points": str(diverged),
        "points computed": str(len(entry["points"])) + (f", {unsettled} not converged" if unsettled else ""),
        "examples": f"{entry['settings']['examples']['count']} {split}",
        "products": str(entry["products"]),
        "time": f"{entry['seconds']:.1f} s",
    }


def _range(values: FloatArray) -> str:
    finite = values[np.isfinite(values)]
    return f"{_number(finite.min())} to {_number(finite.max())}" if finite.size else "–"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "–" if np.isnan(value) else "diverged"
