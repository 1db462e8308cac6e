"""Finished runs of all networks of a folder, grouped as tables show them. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt
from statistics import mean, stdev

from figures.networks import run_parts
from figures.results import Results, accuracy_in, other_length
from figures.style import METHOD_NAMES
from figures.tabular import NOT_RUN, Entry, percent
from landscape.errors import UserError
from landscape.intervals import listed

Row = Mapping[str, str]
ORDER = ("dense", *(name for name in METHOD_NAMES if name != "dense"))
OPTIMIZERS = ("sgd", "s2sam", "sam")
PAIR = ("sgd", "s2sam")
_TOLD = 4  # kinds of runs that a note names


@dataclass(frozen=True, order=True)
class Key:
    """One kind of run: all its training seeds; the sparsity of dense ones is 0."""

    network: str
    method: str
    sparsity: float
    optimizer: str


@dataclass(frozen=True)
class Finished:
    """Rows of ``results.csv``.

    Attributes
    ----------
    rows
        Of finished runs with a test accuracy, by kind.
    unfinished
        Names of the others.
    """

    rows: Mapping[Key, Sequence[Row]]
    unfinished: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a table says under itself of kinds of runs whose optimizers can't be compared."""
        other_length, other_seeds = [], []
        for kind in dict.fromkeys(replace(key, optimizer="") for key in self.rows):
            rows = {key.optimizer: self.rows[key] for key in self._beside(kind)}
            if not self.comparable(*(found[0] for found in rows.values())):
                other_length.append(_told(kind, rows, _length))
            if len({_seeds(found) for found in rows.values()}) > 1:
                other_seeds.append(_told(kind, rows, _seeds))
        said = {"Not trained for as long": other_length, "Not of the same training seeds": other_seeds}
        return tuple(
            f"{what}, so not comparable: {'; '.join(found[:_TOLD])}{_more(found)}."
            for what, found in said.items()
            if found
        )

    def _beside(self, key: Key) -> list[Key]:
        """Kinds of runs that stand beside one another: all optimizers."""
        return [one for one in self.rows if replace(one, optimizer=key.optimizer) == key]

    @staticmethod
    def comparable(*rows: Row) -> bool:
        """Whether these were trained for as long."""
        return not any(other_length(*pair) for pair in combinations(rows, 2))

    @property
    def networks(self) -> list[str]:
        """Sorted."""
        return sorted({key.network for key in self.rows})

    def methods(self, network: str, sparsities: Iterable[float] | None = None) -> list[str]:
        """Those run with that network, in the paper's order, unknown ones last; None: at any sparsity."""
        levels = None if sparsities is None else set(sparsities)
        found = {
            key.method
            for key in self.rows
            if key.network == network and (levels is None or key.sparsity in levels)
        }
        return in_order(found)

    def of(self, network: str, method: str, sparsity: float, optimizer: str) -> Sequence[Row]:
        """Rows of one kind; empty where there is none."""
        return self.rows.get(Key(network, method, sparsity, optimizer), ())

    def accuracy(self, network: str, method: str, sparsity: float, optimizer: str) -> Entry:
        """Mean test accuracy over the seeds."""
        beside = [self.rows[key] for key in self._beside(Key(network, method, sparsity, optimizer))]
        same_seeds = len({_seeds(rows) for rows in beside}) <= 1
        alone = not (same_seeds and self.comparable(*(rows[0] for rows in beside)))
        return replace(accuracy(self.of(network, method, sparsity, optimizer)), alone=alone)

    def gain(self, network: str, method: str, sparsity: float, optimizer: str) -> Entry:
        """Test accuracy minus that of SGD with the same seeds, trained for as long."""
        first = {row["seed"]: row for row in self.of(network, method, sparsity, "sgd")}
        second = {row["seed"]: row for row in self.of(network, method, sparsity, optimizer)}
        shared = sorted(
            seed for seed in first.keys() & second.keys() if self.comparable(first[seed], second[seed])
        )
        if not shared:
            return NOT_RUN
        pairs = [(first[seed], second[seed]) for seed in shared]
        values = [float(after["test_accuracy"]) - float(before["test_accuracy"]) for before, after in pairs]
        one, two = pairs[0]
        error = sqrt(sum(float(row.get("test_accuracy_error") or 0.0) ** 2 for row in (one, two)))
        return _over(values, error)


def _told(kind: Key, rows: Mapping[str, Sequence[Row]], say: Callable[[Sequence[Row]], str]) -> str:
    """A kind of run, and what is said of each optimizer's."""
    told = ", ".join(f"{name} {say(found)}" for name, found in sorted(rows.items()))
    return f"{kind.network} {kind.method}{f' {kind.sparsity:g}' if kind.sparsity else ''}: {told}"


def _length(rows: Sequence[Row]) -> str:
    return f"{rows[0].get('epochs')} epochs, {rows[0].get('examples_trained') or '?'} examples"


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted(int(row["seed"]) for row in rows)
    return f"seed{'s' * (len(seeds) > 1)} {listed(seeds)}"


def _more(found: Sequence[str]) -> str:
    return f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""


def finished(results: Results) -> Finished:
    """Of ``runs/results.csv``; empty without one. UserError where two rows are of one run."""
    found: dict[Key, list[Row]] = {}
    unfinished = []
    for row in results.every_row:
        if accuracy_in(row) is None:
            unfinished.append(row["run"])
            continue
        parts = run_parts(row["run"])
        if parts is None:  # of a method that knows no sparsity: no table has a place for it
            continue
        network, method, sparsity, optimizer, seed = parts
        key = Key(network, method, float(sparsity or 0.0), optimizer)
        rows = found.setdefault(key, [])
        twice = next((one["run"] for one in rows if one["seed"] == str(seed)), None)
        if twice:
            raise UserError(
                f"{twice} and {row['run']} name the same run, which would count twice; remove one"
            )
        rows.append({**row, "seed": str(seed)})
    return Finished(found, tuple(unfinished))


def in_order(methods: Iterable[str]) -> list[str]:
    """In the paper's order, unknown ones last."""
    left = set(methods)
    return [name for name in ORDER if name in left] + sorted(left - set(ORDER))


def accuracy(rows: Sequence[Row]) -> Entry:
    """Mean test accuracy; the standard error over the seeds, or of one seed over the test examples."""
    if not rows:
        return NOT_RUN
    error = mean(float(row.get("test_accuracy_error") or 0.0) for row in rows)
    return _over([float(row["test_accuracy"]) for row in rows], error)


def _over(values: Sequence[float], examples_error: float) -> Entry:
    """A mean with its standard error."""
    count = len(values)
    if count > 1:
        return percent(mean(values), stdev(values) / sqrt(count), "seeds", count)
    return percent(values[0], examples_error, "test examples", count)


def mean_of(rows: Iterable[Row], key: str) -> float | None:
    """Mean of a column over the rows that have it."""
    values = [float(row[key]) for row in rows if row.get(key)]
    return mean(values) if values else None


def with_paper(paper: Sequence[str], found: Iterable[str]) -> list[str]:
    """The paper's networks first, then the others."""
    return [*paper, *sorted(set(found) - set(paper))]
