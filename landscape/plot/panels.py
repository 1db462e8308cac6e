"""The panels of a figure: a surface in 3D, its contours, lines. Axes in, axes filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import RegularGridInterpolator

from landscape.plot.scale import Scale, number
from landscape.plot.text import axis_title, unit_of
from landscape.surface import BoolArray, FloatArray, Metric, Path2D, Surface

CAMERA = {"elev": 30.0, "azim": -58.0}
FILL_BANDS = 48
PATH_COLORS = ("#ff5a36", "#39c5f3", "#ffd23f", "#d783ff", "#8be36b", "#ff9ac4")
"""Of several paths in turn; the first one's is that of a single path."""
HATCHED = {"diverged": ("#e4ddd8", "////"), "not computed": ("#ffffff", "....")}


@dataclass(frozen=True)
class Panel:
    """One metric on one plane of a surface, and how values become heights and colours.

    Attributes
    ----------
    surface, plane, metric, split
        What is drawn; `plane` is an index.
    scale, colors
        Value to position, position to colour.
    """

    surface: Surface
    plane: int
    metric: str
    split: str
    scale: Scale
    colors: Colormap

    @property
    def data(self) -> Metric:
        """Values, standard errors and interpolation error."""
        return self.surface.metric(self.metric, plane=self.plane, split=self.split)

    @property
    def computed(self) -> BoolArray:
        """Shape ``[alpha, beta]``: False where interpolated or missing."""
        own = self.data.computed  # a curvature is computed at fewer points than the loss
        return self.surface.planes[self.plane].computed if own is None else own

    @property
    def path(self) -> Path2D | None:
        """Networks projected onto the plane, if it has such."""
        return self.surface.planes[self.plane].path

    @property
    def title(self) -> str:
        """Name and unit of the values."""
        return unit_of(self.surface, self.metric, self.split)

    @property
    def positions(self) -> FloatArray:
        """Shape ``[alpha, beta]``; NaN where there is nothing to draw."""
        return self.scale.positions(self.data.values)

    @property
    def norm(self) -> Normalize:
        """Position to the colour map's range."""
        return Normalize(self.scale.low, self.scale.high)

    @property
    def labels(self) -> tuple[str, str]:
        """Titles of the axes."""
        about = self.surface.planes[self.plane].about
        return axis_title(about, "α", "alpha_to"), axis_title(about, "β", "beta_to")

    @property
    def best(self) -> str:
        """Which end of the scale is the good one."""
        return "highest" if self.metric == "accuracy" else "lowest"

    @property
    def best_index(self) -> tuple[int, int]:
        """Grid index of the lowest (highest) value that is known."""
        values = self.data.values
        known = np.where(np.isfinite(values), values, np.nan)
        flat = np.nanargmin(known) if self.best == "lowest" else np.nanargmax(known)
        i, j = np.unravel_index(flat, known.shape)
        return int(i), int(j)


def draw_surface(axes: Any, panel: Panel, zoom: float = 0.92) -> None:
    """A 3D surface over its own contours; `axes` is an Axes3D."""
    alpha, beta = np.meshgrid(panel.surface.alpha, panel.surface.beta, indexing="ij")
    z, scale = panel.positions, panel.scale
    floor = scale.low - 0.18 * (scale.high - scale.low)
    axes.plot_surface(
        alpha, beta, z, cmap=panel.colors, norm=panel.norm, rcount=101, ccount=101,
        linewidth=0.15, edgecolor=(0, 0, 0, 0.22), antialiased=True, shade=False, rasterized=True,
    )  # fmt: skip
    if np.isfinite(z).any() and np.nanmin(z) < np.nanmax(z):
        levels = np.linspace(np.nanmin(z), np.nanmax(z), 10)[1:-1]
        axes.contour(
            alpha, beta, z, levels, zdir="z", offset=floor, cmap=panel.colors, norm=panel.norm, linewidths=0.6
        )
    axes.set(xlim=_ends(panel.surface.alpha), ylim=_ends(panel.surface.beta), zlim=(floor, scale.high))
    _mark_surface(axes, panel)
    axes.view_init(**CAMERA)
    axes.set_box_aspect((1, 1, 0.78), zoom=zoom)
    axes.patch.set_visible(False)
    _dress(axes, panel)


def _mark_surface(axes: Any, panel: Panel) -> None:
    """The checkpoint on a stem and the path on the surface, both seen through its walls."""
    axes.computed_zorder = False  # matplotlib orders whole things by their middles: marks would vanish
    around = [withStroke(linewidth=1.8, foreground=(0, 0, 0, 0.6))]
    if panel.path is not None:
        for order, (_, path) in enumerate(panel.path.each()):
            color = path_color(order)
            axes.plot(
                *_on_surface(panel, *_densely(path)),
                color=color,
                linewidth=0.9,
                path_effects=around,
                zorder=3,
            )
            start = _on_surface(panel, path.alpha[:1], path.beta[:1])
            axes.plot(*start, color=color, marker="s", markersize=3.5, markeredgecolor="black",
                      markeredgewidth=0.5, zorder=3.1)  # fmt: skip
    if panel.surface.center is not None:
        x, y, z = (float(one[0]) for one in _on_surface(panel, np.zeros(1), np.zeros(1)))
        if np.isfinite(z):
            head = min(z + 0.22 * (panel.scale.high - panel.scale.low), panel.scale.high)
            axes.plot([x, x], [y, y], [z, head], color="white", linewidth=1.0, path_effects=around, zorder=4)
            axes.plot([x], [y], [head], marker="o", markersize=4, color="white", markeredgecolor="black",
                      markeredgewidth=0.7, zorder=4.1)  # fmt: skip


def _densely(path: Path2D) -> tuple[FloatArray, FloatArray]:
    """A path in short steps, which follow the surface between its networks."""
    steps = np.linspace(0, len(path.alpha) - 1, 20 * (len(path.alpha) - 1) + 1)
    own = np.arange(len(path.alpha))
    return np.interp(steps, own, path.alpha), np.interp(steps, own, path.beta)


def _on_surface(
    panel: Panel, alpha: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Places with their heights between the grid points; NaN beyond the grid and beside holes."""
    found = RegularGridInterpolator(
        (panel.surface.alpha, panel.surface.beta), panel.positions, bounds_error=False
    )(np.stack([alpha, beta], axis=1))
    return alpha, beta, np.asarray(found, np.float64)


def _dress(axes: Any, panel: Panel) -> None:
    """Axis titles, round ticks, pale panes."""
    alpha_title, beta_title = panel.labels
    axes.set_xlabel(alpha_title, labelpad=-5)
    axes.set_ylabel(beta_title, labelpad=-5)
    positions, labels = panel.scale.levels(5)
    axes.zaxis.set_rotate_label(False)  # by itself a short title stays level, over the labels
    long = max(map(len, labels), default=0)
    axes.set_zlabel(panel.title, labelpad=max(-3.0, 2.5 * (long - 4)), rotation=86)
    axes.set_zticks(positions, labels)
    inside = (0.25, 0.5, 0.75)  # at the ends those of two axes would meet
    axes.set_xticks(*_ticks(panel, panel.surface.alpha, inside))
    axes.set_yticks(*_ticks(panel, panel.surface.beta, inside))
    axes.tick_params(pad=-2.5)
    axes.tick_params(axis="z", pad=0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis._axinfo["grid"].update(color=(0.85, 0.85, 0.85), linewidth=0.4)


def draw_contour(axes: Axes, panel: Panel) -> None:
    """Filled contours with labelled levels; checkpoint, best point and computed points marked."""
    alpha, beta, z = panel.surface.alpha, panel.surface.beta, panel.positions
    bands = np.linspace(panel.scale.low, panel.scale.high, FILL_BANDS + 1)
    # Matplotlib wants rows along y: [beta, alpha].
    filled = axes.contourf(alpha, beta, z.T, bands, cmap=panel.colors, norm=panel.norm, extend="both")
    filled.set_edgecolor("face")  # else PDF viewers show hairlines between bands
    filled.set_rasterized(True)
    axes.set(xlabel=panel.labels[0], ylabel=panel.labels[1], xlim=_ends(alpha), ylim=_ends(beta))
    axes.set_xticks(*_ticks(panel, alpha, (0, 0.5, 1)))
    axes.set_yticks(*_ticks(panel, beta, (0, 0.5, 1)))
    _hatch(axes, panel)
    _label_levels(axes, panel)
    if not panel.computed.all():
        i, j = np.nonzero(panel.computed)
        axes.scatter(alpha[i], beta[j], s=1.6, color="white", alpha=0.6, linewidths=0)
    best: dict[str, Any] = {"facecolor": "none", "edgecolor": "white", "linewidths": 1.1, "zorder": 1.4}
    axes.scatter(*_place(panel, panel.best_index), s=26, **best)
    _draw_path(axes, panel)
    if panel.surface.center is not None:
        place = _place(panel, panel.surface.center)
        axes.scatter(*place, s=26, marker="x", color="white", linewidths=1.3, zorder=1.4)


def _draw_path(axes: Axes, panel: Panel) -> None:
    """The networks projected onto the plane: a line with a dot each, a square for the first."""
    if panel.path is None:
        return
    around = [withStroke(linewidth=1.8, foreground=(0, 0, 0, 0.6))]
    for order, (_, path) in enumerate(panel.path.each()):
        color = path_color(order)
        axes.plot(path.alpha, path.beta, color=color, linewidth=0.9, path_effects=around, zorder=1.1)
        dots: dict[str, Any] = {"color": color, "edgecolor": "black"}
        axes.scatter(path.alpha, path.beta, s=3.5, linewidths=0.2, zorder=1.2, **dots)
        axes.scatter(path.alpha[0], path.beta[0], s=14, marker="s", linewidths=0.5, zorder=1.3, **dots)


def path_color(order: int) -> str:
    """Of a plane's path with that number, from 0."""
    return PATH_COLORS[order % len(PATH_COLORS)]


def _label_levels(axes: Axes, panel: Panel) -> None:
    """Thin lines at round values, with the values on them."""
    levels, texts = panel.scale.levels(9)
    z = panel.positions
    inside = [level for level in levels if np.nanmin(z) < level < np.nanmax(z)]
    if not inside:
        return
    lines = axes.contour(
        panel.surface.alpha, panel.surface.beta, z.T, inside, colors="white", linewidths=0.6, alpha=0.75
    )
    names = dict(zip(levels.tolist(), texts, strict=True))
    places = _label_places(axes, lines.allsegs)
    if not places:
        return
    labels = axes.clabel(
        lines, fontsize=6, fmt=lambda level: names.get(level, f"{level:.3g}"), manual=places, inline_spacing=3
    )
    for label in labels:
        label.set(alpha=1, path_effects=[withStroke(linewidth=1.2, foreground=(0, 0, 0, 0.55))])


def _label_places(axes: Axes, segments: Sequence[Sequence[FloatArray]]) -> list[tuple[float, float]]:
    """One place on each level's lines, off the frame and away from the labels before it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    origin, size = np.array([left, bottom]), np.array([right - left, top - bottom])
    taken = [np.array([0.5, 0.5])]  # the marks in the middle
    for level in segments:
        points = (np.concatenate([np.zeros((0, 2)), *level]) - origin) / size
        points = points[((points > 0.07) & (points < 0.93)).all(axis=1)]
        if len(points):
            gaps = np.min([np.hypot(*(points - place).T) for place in taken], axis=0)
            taken.append(points[np.argmax(np.minimum(gaps, 0.25))])
    return [(float(x), float(y)) for x, y in (place * size + origin for place in taken[1:])]


def _hatch(axes: Axes, panel: Panel) -> None:
    """Diverged and missing points, each in its own hatching."""
    values = panel.data.values
    for name, found in {"diverged": np.isinf(values), "not computed": np.isnan(values)}.items():
        if found.any():
            color, hatch = HATCHED[name]
            axes.contourf(
                panel.surface.alpha, panel.surface.beta, found.T.astype(float), [0.5, 1.5],
                colors=[color], hatches=[hatch], zorder=0.5,
            )  # fmt: skip


def draw_lines(axes: Axes, panels: Sequence[Panel], colors: Sequence[str]) -> None:
    """One-dimensional surfaces in one chart, with bands of 1.96 standard errors over the examples."""
    for panel, color in zip(panels, colors, strict=True):
        x, values = panel.surface.alpha, panel.data.values[:, 0]
        known = np.isfinite(values)
        axes.plot(x, np.where(known, np.minimum(values, panel.scale.clip), np.nan), color=color)
        spread = 1.96 * panel.data.stderr[:, 0]
        low, high = values - spread, np.minimum(values + spread, panel.scale.clip)
        if panel.scale.log:
            low = np.where(low > 0, low, 10**panel.scale.low)
        axes.fill_between(
            x, low, high, where=known & np.isfinite(spread), color=color, alpha=0.2, linewidth=0
        )
        for place in x[np.isinf(values)]:
            axes.axvline(place, color=color, linewidth=0.5, linestyle=":")
        if panel.path is not None:
            for order, (name, path) in enumerate(panel.path.each()):
                feet = np.zeros(len(path.alpha))
                own = path_color(order) if name else color
                axes.plot(path.alpha, feet, "|", color=own, transform=axes.get_xaxis_transform())
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.set(xlabel=panels[0].labels[0], ylabel=panels[0].title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(
        min(panel.surface.alpha[0] for panel in panels), max(panel.surface.alpha[-1] for panel in panels)
    )
    if panels[0].scale.log:
        axes.set_yscale("log")


def marks(panels: Sequence[Panel], *, contour: bool = True) -> list[Line2D | Patch]:
    """Legend entries for the marks that the contours of these panels carry, or without them the 3D views."""
    ring: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "black"}
    entries: list[Line2D | Patch] = []
    if any(panel.surface.center is not None for panel in panels):
        mark = "x" if contour else "o"
        entries.append(
            Line2D([], [], marker=mark, markersize=5, markerfacecolor="white", label="checkpoint", **ring)
        )
    drawn = {
        (name, path_color(order))
        for panel in panels
        if panel.path is not None
        for order, (name, _) in enumerate(panel.path.each())
    }
    for name, color in sorted(drawn, key=lambda one: PATH_COLORS.index(one[1])):
        label = f"path of {name}" if name else "path, from its start"
        entries.append(
            Line2D([], [], color=color, marker="s", markersize=3.5, label=label,
                   markeredgecolor="black", markeredgewidth=0.5)
        )  # fmt: skip
    if not contour:
        return entries
    best = f"{panels[0].best} grid point"
    entries.append(Line2D([], [], marker="o", markersize=5, markerfacecolor="none", label=best, **ring))
    if any(not panel.computed.all() for panel in panels):
        entries.append(
            Line2D([], [], marker=".", markersize=2, label="computed point", color="0.45", linestyle="none")
        )
    for name, test in (("diverged", np.isinf), ("not computed", np.isnan)):
        if any(test(panel.data.values).any() for panel in panels):
            color, hatch = HATCHED[name]
            entries.append(Patch(facecolor=color, edgecolor="black", linewidth=0.4, hatch=hatch, label=name))
    return entries


def _place(panel: Panel, index: tuple[int, int]) -> tuple[float, float]:
    return float(panel.surface.alpha[index[0]]), float(panel.surface.beta[index[1]])


def _ends(axis: FloatArray) -> tuple[float, float]:
    return float(axis[0]), float(axis[-1])


def _ticks(panel: Panel, axis: FloatArray, shares: Sequence[float]) -> tuple[list[float], list[str]]:
    """Places at shares of the way along an axis, and their labels; round numbers where the ends aren't."""
    low, high = _ends(axis)
    places = [low + share * (high - low) for share in shares]
    if panel.path is not None:
        rounds = [float(one) for one in MaxNLocator(len(shares) + 1).tick_values(low, high)]
        edge = 0.6 * shares[0] * (high - low)
        places = [one for one in rounds if low + edge <= one <= high - edge]
    return places, [number(place) for place in places]
