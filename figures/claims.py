"""What the paper claims of roughness and accuracy, tested on the runs that are there. Needs no torch.

The claims are those of Ji et al., "A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve
Efficient and Accurate Sparse Training" (2024), Figures 1 and 3 and Table 1. Ratios are tested as differences
of logarithms: Ra differs between methods by factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log

import numpy as np

from analysis.roughness.conventions import differences
from analysis.statistics.paired import permutation_test
from figures.caption import made
from figures.measures import NAMES, Measured, unlike
from figures.results import Cell, Results, accuracy_in, other_length

LEVEL = 0.05
Key = tuple[str, float, int]  # method, sparsity, training seed


@dataclass(frozen=True)
class Claim:
    """One statement and what the runs say about it.

    Attributes
    ----------
    statement, source
        What is claimed, and where; "ours" for a question that the paper doesn't raise.
    n, of
        Number of pairs or rows, and what they are.
    effect
        In words with an interval; empty without data.
    p_value
        Two-sided; NaN without data.
    towards
        Whether the effect has the claimed sign.
    left_out
        Pairs that couldn't be used, and why.
    """

    statement: str
    source: str
    n: int
    of: str
    effect: str
    p_value: float
    towards: bool
    left_out: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Found, the opposite found, or neither, at p < 0.05."""
        if self.n == 0:
            return "no data"
        if self.p_value >= LEVEL:
            return "not found"
        return "found" if self.towards else "the opposite was found"


def claims(results: Results) -> list[Claim]:
    """All of them, in the order of the paper's figures."""
    return [
        sparsity_claim(results, "sgd", "Ra grows with sparsity (SGD)", "Figure 1"),
        sparsity_claim(results, "s2sam", "Ra grows with sparsity (S2-SAM)", "ours"),
        pair_claim("S2-SAM lowers Ra", "Figure 3", *ra_pairs(results, "s2sam"), sign=-1, ratio=True),
        pair_claim("SAM lowers Ra", "ours", *ra_pairs(results, "sam"), sign=-1, ratio=True),
        pair_claim(
            "S2-SAM raises test accuracy", "Table 1", *accuracy_pairs(results, "s2sam"), sign=1, ratio=False
        ),
        pair_claim("SAM raises test accuracy", "ours", *accuracy_pairs(results, "sam"), sign=1, ratio=False),
        pair_claim(
            "S2-SAM lowers the largest Hessian eigenvalue",
            "ours",
            *measure_pairs(results, "s2sam", "lambda_max"),
            sign=-1,
            ratio=True,
        ),
        pair_claim(
            "S2-SAM lowers SAM sharpness",
            "ours",
            *measure_pairs(results, "s2sam", "sam"),
            sign=-1,
            ratio=True,
        ),
    ]


def sparsity_claim(results: Results, optimizer: str, statement: str, source: str) -> Claim:
    """A row per method and seed with Ra at two sparsities or more, lowest first."""
    values: dict[tuple[str, int], dict[float, float]] = {}
    rows: dict[tuple[str, int], Mapping[str, str]] = {}
    left_out = []
    for cell in results.cells:
        for run in cell.runs if cell.optimizer == optimizer else ():
            unlike = other_length(rows.setdefault((cell.method, run.seed), run.row), run.row)
            if unlike:
                left_out.append(f"{run.name}: trained for other lengths, {unlike}")
            elif isfinite(run.ra.ra.value):
                values.setdefault((cell.method, run.seed), {})[cell.sparsity] = log(run.ra.ra.value)
            else:
                left_out.append(f"{run.name}: Ra isn't finite")
    rises = [_rise([one[key] for key in sorted(one)]) for one in values.values() if len(one) > 1]
    if not rises:
        return Claim(statement, source, 0, "methods", "", float("nan"), False, tuple(left_out))
    found = permutation_test(rises)
    effect = (
        f"from the lowest to the highest sparsity Ra × {_interval(found.mean, found.low, found.high, exp)}"
    )
    return Claim(
        statement,
        source,
        found.n,
        "methods × seeds",
        effect,
        found.p_value,
        found.mean > 0,
        tuple(left_out),
    )


def _rise(values: Sequence[float]) -> float:
    """From the first level to the last along the least-squares line."""
    steps = len(values) - 1
    level = np.arange(steps + 1) - steps / 2
    return float(np.asarray(values) @ level / (level @ level)) * steps


def pair_claim(
    statement: str,
    source: str,
    pairs: Mapping[Key, tuple[float, float]],
    left_out: list[str],
    *,
    sign: int,
    ratio: bool,
) -> Claim:
    """A paired test of second minus first, or of the logarithm of their ratio; `sign` is the claimed one."""
    if not pairs:
        return Claim(statement, source, 0, "pairs", "", float("nan"), False, tuple(left_out))
    values = [log(after / before) if ratio else after - before for before, after in pairs.values()]
    found = permutation_test(values)
    shown = _interval(found.mean, found.low, found.high, _percent if ratio else _points)
    unit = "%" if ratio else "percentage points"
    effect = f"{shown} {unit}" + (
        f", d_z {found.effect:+.2f}".replace("-", "−") if isfinite(found.effect) else ""
    )
    return Claim(
        statement,
        source,
        found.n,
        "pairs (method, sparsity, seed)",
        effect,
        found.p_value,
        found.mean * sign > 0,
        tuple(left_out),
    )


Pairs = tuple[dict[Key, tuple[float, float]], list[str]]


def ra_pairs(results: Results, optimizer: str) -> Pairs:
    """Ra with SGD and with `optimizer`, of surfaces that were made alike."""

    def values(cell: Cell) -> dict[int, float]:
        return {run.seed: run.ra.ra.value for run in cell.runs}

    def differ(before: Cell, after: Cell, seed: int) -> list[str]:
        ways = made([run for run in (*before.runs, *after.runs) if run.seed == seed])
        return [f"surfaces of {name} {'; '.join(texts)}" for name, texts in differences(ways).items()]

    return _pairs(results, optimizer, values, differ)


def measure_pairs(results: Results, optimizer: str, key: str) -> Pairs:
    """A measure of sharpness (`figures.measures`) with SGD and with `optimizer`."""

    def found(cell: Cell) -> dict[int, Measured]:
        values = {run.seed: results.measures(run.name).get(key) for run in cell.runs}
        return {seed: one for seed, one in values.items() if one is not None}

    def values(cell: Cell) -> dict[int, float]:
        return {seed: one.value for seed, one in found(cell).items()}

    def differ(before: Cell, after: Cell, seed: int) -> list[str]:
        return [f"{NAMES[key]} of {text}" for text in unlike([found(before)[seed], found(after)[seed]])]

    return _pairs(results, optimizer, values, differ)


def accuracy_pairs(results: Results, optimizer: str) -> Pairs:
    """Test accuracy with SGD and with `optimizer`, trained for as long; needs no surface."""
    found: dict[str, dict[Key, Mapping[str, str]]] = {"sgd": {}, optimizer: {}}
    pairs, left_out = {}, []
    for name, row in results.rows.items():
        if name.optimizer not in found or not row.get("test_accuracy"):
            continue
        if accuracy_in(row) is None:
            left_out.append(f"{row['run']}: training {row['state']}")
        else:
            found[name.optimizer][name.method, name.sparsity, name.seed] = row
    for key in sorted(found["sgd"].keys() & found[optimizer].keys()):
        before, after = found["sgd"][key], found[optimizer][key]
        unlike = other_length(before, after)
        if unlike:
            left_out.append(f"{key[0]} {key[1]:g} seed {key[2]}: trained for {unlike}")
        else:
            pairs[key] = float(before["test_accuracy"]), float(after["test_accuracy"])
    return pairs, left_out


def _pairs(
    results: Results,
    optimizer: str,
    values: Callable[[Cell], dict[int, float]],
    differ: Callable[[Cell, Cell, int], list[str]] = lambda before, after, seed: [],
) -> Pairs:
    """`differ`: in what a pair wasn't measured alike, so that it can't be compared."""
    pairs: dict[Key, tuple[float, float]] = {}
    left_out = []
    for cell in results.cells:
        if cell.optimizer != "sgd":
            continue
        other = results.cell(cell.method, cell.sparsity, optimizer)
        before, after = values(cell), values(other)
        for seed in sorted(before.keys() & after.keys()):
            pair = before[seed], after[seed]
            where = f"{cell.method} {cell.sparsity:g} seed {seed}"
            unlike = other_length(*(_row(results, one, seed) for one in (cell, other)))
            wrong = [f"trained for {unlike}"] if unlike else differ(cell, other, seed)
            if wrong:
                left_out.append(f"{where}: not made alike: {', '.join(wrong)}")
            elif all(isfinite(one) and one > 0 for one in pair):
                pairs[cell.method, cell.sparsity, seed] = pair
            else:
                left_out.append(f"{where}: {pair[0]:g} and {pair[1]:g}")
    return pairs, left_out


def _row(results: Results, cell: Cell, seed: int) -> Mapping[str, str]:
    return next(run.row for run in cell.runs if run.seed == seed)


def _percent(value: float) -> float:
    return 100 * (exp(value) - 1)


def _points(value: float) -> float:
    return 100 * value


def _interval(value: float, low: float, high: float, convert: Callable[[float], float]) -> str:
    sign = "" if convert is exp else "+"
    shown = f"{convert(value):{sign}.2f}"
    if isfinite(low) and isfinite(high):
        shown += f" [{convert(low):{sign}.2f}, {convert(high):{sign}.2f}]"
    return shown.replace("-", "−")
