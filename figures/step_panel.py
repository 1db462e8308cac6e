"""The panels of Figure 2: a slice of the loss with the points and arrows of one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patheffects import withStroke

from figures.panels import label_bar
from figures.sheet import LINE, Sheet
from figures.steps import Place, Step
from figures.style import PAGE
from landscape.escaping import plain
from landscape.plot.scale import Scale, scale_of

# Pale, so that arrows stand out; darker is higher.
PALE: Colormap = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#a8a8a8"])
BANDS = 14
BESIDE = 5.5  # points
MOVES = {("w_t-2", "w_t-1"): "before", ("w_t-1", "u_t"): "ascent", ("w_t-1", "w_t"): "update"}
SYMBOL = 11.5  # points: its subscripts are 0.7 times as large, the smallest print
NAMES = {"w_t-2": "$w_{t{-}2}$", "w_t-1": "$w_{t{-}1}$", "u_t": "$u_t$", "w_t": "$w_t$"}

# Colour (Okabe and Ito), line style and width of every kind of arrow: told apart without colour too.
ARROWS: dict[str, dict[str, Any]] = {
    "before": {"color": "#777777", "linestyle": "-", "linewidth": 3.0},
    "ascent": {"color": "#d55e00", "linestyle": (0, (1.5, 0.7)), "linewidth": 1.7},
    "update": {"color": "#0072b2", "linestyle": "-", "linewidth": 3.0},
    "fresh": {"color": "black", "linestyle": "-", "linewidth": 1.0},
    "reused": {"color": "black", "linestyle": (0, (1.5, 1.2)), "linewidth": 1.0},
}
KEYS = {
    "before": "the step before",
    "ascent": "perturbation, ρ along a gradient",
    "update": "this step",
    "fresh": "−η · gradient computed in this step, drawn beside",
    "reused": "−η · gradient of the step before, drawn beside",
    "point": "weights (filled), perturbed weights (open)",
}


def scale_of_steps(steps: Sequence[Step]) -> Scale:
    """One for all slices; logarithmic where the losses span a large factor."""
    return scale_of([step.surface.loss for step in steps], log=None, clip=None)


def draw_step(axes: Any, step: Step, scale: Scale, learning_rate: float) -> None:
    """The slice, the arrows and the named points."""
    surface, points = step.surface, step.points
    z = scale.positions(surface.loss).T
    bands = np.linspace(scale.low, scale.high, BANDS + 1)
    filled = axes.contourf(surface.alpha, surface.beta, z, bands, cmap=PALE, norm=_norm(scale), extend="both")
    filled.set_edgecolor("face")  # else some viewers show hairlines between bands
    axes.contour(surface.alpha, surface.beta, z, bands, colors="0.55", linewidths=0.4, linestyles="solid")
    axes.set(aspect="equal")
    axes.set_xlabel(plain(step.axes[0]), parse_math=False)
    axes.set_ylabel(plain(step.axes[1]), labelpad=2, parse_math=False)
    # Two decimals at most in most cases: the label beside the ticks has no more room.
    axes.locator_params(nbins=4, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    for (first, last), kind in MOVES.items():
        _arrow(axes, points[first], points[last], kind)
    axes.apply_aspect()  # places in points are final from here on
    for start, end, kind in _beside(axes, step, learning_rate):
        _arrow(axes, start, end, kind)
    for name, place in points.items():
        face = "white" if name == "u_t" else "black"
        axes.plot(*place, "o", markersize=4.5, markerfacecolor=face, markeredgecolor="black", zorder=6)
    _name_points(axes, step, learning_rate)


def draw_scale(axes: Any, scale: Scale, title: str) -> None:
    """The bar of the losses."""
    label_bar(axes.figure.colorbar(ScalarMappable(_norm(scale), PALE), cax=axes), scale, title)


def draw_keys(sheet: Sheet, top: float) -> None:
    """What the arrows mean, in two columns."""
    axes = sheet.axes(0, 0, sheet.width, sheet.height, zorder=-1)
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.axis("off")
    rows = len(KEYS) // 2
    for number, (kind, words) in enumerate(KEYS.items()):
        left, line = 0.25 + number // rows * (PAGE / 2 - 0.35), top + number % rows * (LINE + 0.02)
        middle = line + LINE / 2
        if kind == "point":
            for shift, face in ((0.11, "black"), (0.29, "white")):
                axes.plot(
                    left + shift, middle, "o", markersize=4.5, markerfacecolor=face, markeredgecolor="black"
                )
        else:
            _arrow(axes, (left, middle), (left + 0.4, middle), kind)
        sheet.text(left + 0.5, line, words, ha="left")


def _norm(scale: Scale) -> Normalize:
    return Normalize(scale.low, scale.high)


def _arrow(axes: Any, start: Place, end: Place, kind: str) -> None:
    look = ARROWS[kind]
    wide = look["linewidth"]
    style = f"-|>,head_length={0.28 + 0.06 * wide:.2f},head_width={0.1 + 0.04 * wide:.2f}"
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={
            "arrowstyle": style, "mutation_scale": 14, "shrinkA": 0, "shrinkB": 1, "joinstyle": "miter",
            **look,
        },
        zorder=5 if kind == "ascent" else 4,
    )  # fmt: skip


def _beside(axes: Any, step: Step, learning_rate: float) -> list[tuple[Place, Place, str]]:
    """The gradients' arrows, `BESIDE` points off their places to the left and right in turn.

    Where they belong they would hide under the steps that they cause.
    """
    arrows = []
    for number, one in enumerate(step.gradients):
        start, end = axes.transData.transform([one.at, one.end(learning_rate)])
        along = end - start
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
        shift = BESIDE * axes.figure.dpi / 72 * across * (-1) ** number
        moved = axes.transData.inverted().transform([start + shift, end + shift])
        arrows.append((tuple(moved[0]), tuple(moved[1]), "reused" if one.reused else "fresh"))
    return arrows


def _name_points(axes: Any, step: Step, learning_rate: float) -> None:
    """Each name beside its point, in the direction that is farthest from all lines, points and names."""
    to_pixels = axes.transData.transform
    ends = [(step.points[a], step.points[b]) for a, b in MOVES]
    ends += [(start, end) for start, end, _ in _beside(axes, step, learning_rate)]
    crowd = np.concatenate([np.linspace(to_pixels(start), to_pixels(end), 40) for start, end in ends])
    frame = axes.bbox
    unit = axes.figure.dpi / 72
    for name, place in step.points.items():
        middle = to_pixels(place)
        angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        reach = np.stack([21 * np.cos(angles), 13 * np.sin(angles)], axis=1) * unit
        spots = middle + reach
        half = np.array([17, 9]) * unit
        inside = (spots - half > frame.min).all(axis=1) & (spots + half < frame.max).all(axis=1)
        # Distances are measured in half-sizes of a name, whose box is wider than high.
        room = np.abs((spots[:, None] - crowd) / half).max(axis=2).min(axis=1)
        best = int(np.argmax(np.where(inside, np.minimum(room, 1.3), -1)))
        axes.annotate(
            NAMES[name], place, xytext=tuple(reach[best] / unit), textcoords="offset points", size=SYMBOL,
            ha="center", va="center", zorder=7, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        taken = [[x, y] for x in (-0.8, 0, 0.8) for y in (-0.6, 0, 0.6)]
        crowd = np.concatenate([crowd, spots[best] + half * np.array(taken)])
