"""Figures 1 and 3: a table of surfaces from one camera on one loss scale, with Ra below each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from figures.panels import draw_bar, draw_empty, draw_surface, ra_lines
from figures.results import Cell
from figures.sheet import LINE, Sheet, wrapped
from figures.style import PAGE, PRINT, SMALLEST
from landscape.errors import UserError
from landscape.plot.scale import Scale, scale_of
from landscape.plot.text import unit_of

LEFT, BAR, EDGE = 0.22, 0.7, 0.06  # row titles, colour bar with its text, margin of the page; inches
HEADER = LINE + 0.04
ABOVE, GAP = 0.07, 0.12  # between a panel and its Ra, below a row


@dataclass(frozen=True)
class Grid:
    """What stands where.

    Attributes
    ----------
    rows
        Cells by the title of their row; all rows are equally long.
    groups
        Titles above columns, with the number of columns that each spans, left to right.
    columns
        A title for each column, below those of the groups; may be empty.
    below
        Texts below the groups, by the title of the row; may be empty.
    height
        Of a panel, in inches.
    zoom
        Of the 3D box in its panel.
    """

    rows: Mapping[str, Sequence[Cell]]
    groups: Sequence[tuple[str, int]]
    columns: Sequence[str]
    below: Mapping[str, Sequence[str]]
    height: float
    zoom: float

    @property
    def cells(self) -> list[Cell]:
        """All, row by row."""
        return [cell for row in self.rows.values() for cell in row]

    @property
    def scale(self) -> Scale | None:
        """The logarithmic scale on which all surfaces fit; None when there is nothing finite.

        Raises
        ------
        UserError
            When a loss isn't positive.
        """
        drawn = [cell.runs[0].surface.loss for cell in self.cells if cell.runs]
        if not any(np.isfinite(loss).any() for loss in drawn):
            return None
        if any((loss <= 0).any() for loss in drawn):
            raise UserError("a loss isn't positive: this figure's loss scale is logarithmic")
        return scale_of(drawn, log=True, clip=None)


def draw_grid(grid: Grid, footer: str) -> Figure:
    """The whole figure, as wide as a page."""
    with mpl.rc_context(PRINT):
        words = ABOVE + 2 * LINE + (LINE if grid.below else 0.0)
        top = EDGE + HEADER * (2 if grid.columns else 1)
        note = wrapped(footer, PAGE - 2 * EDGE)
        step = grid.height + words + GAP
        height = top + len(grid.rows) * step + len(note) * LINE + EDGE
        sheet = Sheet.of(PAGE, height)
        _draw_headers(sheet, grid)
        scale = grid.scale
        for number, title in enumerate(grid.rows):
            _draw_row(sheet, grid, title, top + number * step, scale)
        if scale is not None:
            span = len(grid.rows) * step - words - GAP
            bar = min(span, 2.6)
            unit = next(
                unit_of(cell.runs[0].surface, "loss", cell.runs[0].ra.split)
                for cell in grid.cells
                if cell.runs
            )
            left = PAGE - BAR + 0.05
            draw_bar(sheet.axes(left, top + (span - bar) / 2, 0.1, bar), scale, unit)
        sheet.lines(EDGE, height - EDGE - len(note) * LINE, note, ha="left")
        return sheet.figure


def _width(grid: Grid) -> float:
    """Of one panel."""
    return (PAGE - LEFT - BAR) / sum(span for _, span in grid.groups)


def _draw_headers(sheet: Sheet, grid: Grid) -> None:
    width, column = _width(grid), 0
    for title, span in grid.groups:
        sheet.text(LEFT + (column + span / 2) * width, EDGE, title, weight="bold")
        column += span
    for number, title in enumerate(grid.columns):
        sheet.text(LEFT + (number + 0.5) * width, EDGE + HEADER, title)


def _draw_row(sheet: Sheet, grid: Grid, title: str, top: float, scale: Scale | None) -> None:
    width = _width(grid)
    sheet.text(EDGE + SMALLEST / 144, top + grid.height / 2, title, rotation=90, va="center", weight="bold")
    for number, cell in enumerate(grid.rows[title]):
        left = LEFT + number * width
        if not cell.runs:
            frame = (left, top, width, grid.height + ABOVE + 2 * LINE)
            draw_empty(sheet, frame, cell.missing)
        elif scale is None or not np.isfinite(cell.runs[0].surface.loss).any():
            draw_empty(sheet, (left, top, width, grid.height), "diverged at every point")
        else:
            axes = sheet.axes(left, top, width, grid.height, projection="3d")
            draw_surface(axes, cell.runs[0].surface, scale, grid.zoom)
        sheet.lines(left + width / 2, top + grid.height + ABOVE, ra_lines(cell))
    column = 0
    for text, (_, span) in zip(grid.below.get(title, ()), grid.groups, strict=False):
        place = LEFT + (column + span / 2) * width
        sheet.text(place, top + grid.height + ABOVE + 2 * LINE, text, weight="bold")
        column += span
