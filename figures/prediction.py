"""Which measure of sharpness goes with test accuracy? Rank correlations of all there are. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from figures.accuracy import Dot, accuracy_of, correlation, correlation_text, within_sparsity
from figures.measures import NAMES, Measured, unlike
from figures.results import Cell, Results, Run


def table(results: Results) -> str:
    """Markdown: a line per measure, over all sparse runs and at each sparsity; empty without any."""
    found = {"Ra": dots(results, None)} | {name: dots(results, key) for key, name in NAMES.items()}
    known = {name: one for name, one in found.items() if len(one) > 2}
    if not known:
        return ""
    levels = sorted({dot.sparsity for one in known.values() for dot in one})
    lines = [
        f"| measure | n | all | {' | '.join(f'sparsity {level:g}' for level in levels)} |",
        f"| --- | --- | --- |{' --- |' * len(levels)}",
    ]
    for name, one in known.items():
        within = within_sparsity(one)
        cells = [correlation_text(within.get(level)) for level in levels]
        head = f"{name}{_settings(results, name)}"
        lines.append(f"| {head} | {len(one)} | {correlation_text(correlation(one))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _settings(results: Results, name: str) -> str:
    """That not all values of a measure were measured alike."""
    key = next((key for key, one in NAMES.items() if one == name), None)
    found = [results.measures(run.name).get(key or "") for _, run in _runs(results.cells)]
    return ", not measured alike" if unlike([one for one in found if one is not None]) else ""


def dots(results: Results, key: str | None) -> list[Dot]:
    """A finite value of that measure (None: Ra) against the accuracy of every sparse run."""
    return [
        Dot(value, 100 * accuracy, cell.sparsity, cell.optimizer)
        for cell, run in _runs(results.cells)
        if (accuracy := accuracy_of(run)) is not None and isfinite(value := _value(results, run, key))
    ]


def _runs(cells: Sequence[Cell]) -> list[tuple[Cell, Run]]:
    return [(cell, run) for cell in cells for run in cell.runs]


def _value(results: Results, run: Run, key: str | None) -> float:
    if key is None:
        return run.ra.ra.value
    return results.measures(run.name).get(key, Measured(float("nan"))).value
