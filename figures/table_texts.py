"""A table as Markdown, LaTeX and CSV. Needs no torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby

from figures.tabular import Column, Entry, Grid
from landscape.escaping import SafeWriter, latex, markdown

HEADS = ("table", "row", "group", "quantity", "value", "error", "low", "high", "over", "n", "state")
BOX = r"\fbox{\rule{0pt}{0.6ex}\rule{0.6ex}{0pt}}"  # of LaTeX itself: no package has to be loaded


def to_csv(grids: Sequence[Grid]) -> str:
    """One line for each cell, empty ones among them; numbers in plain units."""
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(HEADS)
    for grid in grids:
        for line in grid.lines:
            row = ", ".join(one for one in line.labels if one)
            for column, one in zip(grid.columns, line.entries, strict=True):
                if one.state == "none":
                    continue
                numbers = ["" if part is None else f"{part:.6g}" for part in
                           (one.value, one.error, one.low, one.high)]  # fmt: skip
                count = one.n or ""
                writer.writerow(
                    [grid.title, row, column.group, column.key, *numbers, one.over, count, one.state]
                )
    return text.getvalue()


def to_markdown(grid: Grid, title: bool = True) -> str:
    """The best of a group in bold, published numbers in italics."""
    heads = [*grid.heads, *(f"{one.group} {one.head}".strip() for one in grid.columns)]
    rows = [[*map(markdown, heads)], ["---"] * len(heads)]
    for line in grid.lines:
        rows.append([*map(markdown, line.labels), *map(_marked, line.entries)])
    body = [f"| {' | '.join(row)} |" for row in rows]
    above = [f"**{markdown(grid.title)}**", ""] if title else []
    return "\n".join([*above, *body, "", *map(markdown, grid.remarks)]) + "\n"


def _marked(one: Entry) -> str:
    text = str(one)
    if one.state == "published":
        return f"*{text}*"
    return f"**{one.text}** {one.beside}".strip() if one.best else text


def to_latex(grid: Grid) -> str:
    """A tabular for booktabs: the best of a group in bold, published numbers in italics."""
    left = len(grid.heads)
    lines = [
        f"% {latex(grid.title)}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * len(grid.columns)}}}",
        r"\toprule",
        *_groups(grid.columns, left),
        " & ".join([*map(latex, grid.heads), *(latex(one.head) for one in grid.columns)]) + r" \\",
        r"\midrule",
    ]
    before = None
    for line in grid.lines:
        if before not in (None, line.labels[0]):
            lines.append(r"\addlinespace")
        before = line.labels[0]
        lines.append(" & ".join([*map(latex, line.labels), *map(_set, line.entries)]) + r" \\")
    notes = [f"% {latex(one).replace('□', 'box')}" for one in grid.remarks]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def _groups(columns: Sequence[Column], left: int) -> list[str]:
    """The heads of groups with the rules below them; nothing where no group has a name."""
    if not any(one.group for one in columns):
        return []
    cells, rules, at = [], [], left + 1
    for name, members in groupby(columns, key=lambda one: one.group):
        width = len(list(members))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(name)}}}" if name else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
        at += width
    return [" & ".join([*[""] * left, *cells]) + r" \\", " ".join(rules)]


def _set(one: Entry) -> str:
    if one.state == "not run":
        return BOX
    text = latex(one.text)
    text = rf"\textbf{{{text}}}" if one.best else rf"\textit{{{text}}}" if one.state == "published" else text
    beside = latex(one.beside).replace("±", r"$\pm$")
    return rf"{text}\,{{\scriptsize {beside}}}" if beside else text
