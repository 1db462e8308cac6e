"""Pairs of rows whose names differ in one word, and what their differences say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from analysis.compare.rows import Row, columns
from analysis.statistics.paired import PairedTest, permutation_test
from landscape.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """One column compared between paired rows.

    Attributes
    ----------
    column
        Which number.
    first, second
        Its mean over the paired rows of each group.
    test
        Of second minus first.
    pairs
        Names of the rows that were compared.
    left_out
        Pairs in which the number is missing or not finite on a side.
    """

    column: str
    first: float
    second: float
    test: PairedTest
    pairs: tuple[tuple[str, str], ...]
    left_out: int


def find_pairs(rows: Sequence[Row], first: str, second: str) -> list[tuple[Row, Row]]:
    """Rows whose names are equal but for the word `first` in one and `second` in the other.

    A word ends where letters and digits do: ``sgd`` is one in ``snip-0.9-sgd-seed0``, but not in ``sgd2``.

    Raises
    ------
    UserError
        When no two rows are such a pair.
    """
    left, right = _by_rest(rows, first), _by_rest(rows, second)
    pairs = [(row, right[rest]) for rest, row in left.items() if rest in right]
    if first == second or not pairs:
        raise UserError(
            f"--pair {first} {second}: no two names differ only in that word; "
            f"the names are {', '.join(row.name for row in rows[:4])}{', …' if len(rows) > 4 else ''}"
        )
    return pairs


def compare_pairs(pairs: Sequence[tuple[Row, Row]], seed: int = 0) -> list[Comparison]:
    """A test of every column that is finite in both rows of a pair at least."""
    found = []
    for column in columns([row for pair in pairs for row in pair]):
        usable = [pair for pair in pairs if all(_finite(row, column) for row in pair)]
        if not usable:
            continue
        first, second = ([pair[side].cells[column].value for pair in usable] for side in (0, 1))
        differences = [after - before for before, after in zip(first, second, strict=True)]
        found.append(
            Comparison(
                column,
                sum(first) / len(usable),
                sum(second) / len(usable),
                permutation_test(differences, seed=seed),
                tuple((before.name, after.name) for before, after in usable),
                len(pairs) - len(usable),
            )
        )
    return found


def _finite(row: Row, column: str) -> bool:
    return column in row.cells and isfinite(row.cells[column].value)


def _by_rest(rows: Sequence[Row], word: str) -> dict[str, Row]:
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])")
    return {pattern.sub("\0", row.name): row for row in rows if pattern.search(row.name)}
