"""Static figures of surfaces for papers: 3D, contours, lines; PNG, PDF and SVG. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.plot.layout import COLUMN, Heading, Layout, draw_line_chart, draw_planes
from landscape.plot.panels import Panel
from landscape.plot.scale import Scale, scale_of
from landscape.plot.text import JOIN, conventions_text, literal, roughness_text
from landscape.surface import Surface

Kind = Literal["surface", "contour", "both", "line"]

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "legend.fontsize": 7,
    "hatch.linewidth": 0.4,
    "image.cmap": "viridis",
}
_FIXED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def plot_surfaces(
    surfaces: Sequence[Surface],
    *,
    metric: str = "loss",
    kind: Kind | None = None,
    log: bool | None = None,
    clip: float | None = None,
    split: str | None = None,
    plane: int = 0,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    share: bool = True,
    columns: int = 4,
    column_width: float = COLUMN,
    notes: Sequence[str] | None = None,
    footer: str = "",
    style: Mapping[Any, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """A figure with one column per surface: name, Ra, how it was made, 3D view and contours.

    Parameters
    ----------
    surfaces
        All of one or all of two dimensions. Lines share one chart.
    metric, split, plane
        Which of the stored values; the split defaults to each surface's first.
    kind
        "surface", "contour" or "both" (default) for planes, "line" (default) for lines.
    log
        Logarithmic values; None decides by their range.
    clip
        Draw larger values as this one.
    metrics
        Per surface a mapping with "Ra": a number, a text or ``(value, low, high)``; default
        `landscape.surface.summary.metrics`.
    share
        One value scale and colour bar for all, as a comparison needs; else one each.
    columns, column_width
        Surfaces in a row, and the width of each in inches; planes only.
    notes
        Per surface the small print of its heading; default: mask, normalization, data, examples.
    footer
        Small print below all panels.
    style
        Matplotlib settings on top of `STYLE`.
    path
        Where to save it (see `save_figure`).

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot; notebooks show it.

    Raises
    ------
    UserError
        For no surface, mixed dimensions, an unknown metric, split or plane, or values that can't be drawn.
    """
    surfaces = list(surfaces)
    kind = _kind(surfaces, kind)
    if metrics is None:
        from landscape.surface.summary import metrics as summarize

        metrics = [summarize(surface) for surface in surfaces]
    if len(metrics) != len(surfaces):
        raise UserError(f"{len(metrics)} rows of metrics for {len(surfaces)} surfaces; expected one each")
    if columns < 1 or not column_width >= 1.2:
        raise UserError(f"{columns} columns of {column_width:g} inches: expected at least 1 of at least 1.2")
    with mpl.rc_context({**STYLE, **(style or {})}):
        panels = _panels(surfaces, metric, split, plane, log=log, clip=clip, share=share or kind == "line")
        notes = [_note(panel) for panel in panels] if notes is None else notes
        headings = [
            Heading(panel.surface.label, roughness_text(row, len(panel.surface.planes)), note)
            for panel, row, note in zip(panels, metrics, notes, strict=True)
        ]
        if kind == "line":
            figure = draw_line_chart(panels, headings, footer)
        else:
            layout = Layout(
                kind != "contour", kind != "surface", share, min(columns, len(panels)), column_width
            )
            figure = draw_planes(panels, headings, layout, footer)
        literal(figure)
    if path is not None:
        save_figure(figure, path)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write PNG, PDF or SVG, by the suffix, in one step; the same figure gives the same bytes.

    Fonts are embedded as TrueType (Type 42), as publishers ask.

    Raises
    ------
    UserError
        For another suffix or an unwritable path.
    """
    target = Path(path)
    form = target.suffix.lower().removeprefix(".")
    if form not in _FIXED:
        raise UserError(
            f"{target}: can't draw a {target.suffix or 'file without suffix'}; use .png, .pdf or .svg"
        )
    settings: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "sharpscape"}
    with mpl.rc_context(settings), atomic_path(target) as temporary:
        figure.savefig(temporary, format=form, dpi=300, metadata=_FIXED[form])
    return target


def _kind(surfaces: Sequence[Surface], kind: Kind | None) -> Kind:
    """What to draw; UserError where the surfaces don't allow it."""
    if not surfaces:
        raise UserError("no surface to draw; expected at least one")
    dims = {surface.dim for surface in surfaces}
    if len(dims) > 1:
        raise UserError(
            "lines and planes can't share a figure; draw the one- and two-dimensional surfaces apart"
        )
    thin = next((one for one in surfaces if one.dim == 2 and min(one.shape) < 2), None)
    if thin is not None:
        raise UserError(
            f"{thin.label}: {thin.shape[0]}×{thin.shape[1]} points are no area; "
            "compute two or more along each axis, or a line (--dim 1)"
        )
    if kind not in (None, "surface", "contour", "both", "line"):
        raise UserError(f"unknown kind {kind!r}; expected surface, contour, both or line")
    if kind is not None and (kind == "line") != (dims == {1}):
        raise UserError(f"kind {kind!r} doesn't fit {dims.pop()}-dimensional surfaces; leave it out")
    return kind or ("line" if dims == {1} else "both")


def _panels(
    surfaces: Sequence[Surface],
    metric: str,
    split: str | None,
    plane: int,
    *,
    log: bool | None,
    clip: float | None,
    share: bool,
) -> list[Panel]:
    splits = [_checked(surface, metric, split, plane) for surface in surfaces]
    found = [
        surface.metric(metric, plane=plane, split=one) for surface, one in zip(surfaces, splits, strict=True)
    ]
    scales: list[Scale] = (
        [scale_of([one.values for one in found], log=log, clip=clip)] * len(found)
        if share
        else [scale_of([one.values], log=log, clip=clip) for one in found]
    )
    colors = mpl.colormaps[mpl.rcParams["image.cmap"]]
    return [
        Panel(surface, plane, metric, one_split, scale, colors)
        for surface, one_split, scale in zip(surfaces, splits, scales, strict=True)
    ]


def _checked(surface: Surface, metric: str, split: str | None, plane: int) -> str:
    """The split's name, after checking that the surface has what is asked for."""
    if not 0 <= plane < len(surface.planes):
        raise UserError(f"{surface.label}: no plane {plane}; it has {len(surface.planes)}, counted from 0")
    splits = surface.planes[plane].splits
    name = split or next(iter(splits))
    if name not in splits:
        raise UserError(f"{surface.label}: has no split {name!r}; it has {', '.join(splits)}")
    if metric not in splits[name].metrics:
        known = ", ".join(splits[name].metrics)
        raise UserError(f"{surface.label}: has no metric {metric!r} on {name}; it has {known}")
    return name


def _note(panel: Panel) -> str:
    """How the surface was made and, where that matters, how it is drawn."""
    plane = panel.surface.planes[panel.plane]
    made = conventions_text(panel.surface, plane, panel.metric, panel.split)
    return made if panel.scale.clip == inf else f"{made}{JOIN}drawn up to {panel.scale.clip:g}"
