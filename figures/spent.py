"""What runs spent and how sparse they are by both countings, from rows of ``results.csv``. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, str]

HEADS = ("pruned, masked layers (%)", "pruned, all (%)", "epochs", "examples")
"""Pruned share of the masked layers' weights, as a method's authors count, and of all parameters; epochs and
training images over all rounds of a run."""


@dataclass(frozen=True)
class Spent:
    """Of some runs, smallest and largest; None where the table doesn't say.

    Attributes
    ----------
    masked, overall
        Pruned share of the masked layers' weights, and of all parameters.
    epochs, examples
        Of one run, over all its rounds.
    """

    masked: tuple[float, float] | None
    overall: tuple[float, float] | None
    epochs: tuple[float, float] | None
    examples: tuple[float, float] | None

    def cells(self) -> list[str]:
        """As `HEADS` says."""
        shares = [_text(_percent(self.masked), ".2f"), _text(_percent(self.overall), ".2f")]
        return [*shares, _text(self.epochs, ",g"), _text(self.examples, ",.0f")]


def spent(rows: Iterable[Row]) -> Spent:
    """Of these runs together."""
    found = list(rows)
    return Spent(
        _range(found, "sparsity"),
        _range(found, "sparsity_overall"),
        _range(found, "epochs_trained"),
        _range(found, "examples_trained"),
    )


def together(parts: Sequence[Spent]) -> Spent:
    """Of several groups of runs."""

    def joined(ranges: list[tuple[float, float] | None]) -> tuple[float, float] | None:
        known = [one for one in ranges if one is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    return Spent(
        joined([one.masked for one in parts]),
        joined([one.overall for one in parts]),
        joined([one.epochs for one in parts]),
        joined([one.examples for one in parts]),
    )


def _range(rows: Sequence[Row], key: str) -> tuple[float, float] | None:
    values = [float(row[key]) for row in rows if row.get(key)]
    return (min(values), max(values)) if values else None


def _percent(share: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if share is None else (100 * share[0], 100 * share[1])


def _text(found: tuple[float, float] | None, form: str) -> str:
    """One number, or two where they differ as shown.

    >>> _text((2, 2), ",g"), _text((4, 5), ",g"), _text(None, ",g")
    ('2', '4–5', '–')
    """
    if found is None:
        return "–"
    low, high = (format(value, form) for value in found)
    return low if low == high else f"{low}–{high}"
