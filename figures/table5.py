"""Table 5: test accuracy without and under corruptions, with and without S2-SAM.

``python -m figures.table5 RESULTS [--output DIR]``. From the files of ``python -m analysis.robustness`` in
``RESULTS/robustness``. Only results on the published images, "files", can be compared with anyone's numbers;
"generated" ones are made here, and a table never puts both in one line. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from analysis.robustness.result import Robustness, check_same_images
from analysis.robustness.robustness_file import SUFFIX, read
from analysis.robustness.table5 import Row, rows
from analysis.statistics.uncertainty import Estimate
from figures.finished import OPTIMIZERS, PAIR
from figures.networks import MODELS, method_name
from figures.results import Results
from figures.style import OPTIMIZER_NAMES
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, NOTHING, Column, Entry, Grid, Line
from landscape.errors import UserError

TITLE = "Table 5: test accuracy under corruptions"
PAPER = ("ResNet-50, ImageNet-C", "all methods", "80 %")
HEADS = ("network", "method", "sparsity")
READING = (
    "Percent with 95 % intervals over the images; they don't cover the chance of training. Corrupted: mean "
    "over the 15 corruptions of the benchmark (Hendrycks and Dietterich 2019) at five severities. Gain: "
    "minus the original's with the same seeds, paired by image, in percentage points."
)


def grids(results: Results) -> list[Grid]:
    """One grid for each set of images, and the paper's, which stays empty here."""
    found = [read(path) for path in sorted((results.root / "robustness").glob(f"*{SUFFIX}"))]
    groups = [_grid(group) for group in _alike(found)]
    columns = _columns(PAIR)
    empty = Line(PAPER, (NOT_RUN,) * len(columns))
    return [*groups, Grid("ImageNet-C, as in the paper", HEADS, columns, (empty,))]


def _alike(found: Sequence[Robustness]) -> list[list[Robustness]]:
    """Groups of results on the same images, corrupted alike."""
    groups: list[list[Robustness]] = []
    for one in found:
        group = next((known for known in groups if _same(known[0], one)), None)
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
    cells: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows(group):
        sparsity = "" if isnan(row.sparsity) or not row.sparsity else f"{100 * row.sparsity:g} %"
        network = MODELS.get(row.network, row.network)
        cells.setdefault((network, method_name(row.method), sparsity), {})[row.optimizer] = row
    known = {*PAIR, *(name for one in cells.values() for name in one)}
    optimizers = [name for name in OPTIMIZERS if name in known] + sorted(known - set(OPTIMIZERS))
    lines = tuple(Line(labels, _entries(one, optimizers)) for labels, one in cells.items())
    first = group[0]
    data = first.about.get("data")
    name = str(data.get("name") or "") if isinstance(data, Mapping) else ""
    title = f"{name} under corruptions: {first.source}".strip()
    made = (
        ""
        if first.source == "files"
        else " Generated images aren't the published ones: compare within this table."
    )
    notes = (f"{READING} {len(first):,} images.{made}",)
    return Grid(title, HEADS, _columns(optimizers), lines, notes)


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
