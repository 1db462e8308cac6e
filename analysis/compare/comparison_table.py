"""The comparison as a terminal table, CSV, LaTeX and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from analysis.compare.pairs import Comparison
from analysis.compare.rows import SHARES, TITLES, Cell, Row, columns
from analysis.roughness.roughness_table import interval, number
from analysis.statistics.uncertainty import Estimate
from landscape.escaping import SafeWriter
from landscape.escaping import latex as escape
from landscape.files.json_files import finite

if TYPE_CHECKING:
    from rich.table import Table

CAPTION = (
    "[…] 95 % interval (λmax of analysis.hessian: ± residual; accuracy: Wilson); "
    "≥: a maximum that was searched for, so a lower bound"
)
TESTS_CAPTION = (
    "p: two-sided sign-flip permutation test, not adjusted for the number of lines; "
    "d_z: mean over standard deviation of the differences; (t): Student's interval, since too few pairs"
)
_HEAD = ("", "pairs", "mean difference [95 %]", "d_z", "p")


def table(rows: Sequence[Row]) -> Table:
    """A line per network."""
    from rich.table import Table
    from rich.text import Text

    result = Table(title="Comparison", title_justify="left", caption=CAPTION, caption_justify="left")
    result.add_column("network", overflow="fold", min_width=12)
    for column in columns(rows):
        result.add_column(Text(title(column)), justify="right")
    for row in rows:
        result.add_row(Text(row.name), *(Text(_text(row, column)) for column in columns(rows)))
    return result


def paired_table(tests: Sequence[Comparison], first: str, second: str) -> Table:
    """A line per compared number."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{second} − {first}", style="table.title")  # not str: brackets are markup
    result = Table(title=title, title_justify="left", caption=TESTS_CAPTION, caption_justify="left")
    for name in _HEAD:
        result.add_column(Text(name), justify="left" if not name else "right")
    for one in tests:
        result.add_row(*map(Text, _test_cells(one)))
    return result


def to_csv(rows: Sequence[Row]) -> str:
    """A line per network; three columns per number: value, low, high. Empty where unknown, inf diverged."""
    out = io.StringIO()
    writer = SafeWriter(out)
    names = columns(rows)
    heads = [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
    writer.writerow(["network", "sha256", "files", *heads])
    for row in rows:
        cells = [row.cells.get(name, Cell(float("nan"))) for name in names]
        numbers = [part for cell in cells for part in (cell.value, cell.low, cell.high)]
        files = " ".join(row.files)
        writer.writerow([row.name, row.sha256, files, *("" if isnan(one) else one for one in numbers)])
    return out.getvalue()


def to_latex(rows: Sequence[Row], tests: Sequence[Comparison], words: tuple[str, ...]) -> str:
    r"""One tabular, and one more for the tests; needs ``\usepackage{booktabs}``."""
    names = columns(rows)
    lines = [[row.name, *(_text(row, name) for name in names)] for row in rows]
    text = _tabular(["", *map(title, names)], lines)
    if tests:
        head = [f"{words[1]} − {words[0]}", *_HEAD[1:]]
        text += "\n" + _tabular(head, [_test_cells(one) for one in tests])
    return text


def to_json(rows: Sequence[Row], tests: Sequence[Comparison], words: tuple[str, ...]) -> str:
    """Everything; null where a number is unknown, and ``"diverged": true`` beside null where infinite."""
    content = {
        "format": "sharpscape.comparison",
        "version": 1,
        "networks": [
            {**asdict(row), "cells": {name: _plain_cell(cell) for name, cell in row.cells.items()}}
            for row in rows
        ],
        "pair": list(words),
        "tests": [finite(asdict(one)) for one in tests],
    }
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def title(column: str) -> str:
    """For the head of a table."""
    name, _, split = column.partition(" ")
    return f"{TITLES.get(name, name)} {split}".strip() + (" [%]" if column in SHARES else "")


def _text(row: Row, column: str) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return "—"
    scale = 100.0 if column in SHARES else 1.0
    shown = interval(Estimate(scale * cell.value, scale * cell.low, scale * cell.high))
    return f"≥ {shown}" if cell.bound and isfinite(cell.value) else shown


def _test_cells(one: Comparison) -> list[str]:
    test, scale = one.test, 100.0 if one.column in SHARES else 1.0
    shown = interval(Estimate(scale * test.mean, scale * test.low, scale * test.high))
    note = " (t)" if test.interval == "t" else ""
    missing = f" ({one.left_out} left out)" if one.left_out else ""
    return [
        title(one.column),
        f"{test.n}{missing}",
        f"{shown}{note}",
        number(test.effect, 3),
        f"{test.p_value:.2g}",
    ]


def _tabular(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [" & ".join(map(escape, one)) + r" \\" for one in (head, *lines)]
    spec = "l" + "r" * (len(head) - 1)
    body = [rows[0], r"\midrule", *rows[1:]]
    return "\n".join(
        [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}", ""]
    )


def _plain_cell(cell: Cell) -> dict[str, Any]:
    plain: dict[str, Any] = finite(asdict(cell))
    return plain if isfinite(cell.value) or isnan(cell.value) else plain | {"diverged": True}
