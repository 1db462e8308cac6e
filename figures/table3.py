"""Table 3: networks that lose channels, CHEX and Chase: FLOPs, parameters, test accuracy and speed.

``python -m figures.table3 RESULTS [--output DIR]``. FLOPs and parameters are those of the smaller network
that a run leaves (``shrunk.pt``), from ``runs/results.csv``; its speed is from ``structured/structured.csv``,
which ``tests/benchmarks/check_structured.py`` measures. Needs no torch.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures.finished import PAIR, Finished, finished, mean_of, with_paper
from figures.measures import check_distinct
from figures.networks import method_name, network_name, parameters_of
from figures.published import DENSE, IMAGENET, STRUCTURED, Published
from figures.results import Results
from figures.style import OPTIMIZER_NAMES
from figures.table1 import ERRORS, epochs_entry
from figures.table2 import cited, mark
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, NOTHING, Column, Entry, Grid, Line, between, number, published, with_best
from landscape.errors import UserError
from landscape.files import check_regular

TITLE = "Table 3: networks that lose channels"
METHODS = ("chex", "chase")
NETWORKS = ("torchvision-resnet34-imagenet", IMAGENET)
COLUMNS = (
    Column("", "epochs", "epochs_trained"),
    Column("", "FLOPs, of dense", "shrunk_flops_share"),
    Column("", "parameters", "shrunk_parameters"),
    Column("", "channels kept", "channels_share"),
    *(Column("test accuracy (%)", OPTIMIZER_NAMES[name], name) for name in PAIR),
    *(Column("times as fast as dense", OPTIMIZER_NAMES[name], f"speed_{name}") for name in PAIR),
)
REMOVED = (
    "“Removed” is what a run was asked to remove: of FLOPs for CHEX, of weights for Chase, unless its "
    "settings say otherwise. Speed: forward passes on a CPU in turn with those of the same network before it "
    "lost channels, as plain PyTorch computes both, median of the ratios and its 95 % interval."
)
_SPEED = re.compile(r"([0-9.]+) \[([0-9.]+), ([0-9.]+)\]")
Speeds = Mapping[str, tuple[float, float, float]]


def grids(results: Results) -> list[Grid]:
    """One grid: dense networks, what was removed from them, and what others published."""
    found, speeds = finished(results), speeds_of(results.root)
    with_runs = [one for one in found.networks if set(METHODS) & set(found.methods(one))]
    lines = []
    for network in with_paper(NETWORKS, with_runs):
        lines.append(_dense(found, network))
        for method in METHODS:
            levels = sorted(
                {key.sparsity for key in found.rows if (key.network, key.method) == (network, method)}
            )
            lines += [_line(found, speeds, network, method, level) for level in levels]
            if not levels and network in NETWORKS:
                empty = (NOT_RUN,) * len(COLUMNS)
                lines.append(Line((network_name(network), method_name(method), "any"), empty))
        lines += [_published(one, level) for one in DENSE if one.network == network for level in one.accuracy]
        lines += [
            _published(one, level) for one in STRUCTURED if one.network == network for level in one.accuracy
        ]
    notes = (ERRORS, REMOVED, cited((*DENSE, *STRUCTURED)), *found.notes)
    return [Grid("Structured sparsity", ("network", "method", "removed"), COLUMNS, tuple(lines), notes)]


def _dense(found: Finished, network: str) -> Line:
    rows = found.of(network, "dense", 0.0, "sgd") or found.of(network, "dense", 0.0, "s2sam")
    size = parameters_of(network)
    entries = [
        epochs_entry(rows),
        number(1.0, "g") if rows else NOT_RUN,
        NOT_RUN if size is None or not rows else number(size, ",.0f"),
        number(1.0, "g") if rows else NOT_RUN,
        *(found.accuracy(network, "dense", 0.0, name) for name in PAIR),
        NOTHING,
        NOTHING,
    ]
    return Line((network_name(network), "dense", ""), with_best(entries, COLUMNS, PAIR))


def _line(found: Finished, speeds: Speeds, network: str, method: str, level: float) -> Line:
    rows = [row for name in PAIR for row in found.of(network, method, level, name)]
    entries = [
        epochs_entry(rows),
        number(mean_of(rows, "shrunk_flops_share"), ".3f"),
        number(mean_of(rows, "shrunk_parameters"), ",.0f"),
        number(mean_of(rows, "channels_share"), ".3f"),
        *(found.accuracy(network, method, level, name) for name in PAIR),
        *(
            _speed([speeds.get(row["run"]) for row in found.of(network, method, level, name)])
            for name in PAIR
        ),
    ]
    labels = (network_name(network), method_name(method), f"{100 * level:g} %")
    return Line(labels, with_best(entries, COLUMNS, PAIR))


def _speed(measured: Sequence[tuple[float, float, float] | None]) -> Entry:
    """Of the first seed that was measured: channels differ between seeds, so they aren't averaged."""
    known = next((one for one in measured if one is not None), None)
    return NOT_RUN if known is None else between(*known, ".2f", "turns", 1)


def _published(one: Published, level: float | str) -> Line:
    accuracy = published(one.accuracy[level])
    label = f"{level} left" if "GFLOPs" in str(level) else str(level)
    entries = (*[NOTHING] * 4, accuracy, *[NOTHING] * 3)
    return Line((network_name(one.network), f"{one.method}, published {mark(one.source)}", label), entries)


def speeds_of(root: Path) -> dict[str, tuple[float, float, float]]:
    """How many times as fast as the dense network, with an interval, by run; empty where nothing is measured.

    Raises
    ------
    UserError
        When the file is something else.
    """
    path = root / "structured" / "structured.csv"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        check_distinct([row["run"] for row in rows], "the run")
        return {row["run"]: _parsed(row["faster"]) for row in rows if row["faster"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path}: can't be read ({type(error).__name__}: {error}); make it anew with "
            "tests/benchmarks/check_structured.py"
        ) from error


def _parsed(text: str) -> tuple[float, float, float]:
    match = _SPEED.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is no ratio with an interval")
    value, low, high = (float(one) for one in match.groups())
    if not low <= value <= high:
        raise ValueError(f"{text[:40]!r} has an interval without its value")
    return value, low, high


PRODUCT = TableProduct("table3", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
