"""Where panels, headings, colour bars and the legend of a figure stand. All lengths are inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from landscape.errors import UserError
from landscape.plot.panels import Panel, draw_contour, draw_lines, draw_surface, marks
from landscape.plot.picture import Picture
from landscape.plot.text import wrap

# Okabe and Ito's colours, told apart by colour-blind readers too.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

COLUMN = 2.75  # a surface's column, without its colour bar
SIDE = 0.5  # left of a contour plot: its axis title
UNDER = 0.36  # below a contour plot: its axis title
BAR = 0.78  # a colour bar with its text
MARGIN, LEGEND, FOOTER = 0.1, 0.28, 0.12
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


LARGEST = 200  # inches: the side that a PDF can have, and below 2¹⁶ pixels at 300 dots per inch


@dataclass(frozen=True)
class _Sheet:
    """A figure whose axes and texts are placed in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    @classmethod
    def of(cls, width: float, height: float) -> _Sheet:
        if not max(width, height) <= LARGEST:
            raise UserError(
                f"a picture of {width:.4g} × {height:.4g} inches: expected at most {LARGEST} each way; "
                "draw fewer surfaces, choose more columns, or a smaller width"
            )
        return cls(Picture(figsize=(width, height), facecolor="white"), width, height)

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

    def legend(self, entries: Sequence[Any], above: float) -> None:
        """That much above the bottom, as many to a row as fit."""
        self.figure.legend(
            handles=list(entries), loc="lower center", ncols=min(len(entries), _fitting(self.width)),
            frameon=False, handletextpad=0.4, columnspacing=1.4, borderaxespad=0.3,
            bbox_to_anchor=(0, above / self.height, 1, 1),
        )  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How the panels of planes are arranged.

    Attributes
    ----------
    surface, contour
        Which views to draw.
    share
        One scale and one colour bar a row.
    columns, column
        Surfaces in a row, and the width of each.
    """

    surface: bool = True
    contour: bool = True
    share: bool = True
    columns: int = 4
    column: float = COLUMN

    @property
    def square(self) -> float:
        """Side of a contour plot."""
        return self.column - SIDE - 0.2

    @property
    def view(self) -> float:
        """Height of a 3D view; 0 without."""
        return 0.87 * self.column if self.surface else 0.0

    @property
    def zoom(self) -> float:
        """Of the 3D box: in a narrow column the texts beside it need a larger share."""
        return 0.92 * (1 - 0.28 * (COLUMN / self.column - 1))

    @property
    def bar(self) -> float:
        """Width for a colour bar. A 3D view alone needs none: its height says what its colour says."""
        return BAR if self.contour else 0.0

    @property
    def body(self) -> float:
        """Height of a row below its headings."""
        return self.view + (self.square + UNDER if self.contour else 0.0) + MARGIN

    @property
    def step(self) -> float:
        """From one column to the next."""
        return self.column + (0.0 if self.share else self.bar)

    @property
    def width(self) -> float:
        """Of the whole figure."""
        return 2 * MARGIN + self.columns * self.step + (self.bar if self.share else 0.0)


def draw_planes(
    panels: Sequence[Panel], headings: Sequence[Heading], layout: Layout, footer: str = ""
) -> Figure:
    """Rows of columns: heading, 3D view, contours; below them legend and footer."""
    rows = [slice(start, start + layout.columns) for start in range(0, len(panels), layout.columns)]
    text = layout.column - 2 * MARGIN
    tops = [max(heading.height(text) for heading in headings[row]) + 0.06 for row in rows]
    legend = marks(panels, contour=layout.contour)
    closing = Heading("", "", footer)
    below = closing.height(layout.width - 4 * MARGIN) + FOOTER if footer else 0.0
    legend_rows = ceil(len(legend) / _fitting(layout.width))
    height = MARGIN + sum(tops) + len(rows) * layout.body + legend_rows * LEGEND + below
    sheet = _Sheet.of(layout.width, height)
    top = MARGIN
    for row, head in zip(rows, tops, strict=True):
        _draw_row(sheet, panels[row], headings[row], layout, top, head)
        top += head + layout.body
    if legend:
        sheet.legend(legend, below)
    if footer:
        sheet.heading(closing, 2 * MARGIN, height - below, layout.width - 4 * MARGIN)
    return sheet.figure


def _draw_row(
    sheet: _Sheet,
    panels: Sequence[Panel],
    headings: Sequence[Heading],
    layout: Layout,
    top: float,
    head: float,
) -> None:
    for column, (panel, heading) in enumerate(zip(panels, headings, strict=True)):
        left = MARGIN + column * layout.step
        sheet.heading(heading, left + MARGIN, top, layout.column - 2 * MARGIN)
        if layout.surface:
            # The view reaches under the heading: a 3D box leaves its upper corners empty.
            box = (left - 0.1, top + head - 0.2, layout.column, layout.view + 0.2)
            draw_surface(sheet.axes(*box, projection="3d"), panel, layout.zoom)
        if layout.contour:
            below = top + head + layout.view + 0.05
            draw_contour(sheet.axes(left + SIDE, below, layout.square, layout.square), panel)
            if not layout.share or column == len(panels) - 1:
                _draw_bar(sheet.axes(left + layout.column, below, 0.11, layout.square), panel)


def _draw_bar(axes: Any, panel: Panel) -> None:
    """The colour bar beside the contours."""
    bar = axes.figure.colorbar(ScalarMappable(panel.norm, panel.colors), cax=axes)
    positions, labels = panel.scale.levels(9)
    bar.set_ticks(positions.tolist(), labels=labels)
    bar.minorticks_off()
    bar.set_label(panel.title)
    bar.outline.set_linewidth(0.5)


def _fitting(width: float) -> int:
    """Legend entries that stand beside each other in a figure so wide."""
    return max(1, int(width / 1.22))


def draw_line_chart(panels: Sequence[Panel], headings: Sequence[Heading], footer: str = "") -> Figure:
    """All lines in one chart; below it the words about each, beside a bar of the line's colour."""
    plot, left = (5.2, 2.5), SIDE + 0.1
    width = left + plot[0] + 2 * MARGIN
    columns = min(2, len(headings))
    step = plot[0] / columns
    words = step - 0.25
    rows = [headings[start : start + columns] for start in range(0, len(headings), columns)]
    heights = [max(heading.height(words) for heading in row) + 0.1 for row in rows]
    closing = Heading("", "", footer)
    below = closing.height(width - 4 * MARGIN) + FOOTER if footer else 0.0
    top = MARGIN + 0.1 + plot[1] + UNDER + 0.06
    height = top + sum(heights) + MARGIN + below
    sheet = _Sheet.of(width, height)
    colors = [LINE_COLORS[index % len(LINE_COLORS)] for index in range(len(panels))]
    draw_lines(sheet.axes(left, MARGIN + 0.1, *plot), panels, colors)
    for number, (heading, color) in enumerate(zip(headings, colors, strict=True)):
        row, column = divmod(number, columns)
        place = left + column * step, top + sum(heights[:row])
        _draw_key(sheet, color, *place, heading.height(words))
        sheet.heading(heading, place[0] + 0.12, place[1], words, "left")
    if footer:
        sheet.heading(closing, 2 * MARGIN, height - below, width - 4 * MARGIN)
    return sheet.figure


def _draw_key(sheet: _Sheet, color: str, left: float, top: float, height: float) -> None:
    """A bar in a line's colour, beside the words about it."""
    key = sheet.axes(left, top, 0.035, height)
    key.set_facecolor(color)
    key.set(xticks=[], yticks=[], frame_on=True)
    for spine in key.spines.values():
        spine.set_visible(False)
