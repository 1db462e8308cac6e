"""A table as a figure of the page's width: numbers, their errors below them, empty boxes where none is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from figures.sheet import LINE, Sheet, wrapped
from figures.style import PAGE, PRINT, SMALLEST
from figures.tabular import Column, Entry, Grid
from landscape.plot.text import SLACK

EDGE, GAP, PAD = 0.06, 0.14, 0.04  # inches: the page's edge, between columns, beside a rule
WIDEST_LABEL, WIDEST_HEAD = 1.55, 0.66
DARK, PALE = "black", "0.75"


@dataclass(frozen=True)
class Piece:
    """Columns of a grid that fit on the page side by side, and how wide they and the labels are."""

    grid: Grid
    places: tuple[int, ...]
    widths: tuple[float, ...]
    labels: tuple[float, ...]

    @property
    def columns(self) -> list[Column]:
        """Those of the grid that stand here."""
        return [self.grid.columns[at] for at in self.places]


def draw(title: str, grids: Sequence[Grid]) -> Figure:
    """All grids one under another; one too wide for the page is continued below."""
    with mpl.rc_context(PRINT):
        pieces = [piece for grid in grids for piece in _pieces(grid)]
        head = wrapped(title, PAGE - 2 * EDGE)
        height = 2 * EDGE + len(head) * LINE + sum(_height(one) for one in pieces)
        sheet = Sheet.of(PAGE, height)
        axes = sheet.axes(0, 0, PAGE, height, zorder=-1)
        axes.set(xlim=(0, PAGE), ylim=(height, 0))
        axes.axis("off")
        sheet.lines(EDGE, EDGE, head, ha="left", weight="bold")
        top = EDGE + len(head) * LINE
        for piece in pieces:
            _draw(sheet, axes, piece, top)
            top += _height(piece)
        return sheet.figure


def _width(text: str, weight: str = "normal") -> float:
    """Inches of a line of the smallest print."""
    font = FontProperties(family="DejaVu Sans", size=SMALLEST, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72 / SLACK


def _pieces(grid: Grid) -> list[Piece]:
    labels = tuple(
        min(WIDEST_LABEL, max(_width(one) for one in (head, *(line.labels[at] for line in grid.lines))))
        for at, head in enumerate(grid.heads)
    )
    widths = []
    for at, column in enumerate(grid.columns):
        cells = [part for line in grid.lines for part in _parts(line.entries[at])]
        heads = [_width(one) for one in wrapped(column.head, WIDEST_HEAD)]
        widths.append(max([*heads, *(_width(one, "bold") for one in cells), 0.2]))
    widths = _widened(grid, widths)
    left = sum(one + GAP for one in labels)
    groups: list[list[int]] = [[]]
    for at, width in enumerate(widths):
        row = groups[-1]
        if row and left + sum(widths[one] + GAP for one in row) + width > PAGE - 2 * EDGE:
            same = [one for one in row if grid.columns[one].group == grid.columns[at].group != ""]
            if len(same) < len(row):  # a group stays together
                groups[-1] = [one for one in row if one not in same]
                groups.append(same)
            else:
                groups.append([])
        groups[-1].append(at)
    return [Piece(grid, tuple(row), tuple(widths[one] for one in row), labels) for row in groups]


def _widened(grid: Grid, widths: Sequence[float]) -> list[float]:
    """Columns of a group no narrower together than the group's head."""
    found = list(widths)
    for group in dict.fromkeys(one.group for one in grid.columns):
        places = [at for at, one in enumerate(grid.columns) if group and one.group == group]
        if places:
            lack = _width(group) - sum(found[at] for at in places) - GAP * (len(places) - 1)
            for at in places:
                found[at] += max(0.0, lack) / len(places)
    return found


def _parts(one: Entry) -> list[str]:
    return [part for part in (one.text, one.beside) if part]


def _lines_of(piece: Piece, row: int) -> int:
    line = piece.grid.lines[row]
    again = row > 0 and piece.grid.lines[row - 1].labels[0] == line.labels[0]  # then it isn't repeated
    pairs = list(zip(line.labels, piece.labels, strict=True))[again:]
    labels = [len(wrapped(one, width)) for one, width in pairs]
    return max([*labels, *(len(_parts(line.entries[at])) for at in piece.places)])


def _heads_of(piece: Piece) -> int:
    deepest = max(len(wrapped(one.head, WIDEST_HEAD)) for one in piece.columns)
    return deepest + any(one.group for one in piece.columns)


def _last(piece: Piece) -> bool:
    return piece.places[-1] == len(piece.grid.columns) - 1


def _below(piece: Piece) -> list[str]:
    """Notes stand below the last piece of a grid."""
    width = PAGE - 2 * EDGE
    return [line for note in piece.grid.remarks for line in wrapped(note, width)] if _last(piece) else []


def _height(piece: Piece) -> float:
    rows = sum(_lines_of(piece, row) * LINE + PAD for row in range(len(piece.grid.lines)))
    above = 2 * LINE + _heads_of(piece) * LINE + 2 * PAD  # a gap, the grid's title, heads
    return above + rows + PAD + len(_below(piece)) * LINE


def _draw(sheet: Sheet, axes: object, piece: Piece, top: float) -> None:
    grid = piece.grid
    more = "" if piece.places[0] == 0 else " (continued)"
    sheet.text(EDGE, top + 0.8 * LINE, f"{grid.title}{more}", ha="left")
    y = top + 2 * LINE
    right = EDGE + sum(one + GAP for one in (*piece.labels, *piece.widths)) - GAP
    _rule(axes, EDGE, right, y, DARK)
    y += PAD
    base = y + (_heads_of(piece) - 1) * LINE
    x = EDGE
    for head, width in zip(grid.heads, piece.labels, strict=True):
        sheet.text(x, base, head, ha="left")
        x += width + GAP
    places = []
    for column, width in zip(piece.columns, piece.widths, strict=True):
        places.append((x, width))
        words = wrapped(column.head, WIDEST_HEAD)
        sheet.lines(x + width, base - (len(words) - 1) * LINE, words, ha="right")
        x += width + GAP
    _group_heads(sheet, axes, piece, places, y)
    y = base + LINE + PAD
    _rule(axes, EDGE, right, y, DARK)
    before: str | None = None
    for row, line in enumerate(grid.lines):
        if before is not None and line.labels[0] != before:
            _rule(axes, EDGE, right, y, PALE)
        x = EDGE
        for at, (label, width) in enumerate(zip(line.labels, piece.labels, strict=True)):
            if at or label != before:
                sheet.lines(x, y + PAD / 2, wrapped(label, width), ha="left")
            x += width + GAP
        before = line.labels[0]
        for at, (left, width) in zip(piece.places, places, strict=True):
            _cell(sheet, line.entries[at], left + width, y + PAD / 2)
        y += _lines_of(piece, row) * LINE + PAD
    _rule(axes, EDGE, right, y, DARK)
    sheet.lines(EDGE, y + PAD, _below(piece), ha="left")


def _group_heads(
    sheet: Sheet, axes: object, piece: Piece, places: Sequence[tuple[float, float]], y: float
) -> None:
    for group in dict.fromkeys(one.group for one in piece.columns):
        inside = [
            place for one, place in zip(piece.columns, places, strict=True) if group and one.group == group
        ]
        if inside:
            left, right = inside[0][0], sum(inside[-1])
            sheet.text((left + right) / 2, y, group)
            _rule(axes, left, right, y + LINE - 0.01, PALE)


def _cell(sheet: Sheet, one: Entry, right: float, top: float) -> None:
    style = "italic" if one.state == "published" else "normal"
    for row, part in enumerate(_parts(one)):
        heavy = "bold" if one.best and not row else "normal"
        sheet.text(right, top + row * LINE, part, ha="right", weight=heavy, style=style)


def _rule(axes: object, left: float, right: float, y: float, color: str) -> None:
    axes.plot((left, right), (y, y), color=color, linewidth=0.6)  # type: ignore[attr-defined]
