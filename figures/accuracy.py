"""Ra against test accuracy: does roughness predict anything? A figure that the paper lacks.

``python -m figures.accuracy RESULTS [--output DIR]``. Left: every run with a surface. Right: what S2-SAM and
SAM changed in each pair, which takes method and sparsity out of the comparison. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan, log
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.statistics.correlation import RankCorrelation, rank_correlation
from figures import caption as captions
from figures.product import Product
from figures.results import Cell, Results, Run, accuracy_in, other_length
from figures.sheet import LINE, Sheet, wrapped
from figures.style import COLOR_MAP, OPTIMIZER_NAMES, PAGE, PRINT
from figures.ticks import set_log
from landscape.surface import Surface

TITLE = "Roughness against test accuracy"
WHAT = (
    "Left: Ra of the training loss (of its logarithm where the axis says so) and test accuracy of every run, "
    "over the sparsity (colour) and the optimizer (marker). Right: changes from SGD to S2-SAM or SAM at "
    "equal method, sparsity and seed; dashed: no change. ρ: Spearman's rank correlation with its 95 % "
    "bootstrap interval and permutation p-value; runs that share a method aren't independent, so both are "
    "optimistic."
)
MARKERS = {"sgd": "o", "s2sam": "^", "sam": "s", "asam": "D", "fsam": "v"}
OTHER = "P"  # marker of any other optimizer
EDGE, LEFT, BETWEEN, SIDE, HEIGHT = 0.06, 0.55, 0.85, 2.45, 2.3  # inches
LEGEND = 4 * LINE


@dataclass(frozen=True)
class Dot:
    """A run in the left panel: Ra and accuracy in percent; or a change in the right one."""

    x: float
    y: float
    sparsity: float
    optimizer: str


def dots(results: Results) -> list[Dot]:
    """Every run with a finite Ra and a test accuracy."""
    return [
        Dot(run.ra.ra.value, 100 * accuracy, cell.sparsity, cell.optimizer)
        for cell in results.cells
        for run in cell.runs
        if (accuracy := accuracy_of(run)) is not None and isfinite(run.ra.ra.value)
    ]


def changes(results: Results) -> list[Dot]:
    """log₂ of Ra's ratio, and the difference of accuracy in points, for every pair."""
    found = []
    for cell in results.cells:
        before = results.cell(cell.method, cell.sparsity, "sgd")
        for run, other in _pairs(before, cell) if cell.optimizer != "sgd" else ():
            one, two = accuracy_of(run), accuracy_of(other)
            values = run.ra.ra.value, other.ra.ra.value
            if one is not None and two is not None and all(isfinite(ra) and ra > 0 for ra in values):
                change = log(values[1] / values[0], 2)
                found.append(Dot(change, 100 * (two - one), cell.sparsity, cell.optimizer))
    return found


def _pairs(before: Cell, after: Cell) -> list[tuple[Run, Run]]:
    others = {run.seed: run for run in after.runs}
    pairs = [(run, others[run.seed]) for run in before.runs if run.seed in others]
    return [pair for pair in pairs if not other_length(*(run.row for run in pair))]


def accuracy_of(run: Run) -> float | None:
    """Test accuracy from the table, as a fraction."""
    return accuracy_in(run.row)


def correlation(found: Sequence[Dot]) -> RankCorrelation | None:
    """Of x and y; None below three dots."""
    return rank_correlation([dot.x for dot in found], [dot.y for dot in found]) if len(found) > 2 else None


def within_sparsity(found: Sequence[Dot]) -> dict[float, RankCorrelation]:
    """The same at each sparsity with three dots or more: sparsity itself moves both."""
    levels = sorted({dot.sparsity for dot in found})
    groups = {level: correlation([dot for dot in found if dot.sparsity == level]) for level in levels}
    return {level: one for level, one in groups.items() if one is not None}


def draw(results: Results) -> Figure:
    """The figure."""
    with mpl.rc_context(PRINT):
        note = wrapped(captions.footer(results.drawn, results.network, WHAT, below=False), PAGE - 2 * EDGE)
        top = EDGE + 2 * LINE + 0.05
        below = top + HEIGHT + 0.5
        height = below + LEGEND + len(note) * LINE + EDGE
        sheet = Sheet.of(PAGE, height)
        every, pairs = dots(results), changes(results)
        levels = sorted({dot.sparsity for dot in every})
        left = sheet.axes(LEFT, top, SIDE, HEIGHT)
        _scatter(left, every, levels)
        left.set(xlabel=captions.ra_axis(results), ylabel="test accuracy (%)")
        if every:
            set_log(left.xaxis, min(dot.x for dot in every) / 1.15, max(dot.x for dot in every) * 1.15)
        right = sheet.axes(LEFT + SIDE + BETWEEN, top, SIDE, HEIGHT)
        right.axhline(0, color="0.6", linestyle="--", linewidth=0.7)
        right.axvline(0, color="0.6", linestyle="--", linewidth=0.7)
        _scatter(right, pairs, levels)
        right.set(xlabel="change of Ra (log₂ of the ratio)", ylabel="change of accuracy (points)")
        right.locator_params(axis="x", nbins=5, prune="both")
        for axes, found, place in ((left, every, LEFT), (right, pairs, LEFT + SIDE + BETWEEN)):
            axes.locator_params(axis="y", nbins=6, prune="both")
            lines = [f"n = {len(found)}", correlation_text(correlation(found))]
            sheet.lines(place + SIDE / 2, EDGE, lines)
        _legend(sheet, below, levels, sorted({dot.optimizer for dot in every}, key=_order))
        sheet.lines(EDGE, height - EDGE - len(note) * LINE, note, ha="left")
        return sheet.figure


def _order(optimizer: str) -> tuple[int, str]:
    """Those with a marker of their own first, as they stand above."""
    known = list(MARKERS)
    return known.index(optimizer) if optimizer in known else len(known), optimizer


def correlation_text(found: RankCorrelation | None) -> str:
    """As: ρ = −0.71 [−0.90, −0.32], p = 0.002."""
    if found is None or isnan(found.rho):
        return "ρ unknown"
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return f"ρ = {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], {p}".replace("-", "−")


def _color(level: float, levels: Sequence[float]) -> Any:
    """Dark for dense, light for sparse, never as pale as paper."""
    place = levels.index(level) / max(1, len(levels) - 1)
    return mpl.colormaps[COLOR_MAP](0.9 * place)


def _scatter(axes: Any, found: Sequence[Dot], levels: Sequence[float]) -> None:
    for dot in found:
        axes.plot(
            dot.x, dot.y, MARKERS.get(dot.optimizer, OTHER), markersize=4.5, markeredgecolor="black",
            markeredgewidth=0.4, markerfacecolor=_color(dot.sparsity, levels),
        )  # fmt: skip


def _legend(sheet: Sheet, top: float, levels: Sequence[float], optimizers: Sequence[str]) -> None:
    axes = sheet.axes(0, 0, sheet.width, sheet.height, zorder=-1)
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.axis("off")
    looks = [(OPTIMIZER_NAMES.get(name, name), MARKERS.get(name, OTHER), "white") for name in optimizers]
    for row, (title, words) in enumerate(
        (
            ("optimizer", looks),
            ("sparsity", [(f"{level:g}", "o", _color(level, levels)) for level in levels]),
        )
    ):
        line = top + row * 1.4 * LINE
        sheet.text(LEFT, line, title, ha="left")
        for number, (word, marker, face) in enumerate(words):
            left = LEFT + 0.9 + number * 0.95
            axes.plot(
                left, line + LINE / 2, marker, markersize=4.5, markeredgecolor="black", markeredgewidth=0.4,
                markerfacecolor=face,
            )  # fmt: skip
            sheet.text(left + 0.12, line, word, ha="left")


def caption(results: Results) -> str:
    """Markdown: what, how the surfaces were made, correlations over all and within each sparsity."""
    every, pairs = dots(results), changes(results)
    extra = ["| runs | n | Spearman's ρ of Ra and test accuracy |", "| --- | --- | --- |"]
    extra += [f"| all | {len(every)} | {correlation_text(correlation(every))} |"]
    extra += [
        f"| sparsity {level:g} | {sum(dot.sparsity == level for dot in every)} | {correlation_text(one)} |"
        for level, one in within_sparsity(every).items()
    ]
    extra += [f"| changes within pairs | {len(pairs)} | {correlation_text(correlation(pairs))} |"]
    return captions.caption(TITLE, results.drawn, results.network, WHAT, extra)


def surfaces(results: Results) -> list[Surface]:
    """None: the pages of Figures 1 and 3 show them."""
    return []


def unlike(results: Results) -> list[str]:
    """In what the surfaces differ and mustn't."""
    return captions.unlike(results.drawn)


PRODUCT = Product("accuracy", TITLE, draw, caption, surfaces, unlike)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
