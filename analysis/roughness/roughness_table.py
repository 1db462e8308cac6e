"""Roughness as a terminal table, as JSON and as CSV."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import floor, isfinite, isnan, log10
from typing import TYPE_CHECKING, Any

from analysis.roughness import Roughness
from analysis.roughness.conventions import differences, range_text
from analysis.roughness.metrics import METRICS
from analysis.statistics.uncertainty import CONFIDENCE, Estimate
from landscape.escaping import SafeWriter
from landscape.files.json_files import finite, sealed

if TYPE_CHECKING:
    from rich.table import Table

SETTINGS = ("span", "grid", "data", "examples", "directions", "normalization", "mask")


BRIEF = ("sq", "sdq")


@dataclass(frozen=True)
class Row:
    """One surface and split.

    Attributes
    ----------
    name, file
        The surface's, for people and for programs.
    loss, log_loss
        Roughness of both; the second is None where a loss isn't positive.
    made
        How the surface was made (`analysis.roughness.conventions.conventions`).
    complete
        False while the surface is being computed.
    sha256
        Of the checkpoint, where the surface knows it.
    """

    name: str
    file: str
    loss: Roughness
    log_loss: Roughness | None
    made: Mapping[str, str]
    complete: bool = True
    sha256: str = ""


def number(value: float, digits: int = 4) -> str:
    """`value` with that many significant digits; "—" where it is undefined."""
    if isnan(value):
        return "—"
    return f"{value:.{digits}g}" if isfinite(value) else "∞"


def interval(estimate: Estimate) -> str:
    """Value and 95 % interval, "0.431 [0.418, 0.444]", rounded to two digits of the interval's half-width."""
    half = (estimate.high - estimate.low) / 2
    if not isfinite(half) or half == 0:
        return number(estimate.value)
    decimals = 1 - floor(log10(half))
    if not 0 <= decimals <= 9:
        return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
    value, low, high = (f"{one:.{decimals}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def table(rows: Sequence[Row], *, log: bool = False, brief: bool = False) -> Table:
    """One line per surface and split; every metric, or for narrow terminals those of `BRIEF`."""
    from rich.table import Table
    from rich.text import Text

    splits = len({row.loss.split for row in rows}) > 1
    result = Table(title="Roughness of " + ("log loss" if log else "loss"), title_justify="left")
    result.add_column("surface", overflow="fold", min_width=12)
    if splits:
        result.add_column("split")
    result.add_column("Ra [95 %]", no_wrap=not brief)
    siblings = [name for name in METRICS if name != "ra" and (not brief or name in BRIEF)]
    for name in siblings:
        result.add_column(METRICS[name].name, justify="right")
    if not log:
        result.add_column("Ra of log loss", no_wrap=not brief)
    for row in rows:
        for cells in _table_rows(row, siblings, log=log, split=splits):
            result.add_row(*map(Text, cells))  # not str: brackets are markup
    return result


def differences_table(rows: Sequence[Row]) -> Table | None:
    """In what the surfaces weren't made alike; None where they were."""
    from rich.table import Table
    from rich.text import Text

    differing = [name for name in SETTINGS if name in differences([row.made for row in rows])]
    if not differing:
        return None
    result = Table("surface", *differing, title="Made differently", title_justify="left")
    for row in rows:
        result.add_row(Text(row.name), *(Text(row.made.get(name, "unknown")) for name in differing))
    return result


def _table_rows(row: Row, siblings: Sequence[str], *, log: bool, split: bool) -> Iterator[list[str]]:
    """The row itself and, where it isn't finite, the part of the surface that is."""
    shown = row.log_loss if log else row.loss
    if shown is None:
        yield [row.name, *([row.loss.split] if split else []), "a loss isn't positive"]
        return
    pairs = [(row.name, shown, row.log_loss)]
    if shown.finite is not None:
        part = f"{row.name} within ±{shown.finite_span:g}"
        pairs.append((part, shown.finite, None if row.log_loss is None else row.log_loss.finite))
    for name, one, logged in pairs:
        ra = interval(one.ra)
        ra += "" if one.diverged_radius is None else f" (diverged at radius {one.diverged_radius:.3g})"
        cells = [name, *([one.split] if split else []), ra]
        cells += [number(one.estimates[sibling].value) for sibling in siblings]
        yield cells if log else [*cells, "—" if logged is None else interval(logged.ra)]


def caption(rows: Sequence[Row]) -> str:
    """Two lines: what all rows share, and what the heights and intervals are of."""
    made = [{**row.made, **_measured(row)} for row in rows]
    shared = [
        f"{name} {made[0][name]}" for name in SETTINGS if name in made[0] and name not in differences(made)
    ]
    splits = dict.fromkeys(row.loss.split for row in rows)
    shared += [f"split {split}" for split in splits if len(splits) == 1]
    reference = {"mean": "mean", "plane": "least-squares plane"}[rows[0].loss.reference]
    sources = _sources(rows)
    intervals = f"; {CONFIDENCE:.0%} intervals over {', '.join(sources)}" if sources else ""
    return f"{'; '.join(shared)}\nheights above the {reference}{intervals}"


def _measured(row: Row) -> dict[str, str]:
    """Span and grid of what was measured, and of what part of the surface it is."""
    whole = {name: row.made[name] for name in ("span", "grid") if name in row.made}
    counts = row.loss.resolution[: 1 if row.loss.resolution[1] == 1 else 2]
    parts = {"span": _region(row.loss), "grid": "×".join(map(str, counts))}
    return {name: text if parts[name] == text else f"{parts[name]} of {text}" for name, text in whole.items()}


def _sources(rows: Sequence[Row]) -> list[str]:
    """What the intervals of these rows are over."""
    every = [
        part for row in rows for part in (row.loss.ra, row.loss.finite.ra if row.loss.finite else row.loss.ra)
    ]
    known = {
        "examples": any(not isnan(one.stderr_examples) for one in every),
        "direction seeds": any(not isnan(one.stderr_planes) for one in every),
        "interpolation error": any(one.error_interpolation > 0 for one in every),
    }
    return [name for name, present in known.items() if present]


def to_json(rows: Sequence[Row]) -> str:
    """A JSON list with one object per surface, split and quantity; null where a number isn't finite."""
    found = [sealed(_object(row, one)) for row in rows for one in _both(row)]
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def _object(row: Row, measured: Roughness) -> dict[str, Any]:
    facts = {key: value for key, value in finite(asdict(measured)).items() if key not in ("label", "finite")}
    return {
        "surface": row.name,
        "file": row.file,
        "sha256": row.sha256,
        **facts,
        "complete": row.complete,
        "confidence": CONFIDENCE,
        "made": dict(row.made),
        "finite": None if measured.finite is None else finite(asdict(measured.finite)),
    }


def to_csv(rows: Sequence[Row]) -> str:
    """One line per surface, split, quantity and metric; "inf" where not finite, empty where undefined."""
    estimate_columns = [field.name for field in fields(Estimate)]
    made_columns = list(dict.fromkeys(name for row in rows for name in row.made))
    text = io.StringIO()
    writer = SafeWriter(text)
    head_columns = ["surface", "file", "split", "quantity", "region", "reference", "metric"]
    tail_columns = [
        "planes",
        "evaluated",
        "diverged_radius",
        *(name.replace(" ", "_") for name in made_columns),
    ]
    writer.writerow([*head_columns, *estimate_columns, *tail_columns])
    for row in rows:
        for whole in _both(row):
            for one in [whole] + ([whole.finite] if whole.finite else []):
                head = [row.name, row.file, one.split, one.quantity, _region(one), one.reference]
                tail = [one.planes, one.evaluated, whole.diverged_radius, *map(row.made.get, made_columns)]
                for name, estimate in one.estimates.items():
                    numbers = [_blank(part) for part in asdict(estimate).values()]
                    writer.writerow([*head, name, *numbers, *tail])
    return text.getvalue()


def _both(row: Row) -> list[Roughness]:
    return [row.loss] if row.log_loss is None else [row.loss, row.log_loss]


def _region(measured: Roughness) -> str:
    ranges = [measured.alpha_range, measured.beta_range][: 1 if measured.resolution[1] == 1 else 2]
    return range_text(ranges)


def _blank(value: float) -> float | str:
    return "" if isnan(value) else value
