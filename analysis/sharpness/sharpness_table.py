"""Measured sharpness as a terminal table and as CSV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from analysis.roughness.roughness_table import interval
from analysis.sharpness import MEASURES
from analysis.sharpness.measure import Sharpness
from analysis.sharpness.sharpness_file import Entry
from analysis.statistics.uncertainty import Estimate
from landscape.escaping import SafeWriter

if TYPE_CHECKING:
    from rich.table import Table

CAPTION = (
    "95 % intervals over examples and, for Gaussian ones, draws; "
    "≥: a maximum that was searched for, so a lower bound"
)


def table(entries: Sequence[Entry]) -> Table:
    """A line per measure, a column per checkpoint and split."""
    from rich.table import Table
    from rich.text import Text

    splits = len({one.split for one in entries}) > 1
    result = Table(title="Sharpness", title_justify="left", caption=CAPTION, caption_justify="left")
    result.add_column("measure", no_wrap=True)
    for entry in entries:
        result.add_column(Text(f"{entry.name}, {entry.split}" if splits else entry.name), overflow="fold")
    result.add_column("source")
    for name, measure in MEASURES.items():
        if any(name in entry.measures for entry in entries):
            cells = [text(entry.measures.get(name)) for entry in entries]
            title = f"{measure.title} [{measure.unit}]"
            result.add_row(*map(Text, [title, *cells, measure.source]))  # not str: brackets are markup
    return result


def text(found: Sharpness | None) -> str:
    """Value and interval of one measure; "—" where it wasn't measured."""
    if found is None:
        return "—"
    shown = interval(Estimate(found.value, found.low, found.high))
    bound = "≥ " if found.kind == "lower bound" and shown != "∞" else ""
    doubt = "" if found.details.get("converged", True) else " (not converged)"
    return f"{bound}{shown}{doubt}"


def to_csv(entries: Sequence[Entry]) -> str:
    """One line per checkpoint, split and measure; "inf" where it diverged, empty where undefined."""
    out = io.StringIO()
    writer = SafeWriter(out)
    numbers = ["value", "low", "high", "stderr_examples", "stderr_draws"]
    writer.writerow(
        ["checkpoint", "file", "split", "measure", *numbers, "kind", "unit", "source", "settings"]
    )
    for entry in entries:
        for name, found in entry.measures.items():
            values = [getattr(found, one) for one in numbers]
            writer.writerow(
                [
                    entry.name,
                    entry.file,
                    entry.split,
                    name,
                    *("" if isnan(one) else one for one in values),
                    found.kind,
                    *_facts(entry, name),
                ]
            )
    return out.getvalue()


def _facts(entry: Entry, name: str) -> list[str]:
    measure = MEASURES.get(name)
    if measure is None:
        return ["", "", ""]
    settings = " ".join(f"{one}={entry.settings.get(one)}" for one in measure.uses)
    return [measure.unit, measure.source, settings]
