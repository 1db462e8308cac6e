"""How much Ra depends on what one chooses: the span, the direction seed, masked or dense directions.

``python -m figures.dependence RESULTS [--output DIR]``. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.statistics.uncertainty import Estimate
from figures import caption as captions
from figures.panels import ra_text
from figures.product import Product
from figures.results import Results, Run
from figures.sheet import LINE, Sheet, wrapped
from figures.studies import studies_of
from figures.style import PAGE, PRINT
from figures.ticks import set_log
from landscape.errors import UserError
from landscape.escaping import markdown
from landscape.surface import Surface

TITLE = "How Ra depends on span, direction seed and mask"
WHAT = (
    "Left: Ra over the half-width of the square. Middle: Ra on each plane alone as a share of the run's "
    "mean, one row of dots per run. Right: Ra on planes whose directions are zero where weights are pruned, "
    "and on dense ones of the same seeds."
)
# Okabe and Ito's colours and dashes: told apart without colour, too.
LINES: tuple[tuple[str, Any, str], ...] = (
    ("#0072b2", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#009e73", "-.", "^"),
    ("#cc79a7", ":", "D"),
    ("#000000", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#e69f00", (0, (8, 2)), "P"),
)
EDGE, LEFT, BETWEEN, HEIGHT = 0.06, 0.62, 0.66, 2.0  # inches
SIDE = (PAGE - LEFT - 2 * BETWEEN - 0.12) / 3


def draw(results: Results) -> Figure:
    """The figure.

    Raises
    ------
    UserError
        When no run has a study, nor several planes.
    """
    spans, pairs, seeds = found(results)
    names = list(dict.fromkeys([*spans, *(run.name for run, _, _ in pairs)]))
    with mpl.rc_context(PRINT):
        note = wrapped(captions.footer(results.drawn, results.network, WHAT, below=False), PAGE - 2 * EDGE)
        top = EDGE + LINE + 0.06
        keys = top + HEIGHT + 0.48
        height = keys + (len(names) + 1) // 2 * 1.2 * LINE + 0.1 + len(note) * LINE + EDGE
        sheet = Sheet.of(PAGE, height)
        panels = [sheet.axes(LEFT + number * (SIDE + BETWEEN), top, SIDE, HEIGHT) for number in range(3)]
        for number, title in enumerate(("span", "direction seed", "mask")):
            sheet.text(LEFT + number * (SIDE + BETWEEN) + SIDE / 2, EDGE, title, weight="bold")
        _draw_spans(panels[0], spans, names)
        _draw_seeds(panels[1], seeds)
        _draw_masks(panels[2], pairs, names)
        for panel, known in ((panels[0], spans), (panels[2], pairs)):
            panel.set_ylabel(captions.ra_axis(results))
            if not known:
                panel.set(xticks=[], yticks=[])
                panel.text(0.5, 0.5, "not computed", ha="center", color="0.4", transform=panel.transAxes)
        _legend(sheet, keys, names, results.network)
        sheet.lines(EDGE, height - EDGE - len(note) * LINE, note, ha="left")
        return sheet.figure


Spans = Mapping[str, list[tuple[float, Estimate]]]
MaskPair = tuple[Run, Estimate, Estimate]
Shares = list[tuple[Run, list[float]]]


def found(results: Results) -> tuple[Spans, list[MaskPair], Shares]:
    """Ra by span, on masked and dense directions, and by direction seed; UserError where there is none."""
    studies = studies_of(results)
    parts = studies.spans, studies.masks, studies.seeds
    if not any(parts):
        raise UserError(
            f"{results.root}: no studies/RUN.span0.5.surface.h5 or RUN.dense.surface.h5, and no surface of "
            "several planes; nothing to compare"
        )
    return parts


def _look(name: str, names: Sequence[str]) -> dict[str, Any]:
    color, line, marker = LINES[names.index(name) % len(LINES)]
    return {"color": color, "linestyle": line, "marker": marker, "markersize": 3.5, "linewidth": 1.1}


def _draw_spans(axes: Any, spans: Spans, names: Sequence[str]) -> None:
    axes.set_xlabel("span")
    ticks: set[float] = set()
    for name, points in spans.items():
        finite = [(span, ra) for span, ra in points if isfinite(ra.value)]
        ticks |= {span for span, _ in finite}
        axes.plot([span for span, _ in finite], [ra.value for _, ra in finite], **_look(name, names))
        for span, ra in finite:
            if isfinite(ra.high - ra.low) and ra.low > 0:
                axes.plot([span, span], [ra.low, ra.high], color=_look(name, names)["color"], linewidth=0.8)
    if ticks:
        set_log(axes.xaxis, min(ticks) / 1.2, max(ticks) * 1.2)
        axes.set_xticks(sorted(ticks), labels=[f"{tick:g}" for tick in sorted(ticks)])
        _log_heights(axes)


def _draw_seeds(axes: Any, seeds: Shares) -> None:
    for row, (_, shares) in enumerate(seeds):
        axes.plot(shares, np.full(len(shares), row), "o", color="#0072b2", markersize=2.2)
    axes.axvline(1, color="0.6", linestyle="--", linewidth=0.7)
    axes.set(xlabel="Ra / mean of the planes", ylabel="runs", yticks=[])
    axes.locator_params(axis="x", nbins=4)


def _draw_masks(axes: Any, pairs: Sequence[MaskPair], names: Sequence[str]) -> None:
    axes.set(xlabel="directions", xlim=(-0.35, 1.35))
    axes.set_xticks([0, 1], labels=["masked", "dense"])
    for run, masked, dense in pairs:
        if isfinite(masked.value) and isfinite(dense.value):
            axes.plot([0, 1], [masked.value, dense.value], **_look(run.name, names))
            for place, one in ((0, masked), (1, dense)):
                if isfinite(one.high - one.low) and one.low > 0:
                    axes.plot(
                        [place] * 2, [one.low, one.high], color=_look(run.name, names)["color"], linewidth=0.8
                    )
    _log_heights(axes)


def _log_heights(axes: Any) -> None:
    """A log scale over everything drawn; nothing where nothing is."""
    values = [value for line in axes.lines for value in line.get_ydata()]
    if values:
        set_log(axes.yaxis, min(values) / 1.15, max(values) * 1.15)


def _legend(sheet: Sheet, top: float, names: Sequence[str], network: str) -> None:
    axes = sheet.axes(0, 0, sheet.width, sheet.height, zorder=-1)
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.axis("off")
    for number, name in enumerate(names):
        left = LEFT + number % 2 * PAGE / 2
        line = top + number // 2 * 1.2 * LINE
        axes.plot([left, left + 0.2, left + 0.4], [line + LINE / 2] * 3, **_look(name, names))
        sheet.text(left + 0.5, line, name.removeprefix(f"{network}-"), ha="left")


def caption(results: Results) -> str:
    """Markdown: what, how the surfaces were made, and every number."""
    return captions.caption(TITLE, results.drawn, results.network, WHAT, tables(results))


def tables(results: Results) -> list[str]:
    """Every number of the figure, as lines of Markdown; UserError where there is none."""
    spans, pairs, seeds = found(results)
    extra = ["| run | span | Ra, 95 % interval |", "| --- | --- | --- |"]
    for name, points in spans.items():
        extra += [f"| {markdown(name)} | {span:g} | {_text(ra)} |" for span, ra in points]
    extra += ["", "| run | masked | dense |", "| --- | --- | --- |"]
    extra += [f"| {markdown(run.name)} | {_text(masked)} | {_text(dense)} |" for run, masked, dense in pairs]
    if spans or pairs:
        extra += ["", "Both compare over the direction seeds that all surfaces of a run share."]
    if seeds:
        spreads = [float(np.std(shares, ddof=1)) for _, shares in seeds]
        extra += [
            "",
            "Between direction seeds Ra has a standard deviation of "
            f"{100 * float(np.median(spreads)):.1f} % of its mean (median of {len(seeds)} runs; "
            f"{100 * min(spreads):.1f} to {100 * max(spreads):.1f} %).",
        ]
    return extra


def _text(found: Estimate) -> str:
    return "{} ({})".format(*ra_text(found)) if isfinite(found.value) else "not finite"


def surfaces(results: Results) -> list[Surface]:
    """None: the figure shows numbers."""
    return []


def unlike(results: Results) -> list[str]:
    """In what the main surfaces differ and mustn't."""
    return captions.unlike(results.drawn)


PRODUCT = Product("dependence", TITLE, draw, caption, surfaces, unlike)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
