"""The picture of a connection: loss and accuracy along the curves. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.connectivity.barriers import Barrier, barrier, chord
from landscape.plot import STYLE
from landscape.plot.layout import LINE_COLORS
from landscape.plot.picture import Picture
from landscape.plot.text import literal, unit_of
from landscape.surface import FloatArray, Surface

NAMES = {"linear": "straight line", "bezier": "Bézier curve"}
PANEL = (3.1, 2.1)  # inches
HEAD = 0.62
DOTTED = (0, (1, 2.5))


def plot_connection(surfaces: Mapping[str, Surface], names: tuple[str, str]) -> Figure:
    """Loss over t, and accuracy where there is one; a row of panels per split.

    A colour is a curve, with a band of 1.96 standard errors over the examples. A thin dotted line joins the
    ends' values, and a vertical bar is the barrier.

    Parameters
    ----------
    surfaces
        By curve, as `analysis.connectivity.connect` gives them.
    names
        Of the two networks.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot.
    """
    first = next(iter(surfaces.values()))
    splits = first.planes[0].splits
    there = splits[first.splits[0]].metrics
    metrics = [name for name in ("loss", "accuracy") if name in there]
    with mpl.rc_context(STYLE):
        size = PANEL[0] * len(metrics), PANEL[1] * len(splits) + HEAD
        figure = Picture(figsize=size, layout="constrained")
        axes = figure.subplots(len(splits), len(metrics), squeeze=False, sharex=True)
        for row, split in zip(axes, splits, strict=True):
            for one, metric in zip(row, metrics, strict=True):
                _panel(one, surfaces, metric, split)
            row[0].set_title(f"{split}, {splits[split].examples:,} examples", loc="left", fontsize=7.5)
        for one in axes[-1]:
            one.set_xlabel("t")
        figure.suptitle(f"t = 0: {names[0]}\nt = 1: {names[1]}\n{_note(first)}", fontsize=7.5)
        literal(figure)
    return figure


def _panel(axes: Axes, surfaces: Mapping[str, Surface], metric: str, split: str) -> None:
    for number, (curve, surface) in enumerate(surfaces.items()):
        found = barrier(surface, split, metric)
        _line(axes, surface, metric, split, LINE_COLORS[number], f"{NAMES[curve]}: {_text(found)}")
        if isfinite(found.height.value) and found.height.value > 0:
            _bar(axes, surface, metric, split, found.t, number, len(surfaces))
    first = next(iter(surfaces.values()))
    axes.set(ylabel=unit_of(first, metric, split), xlim=(0, 1))
    axes.xaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()  # room for the legend above everything
    axes.set_ylim(low, high + 0.17 * (1 + len(surfaces)) / 2 * (high - low))
    axes.legend(loc="upper center", frameon=False, fontsize=6.3, borderaxespad=0.2, handlelength=1.5)


def _line(axes: Axes, surface: Surface, metric: str, split: str, color: str, label: str) -> None:
    t, values, errors = _drawn(surface, metric, split)
    axes.plot(t, values, color=color, label=label)
    spread = np.where(np.isfinite(errors), 1.96 * errors, 0.0)
    axes.fill_between(t, values - spread, values + spread, color=color, alpha=0.15, linewidth=0)
    axes.plot(t, chord(t, values), color="0.3", linestyle=DOTTED, linewidth=0.8)


def _bar(axes: Axes, surface: Surface, metric: str, split: str, at: float, number: int, count: int) -> None:
    """From the ends' line to the curve; those of several curves side by side."""
    t, values, _ = _drawn(surface, metric, split)
    index = int(np.argmin(np.abs(t - at)))
    place = at + 0.014 * (number - (count - 1) / 2)
    ends = [float(chord(t, values)[index]), float(values[index])]
    axes.plot([place, place], ends, color=LINE_COLORS[number], linewidth=0.8, marker="_", markersize=4)


def _drawn(surface: Surface, metric: str, split: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """t, values (NaN where diverged) and standard errors, ``[t]`` each."""
    found = surface.metric(metric, split=split)
    values = found.values[:, 0]
    return surface.alpha, np.where(np.isfinite(values), values, np.nan), found.stderr[:, 0]


def _text(found: Barrier) -> str:
    height = found.height
    if not isfinite(height.value):
        return f"diverges at t = {found.t:.2g}"
    interval = f" [{height.low:.2g}, {height.high:.2g}]" if isfinite(height.low) else ""
    return f"barrier {height.value:.2g}{interval}"


def _note(surface: Surface) -> str:
    data = surface.about.get("data")
    name = str(data.get("name", "")) if isinstance(data, Mapping) else ""
    norm = surface.settings["engine"]["batch_norm"]
    how = {"recalibrate": "re-estimated at each point", "interpolate": "interpolated"}[norm]
    parts = [name, f"batch norm {how}", "bands: 1.96 standard errors", "[…]: 95 % interval"]
    return " · ".join(part for part in parts if part)
