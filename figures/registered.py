"""The three claims of the paper, tested as docs/preregistration.md laid down: the unit is the training seed.

F1: roughness grows with sparsity. F3: S2-SAM lowers it. T1: S2-SAM raises test accuracy (Ji et al. 2024,
Figures 1 and 3, Table 1). Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, isfinite, isnan, log, nan

import numpy as np

from analysis.roughness import roughness_by_plane
from analysis.statistics.directed import Directed, directed_test, holm
from figures import figure1, figure3
from figures.results import Results, Run
from landscape.errors import UserError

LEVEL = 0.05
FEWEST = 6  # seeds that can pass Holm's first step over three claims
SPAN = 0.25


@dataclass(frozen=True)
class Registered:
    """One claim and what the seeds say.

    Attributes
    ----------
    key, statement
        "F1", "F3" or "T1", and the claim in words.
    per_seed
        The registered number by training seed; complete seeds only.
    unit
        How the number reads: "factor" (its exponential) or "points" (of accuracy).
    matters
        The smallest effect in the claimed direction that would matter, in the number's own units.
    sign
        The claimed one.
    test
        None without a complete seed.
    p_corrected, p_opposite_corrected
        Holm over the three claims; NaN below six seeds, where nothing is tested.
    """

    key: str
    statement: str
    per_seed: dict[int, float]
    unit: str
    matters: float
    sign: int
    test: Directed | None
    p_corrected: float = nan
    p_opposite_corrected: float = nan

    @property
    def verdict(self) -> str:
        """As the plan defines the words."""
        if self.test is None or self.test.n < FEWEST:
            return "not yet tested"
        if self.p_corrected < LEVEL:
            return "found"
        if self.p_opposite_corrected < LEVEL:
            return "the opposite"
        best = max(self.sign * self.test.low, self.sign * self.test.high)
        return "not found" if best < self.sign * self.matters else "can't be told"

    def shown(self, value: float) -> str:
        """A number of this claim for people."""
        if self.unit == "factor":
            return f"× {exp(value):.3f}"
        return f"{value:+.2f} points".replace("-", "−")


def registered(results: Results) -> list[Registered]:
    """All three, corrected for each other."""
    found = [
        _claim(results, "F1", "Ra grows with sparsity (SGD)", _slope, "factor", log(1.1), +1),
        _claim(results, "F3", "S2-SAM lowers Ra", _change_of_ra, "factor", log(0.95), -1),
        _claim(results, "T1", "S2-SAM raises test accuracy", _change_of_accuracy, "points", 0.2, +1),
    ]
    tests = [one.test for one in found]
    if any(one is None or one.n < FEWEST for one in tests):
        return found
    known = [one for one in tests if one is not None]
    claimed, opposite = holm([one.p_value for one in known]), holm([one.p_opposite for one in known])
    return [
        Registered(**{**vars(one), "p_corrected": p, "p_opposite_corrected": q})
        for one, p, q in zip(found, claimed, opposite, strict=True)
    ]


def primary(run: Run, split: str | None = None) -> list[float]:
    """The primary measure by plane: log Ra of log loss over the square of half-width 0.25.

    Raises
    ------
    UserError
        When the surface doesn't reach so far, or a loss isn't positive.
    """
    values = roughness_by_plane(run.surface, split=split, log=True, span=SPAN)
    return [log(one) if one > 0 else nan for one in values]


def _claim(
    results: Results,
    key: str,
    statement: str,
    number: Callable[[Results, int], float],
    unit: str,
    matters: float,
    sign: int,
) -> Registered:
    values = {seed: number(results, seed) for seed in results.seeds}
    complete = {seed: value for seed, value in values.items() if isfinite(value)}
    test = directed_test(list(complete.values()), sign) if complete else None
    return Registered(key, statement, complete, unit, matters, sign, test)


def _slope(results: Results, seed: int) -> float:
    return growth(partial(_mean_primary, results, seed=seed))


def _change_of_ra(results: Results, seed: int) -> float:
    return mean_over_pairs(partial(_mean_primary, results, seed=seed))


def _change_of_accuracy(results: Results, seed: int) -> float:
    """In percentage points."""
    known = {}
    for row in results.rows:
        if row.get("method") and row.get("test_accuracy") and int(row["seed"]) == seed:
            cell = (row["method"], float(row["sparsity_asked"] or 0), row["optimizer"])
            known[cell] = 100 * float(row["test_accuracy"])

    def value(method: str, sparsity: float, optimizer: str) -> float:
        return known.get((method, sparsity, optimizer), nan)

    return mean_over_pairs(value)


Value = Callable[[str, float, str], float]  # of method, sparsity, optimizer, for one seed; NaN where unknown


def growth(value: Value) -> float:
    """Figure 1's number: three times the mean least-squares slope over its four sparsities, SGD.

    For a logarithm this is that of the factor from the lowest sparsity to the highest.
    """
    steps = len(figure1.SPARSITIES) - 1
    rows = [[value(method, sparsity, "sgd") for sparsity in figure1.SPARSITIES] for method in figure1.METHODS]
    level = np.arange(steps + 1) - steps / 2
    return float((np.array(rows) @ level / (level @ level)).mean()) * steps


def mean_over_pairs(value: Value) -> float:
    """Figure 3's number: mean over its cells of the second optimizer's value minus the first's."""
    first, second = figure3.PAIR
    changes = [
        value(method, sparsity, second) - value(method, sparsity, first)
        for method in figure3.METHODS
        for sparsity in figure3.SPARSITIES
    ]
    return float(np.mean(changes))


def _mean_primary(results: Results, method: str, sparsity: float, optimizer: str, seed: int) -> float:
    """A network's value; NaN where it has no surface or can't be measured."""
    runs = [run for run in results.cell(method, sparsity, optimizer).runs if run.seed == seed]
    try:
        return float(np.mean(primary(runs[0]))) if runs else nan
    except UserError:
        return nan


def table(found: Sequence[Registered]) -> str:
    """Markdown: a row per claim."""
    lines = [
        "| | claim | verdict | effect [95 %] | seeds | p, Holm | would matter from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        p = "–" if isnan(one.p_corrected) else f"{one.p_corrected:.2g}"
        effect = "–"
        if one.test is not None:
            effect = one.shown(one.test.mean)
            if isfinite(one.test.low):
                effect += f" [{one.shown(one.test.low)}, {one.shown(one.test.high)}]"
        lines.append(
            f"| {one.key} | {one.statement} | **{one.verdict}** | {effect} | {len(one.per_seed)} | {p} | "
            f"{one.shown(one.matters)} |"
        )
    return "\n".join(lines)


def in_words(found: Sequence[Registered]) -> str:
    """What the report opens with: found, not found, can't be told, and why."""
    return "\n".join(f"- **{one.statement}: {one.verdict}.** {_why(one)}" for one in found)


def _why(one: Registered) -> str:
    if one.test is None:
        return "No training seed has all networks that the claim needs."
    seeds = f"{one.test.n} training seed{'s' * (one.test.n != 1)}"
    effect = f"Over {seeds} the effect is {one.shown(one.test.mean)}"
    if isfinite(one.test.low):
        effect += f", 95 % interval {one.shown(one.test.low)} to {one.shown(one.test.high)}"
    if one.verdict == "not yet tested":
        return f"{effect}. Fewer than {FEWEST} seeds can't be tested with three claims at 5 %."
    if one.verdict == "can't be told":
        more = (
            f"; at this spread about {one.test.units_needed:.0f} seeds would show it"
            if isfinite(one.test.units_needed)
            else ""
        )
        return f"{effect} (p = {one.p_corrected:.2g}), which includes effects that would matter{more}."
    if one.verdict == "not found":
        return f"{effect}, which leaves out every effect from {one.shown(one.matters)} on."
    p = one.p_corrected if one.verdict == "found" else one.p_opposite_corrected
    return f"{effect} (p = {p:.2g}, corrected for three claims)."
