"""What is known about each network: a row of cells, put together from several files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isclose, isnan, nan, sqrt

FIRST_COLUMNS = ("accuracy", "corrupted", "sparsity", "ra", "ra_log", "lambda_max", "trace")
TITLES = {
    "accuracy": "accuracy",
    "corrupted": "accuracy, corrupted",
    "sparsity": "sparsity",
    "ra": "Ra",
    "ra_log": "Ra (log loss)",
    "lambda_max": "λmax",
    "trace": "trace",
}
PLAIN = ("final", "last", "best", "model", "checkpoint")  # names that say nothing: the folder's does
SHARES = ("accuracy", "corrupted", "sparsity")  # fractions, shown in percent


@dataclass(frozen=True)
class Cell:
    """A number with its 95 % interval (NaN where unknown); `bound` is true for lower bounds of a maximum."""

    value: float
    low: float = nan
    high: float = nan
    bound: bool = False


@dataclass
class Row:
    """One network.

    Attributes
    ----------
    name
        Shown, and what pairs are told by.
    files
        Where the numbers come from.
    sha256
        Of the checkpoint, where known.
    cells
        By column: those of `FIRST_COLUMNS` and the names of sharpness measures.
    made
        How the numbers were made, as short texts: what has to agree between rows that are compared.
    """

    name: str
    files: list[str]
    sha256: str = ""
    cells: dict[str, Cell] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)


def merge(rows: Iterable[Row]) -> list[Row]:
    """Rows of the same network become one: equal digests, or equal names where a digest isn't known.

    A name that says nothing, as "final", tells no networks apart and joins none.

    Where they contradict each other, as two surfaces on other planes do, both stay, told apart by their file.
    """
    found: list[Row] = []
    for row in rows:
        home = next((one for one in found if _same(one, row) and not _contradict(one, row)), None)
        if home is None:
            found.append(row)
            continue
        home.files += [one for one in row.files if one not in home.files]
        home.sha256 = home.sha256 or row.sha256
        home.cells |= row.cells
        home.made |= row.made
    names = [one.name for one in found]
    for row in found:
        if names.count(row.name) > 1:
            row.name = f"{row.name} ({row.files[0]})"
    return found


def columns(rows: Sequence[Row]) -> list[str]:
    """Every column that a row has, in the order of a table."""
    there = dict.fromkeys(key for row in rows for key in row.cells)
    return [one for one in FIRST_COLUMNS if one in there] + [one for one in there if one not in FIRST_COLUMNS]


def disagreements(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What wasn't made alike among the rows that say it: the distinct texts."""
    names = dict.fromkeys(key for row in rows for key in row.made)
    values = {key: list(dict.fromkeys(row.made[key] for row in rows if key in row.made)) for key in names}
    return {key: distinct for key, distinct in values.items() if len(distinct) > 1}


def share(value: float, count: int | None) -> Cell:
    """A fraction of `count` examples with its 95 % interval.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    >>> cell = share(0.5, 100)
    >>> round(cell.low, 3), round(cell.high, 3)
    (0.404, 0.596)
    """
    if not count or not 0 <= value <= 1:
        return Cell(value)
    z2 = 1.959964**2 / count
    middle = (value + z2 / 2) / (1 + z2)
    half = sqrt(z2 * (value * (1 - value) + z2 / 4)) / (1 + z2)
    return Cell(value, max(middle - half, 0.0), min(middle + half, 1.0))


def _same(one: Row, other: Row) -> bool:
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    return one.name == other.name and (one.name not in PLAIN or one.files == other.files)


def _contradict(one: Row, other: Row) -> bool:
    shared = one.cells.keys() & other.cells.keys()
    values = [(one.cells[key].value, other.cells[key].value) for key in shared]
    return any(not isclose(a, b, rel_tol=1e-9) and not (isnan(a) and isnan(b)) for a, b in values)
