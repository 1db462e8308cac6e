"""Robustness as a terminal table, CSV and JSON; each says which images were generated."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from analysis.robustness.corruption_names import BENCHMARK, EXTRA, SEVERITIES
from analysis.robustness.reference_errors import Reference
from analysis.robustness.result import Robustness, difference, run_facts
from analysis.robustness.robustness_file import FORMAT
from analysis.statistics.uncertainty import Estimate
from landscape.errors import UserError
from landscape.escaping import SafeWriter
from landscape.files.json_files import finite, sealed

if TYPE_CHECKING:
    from rich.table import Table

NOT_COMPARABLE = "generated here: no published number can be compared with these"


def table(results: Sequence[Robustness], reference: Reference) -> Table:
    """Of one network a column per severity, of several a column per network; accuracies in percent."""
    from rich.table import Table
    from rich.text import Text

    made = any(one.generated for one in results)
    title = f"Accuracy under corruption, %{f' ({NOT_COMPARABLE})' if made else ''}"
    caption = Text(_caption(results), style="table.caption")  # not str: brackets are markup
    found = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    found.add_column("corruption", no_wrap=True)
    alone = len(results) == 1
    heads = [*(f"severity {one}" for one in SEVERITIES), "mean"] if alone else [one.name for one in results]
    for head in heads:
        found.add_column(Text(head), justify="right", overflow="fold")
    for name in dict.fromkeys(name for one in results for name in one.corruptions):
        cells = [percent(one.mean_accuracy([name])) for one in results]
        if alone:
            cells = [_short(results[0].accuracy(name, severity)) for severity in SEVERITIES] + cells
        mark = " *" if any(name in one.generated for one in results) else ""
        found.add_row(name + mark, *map(Text, cells))
    found.add_section()
    blank = [""] * len(SEVERITIES) if alone else []
    for title, cells in summary(results, reference).items():
        if any(cells):
            found.add_row(Text(title), *blank, *map(Text, cells))
    return found


def summary(results: Sequence[Robustness], reference: Reference) -> dict[str, list[str]]:
    """Lines below the corruptions: clean accuracy, means, mCE, differences from the first network."""
    lines = {
        "clean": [percent(one.clean_accuracy()) for one in results],
        "mean of the 15": [percent(one.mean_accuracy()) for one in results],
        "mean of all 19": [percent(one.mean_accuracy(BENCHMARK + EXTRA)) for one in results],
        f"mCE (reference {reference.name})": [percent(one.mce(reference)) for one in results],
    }
    if len(results) > 1:
        lines["mean of the 15, minus the first"] = ["", *(_gain(results[0], one) for one in results[1:])]
    return lines


def percent(found: Estimate) -> str:
    """A fraction as a percentage with its interval; "—" where it isn't known."""
    if isnan(found.value):
        return "—"
    if isnan(found.low):
        return f"{100 * found.value:.2f}"
    return f"{100 * found.value:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def _short(found: Estimate) -> str:
    return "—" if isnan(found.value) else f"{100 * found.value:.2f}"


def _gain(first: Robustness, other: Robustness) -> str:
    try:
        found = difference(first, other)
    except UserError:
        return "—"
    return f"{100 * found.value:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def _caption(results: Sequence[Robustness]) -> str:
    name = results[0].about.get("data", {}).get("name", "images")
    lines = [
        f"{len(results[0]):,} images of {name}; 95 % intervals: clean by Wilson, means and mCE over images"
    ]
    notes: dict[str, str] = {}
    for one in results:
        notes |= one.about.get("deviations", {})
        if one.about.get("remark"):
            notes["data"] = str(one.about["remark"])
    if any(one.generated for one in results):
        lines.append(f"* {NOT_COMPARABLE}")
    lines += [f"{name}: {text}" for name, text in notes.items()]
    return "\n".join(lines)


def to_csv(results: Sequence[Robustness], reference: Reference) -> str:
    """A line per checkpoint, corruption and severity; then clean accuracy and the means; fractions."""
    out = io.StringIO()
    writer = SafeWriter(out)
    writer.writerow(
        ["checkpoint", "file", "corruption", "severity", "source", "images", "value", "low", "high", "note"]
    )
    for one in results:
        notes: Mapping[str, str] = one.about.get("deviations", {})
        for name, source in zip(one.corruptions, one.sources, strict=True):
            for severity in SEVERITIES:
                found = one.accuracy(name, severity)
                if not isnan(found.value):
                    row = [name, severity, source, len(one), *_numbers(found), notes.get(name, "")]
                    writer.writerow([one.name, one.file, *row])
        for title, found in _means(one, reference).items():
            text = f"reference: {reference.name}" if title == "mce" else ""
            writer.writerow([one.name, one.file, title, "", one.source, len(one), *_numbers(found), text])
    return out.getvalue()


def to_json(results: Sequence[Robustness], reference: Reference) -> str:
    """Everything but the answers of single images; null for what isn't known."""
    rows = [_entry(one, reference) for one in results]
    content = sealed(finite({"format": FORMAT, "version": 1, "results": rows}))
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _entry(one: Robustness, reference: Reference) -> dict[str, Any]:
    corrupted = {
        name: {
            "source": source,
            "accuracy": [_estimate(one.accuracy(name, severity)) for severity in SEVERITIES],
            "mean": _estimate(one.mean_accuracy([name])),
        }
        for name, source in zip(one.corruptions, one.sources, strict=True)
    }
    return {
        "name": one.name,
        "file": one.file,
        "sha256": one.sha256,
        "run": dict(run_facts(one)),
        "images": len(one),
        "source": one.source,
        "comparable_with_published": not one.generated and "remark" not in one.about,
        "corruptions": corrupted,
        **{title: _estimate(found) for title, found in _means(one, reference).items()},
        "mce_reference": reference.name,
        "settings": one.settings,
        "about": one.about,
    }


def _means(one: Robustness, reference: Reference) -> dict[str, Estimate]:
    return {
        "clean": one.clean_accuracy(),
        "mean_15": one.mean_accuracy(),
        "mean_19": one.mean_accuracy(BENCHMARK + EXTRA),
        "mce": one.mce(reference),
    }


def _numbers(found: Estimate) -> list[float | str]:
    return ["" if isnan(part) else part for part in (found.value, found.low, found.high)]


def _estimate(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
