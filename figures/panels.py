"""The panels of Figures 1 and 3: a loss surface in 3D, the frame of one that is missing, the colour bar."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from analysis.statistics.uncertainty import Estimate
from figures.results import Cell
from figures.sheet import LINE, Sheet, wrapped
from figures.style import COLOR_MAP
from figures.ticks import label
from landscape.escaping import plain
from landscape.plot.panels import CAMERA
from landscape.plot.scale import Scale, number
from landscape.surface import Surface

FLOOR = 0.16  # room below the lowest loss for the contours, as a share of the scale


def draw_surface(axes: Any, surface: Surface, scale: Scale, zoom: float) -> None:
    """The first plane over its contours; `axes` is an Axes3D. Diverged points are left open."""
    z = scale.positions(surface.loss)
    alpha, beta = np.meshgrid(surface.alpha, surface.beta, indexing="ij")
    norm, colors = Normalize(scale.low, scale.high), mpl.colormaps[COLOR_MAP]
    bottom = scale.low - FLOOR * (scale.high - scale.low)
    axes.computed_zorder = False  # else the contours are drawn over a surface that hides them
    sheet = axes.plot_surface(
        alpha, beta, z, cmap=colors, norm=norm, rcount=len(alpha), ccount=len(beta),
        linewidth=0.3, antialiased=True, shade=False, zorder=2,
    )  # fmt: skip
    sheet.set_edgecolor("face")  # closes the joints, through which what lies behind would shine
    if np.nanmin(z) < np.nanmax(z):
        levels = np.linspace(np.nanmin(z), np.nanmax(z), 9)[1:-1]
        axes.contour(
            alpha, beta, z, levels, zdir="z", offset=bottom, cmap=colors, norm=norm, linewidths=0.5, zorder=1
        )
    axes.set(
        xlim=(surface.alpha[0], surface.alpha[-1]),
        ylim=(surface.beta[0], surface.beta[-1]),
        zlim=(bottom, scale.high),
    )
    axes.view_init(**CAMERA)
    axes.set_box_aspect((1, 1, 0.8), zoom=zoom)
    axes.patch.set_visible(False)
    axes.set_xticks(np.linspace(surface.alpha[0], surface.alpha[-1], 5), labels=[""] * 5)
    axes.set_yticks(np.linspace(surface.beta[0], surface.beta[-1], 5), labels=[""] * 5)
    positions, _ = scale.levels(5)
    axes.set_zticks(positions, labels=[""] * len(positions))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis._axinfo["grid"].update(color=(0.82, 0.82, 0.82), linewidth=0.4)
        axis._axinfo["tick"].update(inward_factor=0.0, outward_factor=0.0)
    axes.text2D(0.25, 0.08, "α", transform=axes.transAxes, ha="center", va="center")
    axes.text2D(0.84, 0.13, "β", transform=axes.transAxes, ha="center", va="center")


def draw_empty(sheet: Sheet, box: tuple[float, float, float, float], words: Mapping[str, str] | str) -> None:
    """A dashed frame that says which runs are missing and why, or whatever else is in the way."""
    left, top, width, height = box
    axes = sheet.axes(left + 0.04, top + 0.03, width - 0.08, height - 0.09)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linestyle=(0, (4, 3)), color="0.5")
    lines = missing_lines(words, width - 0.16)
    shift = (height - len(lines) * LINE) / 2
    sheet.lines(left + width / 2, top + shift, lines, color="0.25")


def missing_lines(words: Mapping[str, str] | str, width: float) -> list[str]:
    """Names of runs are broken at their dashes."""
    if isinstance(words, str):
        return wrapped(words, width)
    names = list(words)
    first = [line.replace(" ", "") for line in wrapped(f"{names[0].replace('-', '- ')}", width)]
    others = [f"and {len(names) - 1} more"] if len(names) > 1 else []
    return [*wrapped(f"{words[names[0]]}:", width), *first, *others]


def draw_bar(axes: Any, scale: Scale, title: str) -> None:
    """The colour bar: also the scale of the heights."""
    colors = ScalarMappable(Normalize(scale.low, scale.high), mpl.colormaps[COLOR_MAP])
    label_bar(axes.figure.colorbar(colors, cax=axes), scale, title)


def label_bar(bar: Any, scale: Scale, title: str) -> None:
    """Round values in few letters, and what they are."""
    positions, labels = scale.levels(8)
    shown = [label(float(one.replace("−", "-"))) for one in labels]
    bar.set_ticks(positions.tolist(), labels=shown)
    bar.minorticks_off()
    bar.set_label(plain(f"{title}, log scale" if scale.log else title), labelpad=3, parse_math=False)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(length=2.5, pad=2)


def ra_lines(cell: Cell) -> list[str]:
    """Ra and its interval, for below a panel; empty where there is no surface."""
    if not cell.runs:
        return []
    if cell.diverged_radius is not None:
        return ["Ra not finite", f"from r = {cell.diverged_radius:.2g}"]
    value, interval = ra_text(cell.ra)
    return [f"Ra {value}", interval]


def ra_text(found: Estimate) -> tuple[str, str]:
    """Value and interval, to two digits of the interval's half-width."""
    half = (found.high - found.low) / 2
    if not isfinite(half) or half <= 0:
        return number(found.value), "no interval"
    decimals = 1 - floor(log10(half))

    def short(value: float) -> str:
        exact = 0 <= decimals <= 6 and abs(value) < 1e4
        return f"{value:.{decimals}f}" if exact else number(value)

    return short(found.value), f"{short(found.low)}–{short(found.high)}"
