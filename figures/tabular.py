"""A table as data: what stands in its cells, where from, and what wasn't run. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

State = Literal["measured", "published", "not run", "none"]
LEGEND = "□: not run, so there is no number."


@dataclass(frozen=True)
class Entry:
    """One cell.

    Attributes
    ----------
    text, beside
        What is shown: the number, and its error or interval.
    value, error, low, high
        The same for a program, in plain units (accuracies are fractions); None where unknown.
    over
        What the error is over: "seeds", "test examples", "turns".
    n
        How many of these.
    state
        "measured" here, "published" elsewhere, "not run", or "none" where the table has no such cell.
    best
        Whether it is the best of those that it is compared with, alone or with others.
    alone
        Whether it can't be compared with those beside it.
    """

    text: str
    beside: str = ""
    value: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    over: str = ""
    n: int = 0
    state: State = "measured"
    best: bool = False
    alone: bool = False

    def __str__(self) -> str:
        """Both parts in one line."""
        return f"{self.text} {self.beside}".strip()


NOT_RUN = Entry("□", state="not run")
NOTHING = Entry("", state="none")


@dataclass(frozen=True)
class Column:
    """One column of numbers: the group that it stands in, and its head; `key` names it in CSV."""

    group: str
    head: str
    key: str


@dataclass(frozen=True)
class Line:
    """One line: its labels, and an entry for every column."""

    labels: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Grid:
    """A whole table.

    Attributes
    ----------
    title
        In words.
    heads
        Of the labels.
    columns, lines
        Its two sides.
    notes
        What must be known to read it, in sentences.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and a legend where a cell is empty."""
        empty = any(one.state == "not run" for line in self.lines for one in line.entries)
        return (*self.notes, *((LEGEND,) if empty else ()))


def percent(value: float, error: float | None = None, over: str = "", n: int = 1) -> Entry:
    """A fraction, shown in percent with its standard error."""
    known = error is not None and error > 0
    beside = f"± {100 * error:.2f}" if known and error is not None else ""
    return Entry(f"{100 * value:.2f}", beside, value, error if known else None, over=over, n=n)


def number(value: float | None, form: str = ".3g") -> Entry:
    """A bare number; not run where there is none."""
    return NOT_RUN if value is None else Entry(format(value, form), value=value, n=1)


def between(value: float, low: float, high: float, form: str, over: str, n: int) -> Entry:
    """A number with an interval."""
    known = not isnan(low) and not isnan(high)
    beside = f"[{low:{form}}, {high:{form}}]" if known else ""
    text = f"{value:{form}}"
    return Entry(
        text, beside, value, low=low if known else None, high=high if known else None, over=over, n=n
    )


def published(value: float) -> Entry:
    """A fraction that someone else wrote down, shown in percent."""
    return Entry(f"{100 * value:.4g}", value=value, state="published")


def with_best(entries: Sequence[Entry], columns: Sequence[Column], keys: Sequence[str]) -> tuple[Entry, ...]:
    """Mark the largest number of each group, among the columns of these keys, where two were measured.

    Numbers that look equal to it are marked, too.
    """
    chosen: set[int] = set()
    for group in dict.fromkeys(one.group for one in columns):
        places = [
            at
            for at, (column, one) in enumerate(zip(columns, entries, strict=True))
            if column.group == group and column.key in keys and one.value is not None
        ]
        if len(places) > 1 and not any(entries[at].alone for at in places):
            best = entries[max(places, key=lambda at: entries[at].value or 0.0)].text
            chosen |= {at for at in places if entries[at].text == best}
    return tuple(replace(one, best=at in chosen) for at, one in enumerate(entries))
