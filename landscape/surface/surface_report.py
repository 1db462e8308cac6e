"""What the command leaves behind: a table on the terminal, the interactive page and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.commandline.console import out, terminal
from landscape.surface import FloatArray, Surface
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
    if output.plot and not any(np.isfinite(_losses(one)).any() for one in surfaces):
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
    cells = [dict(_cells(surface, row)) for surface, row in zip(surfaces, rows, strict=True)]
    for name in dict.fromkeys(key for one in cells for key in one):
        table.add_row(name, *(Text(one.get(name, "–")) for one in cells))  # not str: brackets are markup
    terminal().print(table)


def _cells(surface: Surface, row: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's column for one surface, top to bottom."""
    first = surface.planes[0]
    timing = surface.about.get("timing", {})
    examples = sum(split.examples for split in first.splits.values())
    rate = examples * timing.get("points", 0) / timing["seconds"] if timing.get("seconds") else float("nan")
    diverged = int(np.isinf(_losses(surface)).sum())
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


def _losses(surface: Surface) -> FloatArray:
    """The steering split's losses, shape ``[plane, alpha, beta]``."""
    return np.array([plane.splits[surface.splits[0]].metrics["loss"].values for plane in surface.planes])


def _points(surface: Surface) -> str:
    computed = np.array([plane.computed for plane in surface.planes])
    unknown = int(np.isnan(_losses(surface)[~computed]).sum())
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
    losses = _losses(surface)[worst]
    width = float(np.ptp(losses[np.isfinite(losses)]))
    share = f" ({100 * errors[worst] / width:.2f} % of range)" if width > 0 else ""
    return f"{_number(errors[worst])}{share}"


def _interpolated(surface: Surface) -> bool:
    return not all(plane.computed.all() for plane in surface.planes)


def _log_error(surface: Surface) -> str:
    """The worst plane's, as a share of the loss itself: what is known of the valley."""
    if not (_losses(surface) > 0).all():
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
