"""The three claims of the paper, tested as docs/preregistration.md laid down: the unit is the training seed.

F1: roughness grows with sparsity. F3: S2-SAM lowers it. T1: S2-SAM raises test accuracy (Ji et al. 2024,
Figures 1 and 3, Table 1). Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite, isnan, log, nan

import numpy as np
import numpy.typing as npt

from analysis.statistics.directed import Directed, directed_test, holm
from figures import figure1, figure3
from figures.counted import SPAN, Counted, Key, accuracies, begun, primary, roughnesses
from figures.results import Results
from landscape.escaping import markdown
from landscape.intervals import listed

__all__ = ["SPAN", "Registered", "growth", "in_words", "mean_over_pairs", "primary", "registered", "table"]

LEVEL = 0.05
FEWEST = 6  # seeds that can pass Holm's first step over three claims
NAMED = 3  # networks that a sentence names, before it counts the others
GROWTH = [(method, sparsity, "sgd") for method in figure1.METHODS for sparsity in figure1.SPARSITIES]
PAIRS = [
    (method, sparsity, optimizer)
    for method in figure3.METHODS
    for sparsity in figure3.SPARSITIES
    for optimizer in figure3.PAIR
]


@dataclass(frozen=True)
class Registered:
    """One claim and what the seeds say.

    Attributes
    ----------
    key, statement
        "F1", "F3" or "T1", and the claim in words.
    per_seed
        The registered number by training seed; complete seeds only. Not finite where a network diverged.
    unit
        How the number reads: "factor" (its exponential) or "points" (of accuracy).
    matters
        The smallest effect in the claimed direction that would matter, in the number's own units.
    sign
        The claimed one.
    test
        None without a complete seed, and where a number isn't finite.
    p_corrected, p_opposite_corrected
        Holm over the three claims; NaN where nothing is tested yet: below six seeds, and while a seed of any
        claim lacks networks. 1 where a number isn't finite.
    absent
        By seed that was begun: networks that the claim lacks there.
    apart
        Networks that diverged or hardly learned; they are in `per_seed`.
    without, p_without
        The same test with their pairs left out, and its p in the claimed direction; None without any.
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
    absent: Mapping[int, tuple[Counted, ...]] = field(default_factory=dict)
    apart: tuple[Counted, ...] = ()
    without: Directed | None = None
    p_without: float = nan

    @property
    def verdict(self) -> str:
        """As the plan defines the words."""
        if isnan(self.p_corrected):
            return "not yet tested"
        if self.p_corrected < LEVEL:
            return "found"
        if self.p_opposite_corrected < LEVEL:
            return "the opposite"
        if self.test is None:
            return "can't be told"
        best = max(self.sign * self.test.low, self.sign * self.test.high)
        return "not found" if best < self.sign * self.matters else "can't be told"

    def shown(self, value: float) -> str:
        """A number of this claim for people."""
        if self.unit == "factor":
            return f"× {exp(value):.3f}"
        return f"{value:+.2f} points".replace("-", "−")


def registered(results: Results) -> list[Registered]:
    """All three, corrected for each other, once every seed that was begun has all networks of all claims."""
    found = [
        _claim(results, "F1", "Ra grows with sparsity (SGD)", GROWTH, roughnesses, growth,
               "factor", log(1.1), +1),
        _claim(results, "F3", "S2-SAM lowers Ra", PAIRS, roughnesses, mean_over_pairs,
               "factor", log(0.95), -1),
        _claim(results, "T1", "S2-SAM raises test accuracy", PAIRS, accuracies, mean_over_pairs,
               "points", 0.2, +1),
    ]  # fmt: skip
    if any(one.absent or len(one.per_seed) < FEWEST for one in found):
        return found
    claimed = _corrected([one.test for one in found])
    opposite = _corrected([one.test for one in found], opposite=True)
    without = _corrected([one.without if one.apart else one.test for one in found])
    return [
        replace(one, p_corrected=p, p_opposite_corrected=q, p_without=r if one.without else nan)
        for one, p, q, r in zip(found, claimed, opposite, without, strict=True)
    ]


def _corrected(tests: Sequence[Directed | None], *, opposite: bool = False) -> list[float]:
    """Holm; what can't be tested for a number that isn't finite stays among the claims, with p = 1."""
    return holm([1.0 if one is None else one.p_opposite if opposite else one.p_value for one in tests])


Value = Callable[[str, float, str], float]  # of method, sparsity, optimizer, for one seed; NaN where unknown
Number = Callable[[Value, Collection[Key]], float]  # of a seed, the second: networks that are left out


def _claim(
    results: Results,
    key: str,
    statement: str,
    networks: Sequence[Key],
    measure: Callable[[Results, Collection[Key], int], dict[Key, Counted]],
    number: Number,
    unit: str,
    matters: float,
    sign: int,
) -> Registered:
    absent: dict[int, tuple[Counted, ...]] = {}
    numbers: dict[int, float] = {}
    without: dict[int, float] = {}
    apart: list[Counted] = []
    for seed in begun(results, [*GROWTH, *PAIRS]):
        found = measure(results, networks, seed)
        lacking = tuple(one for one in found.values() if one.absent)
        if lacking:
            absent[seed] = lacking
            continue
        out = {network for network, one in found.items() if one.apart}
        numbers[seed] = number(_lookup(found), ())
        without[seed] = number(_lookup(found), out)
        apart += [found[network] for network in networks if network in out]
    return Registered(
        key, statement, numbers, unit, matters, sign, _test(numbers, sign),
        absent=absent, apart=tuple(apart), without=_test(without, sign, rest=True) if apart else None,
    )  # fmt: skip


def _lookup(found: Mapping[Key, Counted]) -> Value:
    return lambda method, sparsity, optimizer: found[method, sparsity, optimizer].value


def _test(numbers: Mapping[int, float], sign: int, *, rest: bool = False) -> Directed | None:
    """None without numbers, and where one isn't finite; `rest`: such seeds have no pair left, and go."""
    values = [one for one in numbers.values() if isfinite(one) or not rest]
    return directed_test(values, sign) if values and all(map(isfinite, values)) else None


def growth(value: Value, without: Collection[Key] = ()) -> float:
    """Figure 1's number: three times the mean least-squares slope over its four sparsities, SGD.

    For a logarithm this is that of the factor from the lowest sparsity to the highest. Networks in `without`
    are left out of their lines; NaN where no line has two left.
    """
    steps = len(figure1.SPARSITIES) - 1
    names = [[(method, sparsity, "sgd") for sparsity in figure1.SPARSITIES] for method in figure1.METHODS]
    rows = np.array([[value(*one) for one in row] for row in names])
    kept = np.array([[one not in without for one in row] for row in names])
    level = np.arange(steps + 1) - steps / 2
    if kept.all():
        return float((rows @ level / (level @ level)).mean()) * steps
    slopes = [_slope(row[here], level[here]) for row, here in zip(rows, kept, strict=True) if here.sum() > 1]
    return float(np.mean(slopes)) * steps if slopes else nan


def _slope(values: npt.NDArray[np.float64], level: npt.NDArray[np.float64]) -> float:
    along = level - level.mean()
    return float(values @ along / (along @ along))


def mean_over_pairs(value: Value, without: Collection[Key] = ()) -> float:
    """Figure 3's number: mean over its cells of the second optimizer's value minus the first's.

    Pairs of networks in `without` are left out; NaN where none is left.
    """
    first, second = figure3.PAIR
    changes = [
        value(method, sparsity, second) - value(method, sparsity, first)
        for method in figure3.METHODS
        for sparsity in figure3.SPARSITIES
        if not {(method, sparsity, first), (method, sparsity, second)} & set(without)
    ]
    return float(np.mean(changes)) if changes else nan


def table(found: Sequence[Registered]) -> str:
    """Markdown: a row per claim, and one without the pairs of networks that diverged or hardly learned."""
    lines = [
        "| | claim | verdict | effect [95 %] | seeds | p, Holm | would matter from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        effect = "not finite" if one.per_seed and one.test is None else _effect(one, one.test)
        lines.append(
            f"| {one.key} | {one.statement} | **{one.verdict}** | {effect} | {len(one.per_seed)} | "
            f"{_p(one.p_corrected)} | {one.shown(one.matters)} |"
        )
        if one.apart:
            seeds, effect = one.without.n if one.without else 0, _effect(one, one.without)
            lines.append(f"| | the same {_left(one)} | | {effect} | {seeds} | {_p(one.p_without)} | |")
    return "\n".join(lines)


def _p(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2g}"


def _effect(one: Registered, test: Directed | None) -> str:
    """As a cell of the table."""
    if test is None:
        return "–"
    interval = f" [{one.shown(test.low)}, {one.shown(test.high)}]" if isfinite(test.low) else ""
    return f"{one.shown(test.mean)}{interval}"


def in_words(found: Sequence[Registered]) -> str:
    """What the report opens with: found, not found, can't be told, and why."""
    return "\n".join(f"- **{one.statement}: {one.verdict}.** {_why(one)}{_apart(one)}" for one in found)


def _why(one: Registered) -> str:
    if not one.per_seed:
        return f"No training seed has all networks that the claim needs.{_absent(one)}"
    if one.test is None:
        effect = f"Over {_seeds(len(one.per_seed))} the effect isn't finite"
    else:
        effect = _over(one, one.test)
    if one.verdict == "not yet tested":
        return f"{effect}.{_untested(one)}"
    if one.test is None:
        return f"{effect}: networks diverged."
    if one.verdict == "can't be told":
        needed = one.test.units_needed
        more = f"; at this spread about {_seeds(round(needed), '')} would show it" if isfinite(needed) else ""
        return f"{effect} (p = {one.p_corrected:.2g}), which includes effects that would matter{more}."
    if one.verdict == "not found":
        return f"{effect}, which leaves out every effect from {one.shown(one.matters)} on."
    p = one.p_corrected if one.verdict == "found" else one.p_opposite_corrected
    return f"{effect} (p = {p:.2g}, corrected for three claims)."


def _over(one: Registered, test: Directed) -> str:
    """The effect in words, without a full stop."""
    text = f"Over {_seeds(test.n)} the effect is {one.shown(test.mean)}"
    if isfinite(test.low):
        text += f", 95 % interval {one.shown(test.low)} to {one.shown(test.high)}"
    return text


def _seeds(count: int, kind: str = "training ") -> str:
    return f"{count} {kind}seed{'s' * (count != 1)}"


def _untested(one: Registered) -> str:
    few = len(one.per_seed) < FEWEST
    text = f" Fewer than {FEWEST} seeds can't be tested with three claims at 5 %." if few else ""
    if not few and not one.absent:
        text = " The three claims are tested together, once every seed has all networks of each."
    return text + _absent(one)


def _absent(one: Registered) -> str:
    if not one.absent:
        return ""
    gone = [network for networks in one.absent.values() for network in networks]
    which = listed(list(one.absent))
    seeds = f"seed {which} lacks" if len(one.absent) == 1 else f"seeds {which} lack"
    return f" Nothing is tested while a seed lacks networks: {seeds} {_named(gone)}."


def _apart(one: Registered) -> str:
    """What is said beside the verdict of networks that diverged or hardly learned."""
    if not one.apart:
        return ""
    text = f" These count, {_named(one.apart)}; {_left(one)} "
    if one.without is None:
        return f"{text}nothing is left."
    p = "" if isnan(one.p_without) else f" (p = {one.p_without:.2g})"
    return f"{text}it is: {_over(one, one.without)}{p}."


def _left(one: Registered) -> str:
    return "without them" if one.key == "F1" else "without their pairs"


def _named(networks: Sequence[Counted]) -> str:
    words = [markdown(str(network)) for network in networks[:NAMED]]
    more = len(networks) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")
