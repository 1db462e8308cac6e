"""Where panels, headings, colour bars and the legend of a figure stand. All lengths are inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from landscape.plot_panels import Panel, draw_contour, draw_lines, draw_surface, marks
from landscape.plot_text import wrap

# Okabe and Ito's colours, told apart by colour-blind readers too.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

COLUMN = 2.75  # a surface's column, without its colour bar
SIDE = 0.5  # left of a contour plot: its axis title
SQUARE = COLUMN - SIDE - 0.2  # a contour plot's side
VIEW = 2.4  # height of a 3D view
UNDER = 0.42  # below a contour plot: its axis title
BAR = 0.78  # a colour bar with its text
MARGIN, LEGEND = 0.1, 0.28
TITLE_SIZE, NOTE_SIZE, LEADING = 8.5, 6.3, 1.32


@dataclass(frozen=True)
class Heading:
    """The words above a panel: name, Ra, how the surface was made."""

    name: str
    roughness: str
    conventions: str

    def lines(self, width: float) -> list[tuple[str, float, str]]:
        """Text, size and weight, wrapped to `width`."""
        family = mpl.rcParams["font.family"][0]
        size = float(mpl.rcParams["font.size"])
        found = []
        for text, points, weight in (
            (self.name, TITLE_SIZE, "bold"),
            (self.roughness, size, "normal"),
            (self.conventions, NOTE_SIZE, "normal"),
        ):
            if text:
                found += [(line, points, weight) for line in wrap(text, width, points, weight, family)]
        return found

    def height(self, width: float) -> float:
        """Of all lines together."""
        return sum(size * LEADING / 72 for _, size, _ in self.lines(width))


@dataclass(frozen=True)
class _Sheet:
    """A figure whose axes and texts are placed in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    @classmethod
    def of(cls, width: float, height: float) -> _Sheet:
        return cls(Figure(figsize=(width, height), facecolor="white"), width, height)

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Any:
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box, **options)

    def heading(
        self,
        heading: Heading,
        left: float,
        top: float,
        width: float,
        align: Literal["left", "center"] = "center",
    ) -> None:
        """Lines one under another."""
        place = left if align == "left" else left + width / 2
        for text, size, weight in heading.lines(width):
            color = "0.3" if size == NOTE_SIZE else "black"
            self.figure.text(
                place / self.width, 1 - top / self.height, text,
                size=size, weight=weight, color=color, ha=align, va="top",
            )  # fmt: skip
            top += size * LEADING / 72

    def legend(self, entries: Sequence[Any]) -> None:
        """One row at the bottom."""
        self.figure.legend(
            handles=list(entries), loc="lower center", ncols=len(entries), frameon=False, handletextpad=0.4,
            columnspacing=1.4, borderaxespad=0.3,
        )  # fmt: skip


def draw_planes(
    panels: Sequence[Panel],
    headings: Sequence[Heading],
    *,
    surface: bool,
    contour: bool,
    share: bool,
    columns: int,
) -> Figure:
    """Rows of columns: heading, 3D view, contours. One colour bar a row when the scale is shared."""
    rows = [slice(start, start + columns) for start in range(0, len(panels), columns)]
    step = COLUMN + (0 if share else BAR)
    text = COLUMN - 2 * MARGIN
    tops = [max(heading.height(text) for heading in headings[row]) + 0.06 for row in rows]
    body = (VIEW if surface else 0.08) + (SQUARE + UNDER if contour else 0)
    legend = marks(panels) if contour else []
    height = MARGIN + sum(tops) + len(rows) * (body + MARGIN) + (LEGEND if legend else 0)
    sheet = _Sheet.of(2 * MARGIN + columns * step + (BAR if share else 0), height)
    top = MARGIN
    for row, head in zip(rows, tops, strict=True):
        for column, (panel, heading) in enumerate(zip(panels[row], headings[row], strict=True)):
            left = MARGIN + column * step
            sheet.heading(heading, left + MARGIN, top, text)
            _draw_column(sheet, panel, left, top + head, surface=surface, contour=contour)
            last = column == len(panels[row]) - 1
            if not share or last:
                _draw_bar(sheet, panel, left + COLUMN, top + head, surface=surface, contour=contour)
        top += head + body + MARGIN
    if legend:
        sheet.legend(legend)
    return sheet.figure


def _draw_column(
    sheet: _Sheet, panel: Panel, left: float, top: float, *, surface: bool, contour: bool
) -> None:
    if surface:
        draw_surface(sheet.axes(left, top - 0.2, COLUMN, VIEW + 0.2, projection="3d"), panel)
        top += VIEW
    if contour:
        draw_contour(sheet.axes(left + SIDE, top + 0.05, SQUARE, SQUARE), panel)


def _draw_bar(sheet: _Sheet, panel: Panel, left: float, top: float, *, surface: bool, contour: bool) -> None:
    """Beside the contours, or beside the 3D view where there are none."""
    offset, height = (VIEW + 0.05, SQUARE) if surface and contour else (0.05, SQUARE)
    if not contour:
        offset, height = 0.2 * VIEW, 0.6 * VIEW
    axes = sheet.axes(left, top + offset, 0.11, height)
    bar = sheet.figure.colorbar(ScalarMappable(panel.norm, panel.colors), cax=axes)
    positions, labels = panel.scale.levels(9)
    bar.set_ticks(positions.tolist(), labels=labels)
    bar.minorticks_off()
    bar.set_label(panel.title)
    bar.outline.set_linewidth(0.5)


def draw_line_chart(panels: Sequence[Panel], headings: Sequence[Heading]) -> Figure:
    """All lines in one chart; the words about each stand beside it in the line's colour."""
    plot, words = (3.4, 2.5), 2.9
    heights = [heading.height(words - 0.12) + 0.12 for heading in headings]
    height = max(plot[1] + UNDER, sum(heights)) + 2 * MARGIN + 0.1
    sheet = _Sheet.of(SIDE + 0.1 + plot[0] + 0.25 + words + MARGIN, height)
    axes = sheet.axes(SIDE + 0.1, MARGIN + 0.1, *plot)
    colors = [LINE_COLORS[index % len(LINE_COLORS)] for index in range(len(panels))]
    draw_lines(axes, panels, colors)
    left, top = SIDE + 0.1 + plot[0] + 0.25, MARGIN + 0.1
    for heading, color, one in zip(headings, colors, heights, strict=True):
        key = sheet.axes(left, top, 0.035, one - 0.12)
        key.set_facecolor(color)
        key.set(xticks=[], yticks=[], frame_on=True)
        for spine in key.spines.values():
            spine.set_visible(False)
        sheet.heading(heading, left + 0.12, top, words - 0.12, "left")
        top += one
    return sheet.figure
