"""Table 5: test accuracy without and under corruptions, with and without S2-SAM.

``python -m figures.table5 RESULTS [--output DIR]``. From the files of ``python -m analysis.robustness`` in
``RESULTS/robustness``. Only results on the published images, "files", can be compared with anyone's numbers;
"generated" ones are made here, and a table never puts both in one line. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from analysis.robustness.result import Robustness, check_same_images
from analysis.robustness.robustness_file import SUFFIX, read
from analysis.robustness.table5 import Row, rows
from analysis.statistics.uncertainty import Estimate
from figures.finished import OPTIMIZERS, PAIR
from figures.networks import MODELS, method_name
from figures.results import EARLIER, Results
from figures.style import OPTIMIZER_NAMES
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, NOTHING, Column, Entry, Grid, Line
from landscape.errors import UserError

TITLE = "Table 5: test accuracy under corruptions"
PAPER = ("ResNet-50, ImageNet-C", "all methods", "80 %")
HEADS = ("network", "method", "sparsity")
_SAID = 3  # settings that a label names
READING = (
    "Percent with 95 % intervals over the images; they don't cover the chance of training. Corrupted: mean "
    "over the 15 corruptions of the benchmark (Hendrycks and Dietterich 2019) at five severities. Gain: "
    "minus the original's with the same seeds, paired by image, in percentage points."
)


def grids(results: Results) -> list[Grid]:
    """One grid for each set of images, and the paper's, which stays empty here."""
    paths = sorted((results.root / "robustness").glob(f"*{SUFFIX}"))
    found: list[Robustness] = []
    old: dict[str, str] = {}
    for path, one in zip(paths, map(read, paths), strict=True):
        run = path.name.removesuffix(SUFFIX)
        whose = [results.not_of(name, one.about, one.sha256) for name in (run, one.name)]
        if any(whose):
            old[run] = next(filter(None, whose))
        else:
            found.append(one)
    groups = [_grid(group) for group in _alike(found)]
    columns = _columns(PAIR)
    empty = Line(PAPER, (NOT_RUN,) * len(columns))
    notes = _left_out(old)
    return [*groups, Grid("ImageNet-C, as in the paper", HEADS, columns, (empty,), notes)]


def _left_out(old: Mapping[str, str]) -> tuple[str, ...]:
    """What a note says of runs whose results are of other checkpoints than theirs; nothing where none is."""
    if not old:
        return ()
    told = [run if why == EARLIER else f"{run} ({why})" for run, why in old.items()]
    kind = "earlier" if set(old.values()) == {EARLIER} else "other"
    return (f"Left out, of {kind} checkpoints; measure again: {', '.join(told)}.",)


def _alike(found: Sequence[Robustness]) -> list[list[Robustness]]:
    """Groups of results on the same images, corrupted alike; those with more corruptions first."""
    groups: list[list[Robustness]] = []
    for one in sorted(found, key=lambda one: -len(one.corruptions)):
        group = next((known for known in groups if all(_same(other, one) for other in known)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _same(first: Robustness, second: Robustness) -> bool:
    try:
        check_same_images(first, second)
    except UserError:
        return False
    return True


def _columns(optimizers: Sequence[str]) -> tuple[Column, ...]:
    names = [(name, OPTIMIZER_NAMES.get(name, name)) for name in optimizers]
    return (
        *(Column("clean", shown, f"clean_{name}") for name, shown in names),
        *(Column("corrupted", shown, f"corrupted_{name}") for name, shown in names),
        *(Column("gain, corrupted", shown, f"gain_{name}") for name, shown in names if name != PAIR[0]),
    )


def _grid(group: Sequence[Robustness]) -> Grid:
    found = rows(group)
    told = _recipes(found)
    cells: dict[str, dict[str, Row]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for row, recipe in zip(found, told, strict=True):
        sparsity = "" if isnan(row.sparsity) or not row.sparsity else f"{100 * row.sparsity:g} %"
        labels = (MODELS.get(row.network, row.network), method_name(row.method) + recipe, sparsity)
        # Labels may leave something away.
        line = json.dumps([*labels, row.recipe], sort_keys=True, default=str)
        names[line] = labels
        cells.setdefault(line, {})[row.optimizer] = row
    known = {*PAIR, *(name for one in cells.values() for name in one)}
    optimizers = [name for name in OPTIMIZERS if name in known] + sorted(known - set(OPTIMIZERS))
    lines = tuple(Line(names[line], _entries(one, optimizers)) for line, one in cells.items())
    first = group[0]
    data = first.about.get("data")
    name = str(data.get("name") or "") if isinstance(data, Mapping) else ""
    title = f"{name} under corruptions: {first.source}".strip()
    made = (
        ""
        if all(one.source == "files" for one in group)
        else " Generated images aren't the published ones: compare within this table."
    )
    notes = [f"{READING} {len(first):,} images.{made}"]
    if any(told):
        notes.append("Runs that weren't trained alike stand in lines of their own, with what differs.")
    return Grid(title, HEADS, _columns(optimizers), lines, tuple(notes))


def _recipes(found: Sequence[Row]) -> list[str]:
    """What tells a row's recipe from others of its network, method and sparsity; empty where nothing does."""
    texts = []
    for row in found:
        like = [one.recipe for one in found if _place(one) == _place(row)]
        every = {name for one in like for name in one}
        names = [name for name in every if any(one.get(name) != row.recipe.get(name) for one in like)]
        parts = [f"{name.replace('_', ' ')} {_told(row.recipe, name)}" for name in sorted(names, key=_first)]
        if len(parts) > _SAID:
            parts = [*parts[:_SAID], f"{len(parts) - _SAID} settings more"]
        texts.append(f" ({', '.join(parts)})" if parts else "")
    return texts


def _first(name: str) -> tuple[bool, str]:
    return name not in ("epochs", "lr", "batch_size", "examples"), name


def _told(recipe: Mapping[str, Any], name: str) -> str:
    value = recipe.get(name, "off, or not told")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _place(row: Row) -> tuple[str, str, str]:
    return row.network, row.method, repr(row.sparsity)


def _entries(found: Mapping[str, Row], optimizers: Sequence[str]) -> tuple[Entry, ...]:
    def of(name: str, part: str) -> Entry:
        row = found.get(name)
        if row is None:
            return NOT_RUN
        estimate: Estimate | None = getattr(row, part)
        return NOTHING if estimate is None else _shown(estimate, len(row.results[0]))

    return (
        *(of(name, "clean") for name in optimizers),
        *(of(name, "corrupted") for name in optimizers),
        *(of(name, "gain") for name in optimizers if name != PAIR[0]),
    )


def _shown(one: Estimate, images: int) -> Entry:
    """A fraction in percent with its interval."""
    if isnan(one.value):
        return NOT_RUN
    ends = f"[{100 * one.low:.2f}, {100 * one.high:.2f}]".replace("-", "−") if not isnan(one.low) else ""
    text = f"{100 * one.value:.2f}".replace("-", "−")
    low, high = (None if isnan(end) else end for end in (one.low, one.high))
    return Entry(text, ends, one.value, None, low, high, "images", images)


PRODUCT = TableProduct("table5", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
