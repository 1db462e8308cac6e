"""Table 1: test accuracy of every method by sparsity, with and without S2-SAM.

``python -m figures.table1 RESULTS [--output DIR]``. In the layout of Table 1 of Ji et al., "A Single-Step,
Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate Sparse Training" (2024), for
the runs in ``runs/results.csv``; cells of the paper that weren't run stand empty. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from figures.finished import OPTIMIZERS, ORDER, PAIR, Finished, Row, finished, in_order, with_paper
from figures.networks import SMALL, method_name, network_name
from figures.results import Results
from figures.spent import HEADS, Spent, spent
from figures.style import OPTIMIZER_NAMES
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, NOTHING, Column, Entry, Grid, Line, with_best

TITLE = "Table 1: test accuracy by method, sparsity and optimizer"
METHODS = ("lt", "snip", "grasp", "set", "dsr", "rigl", "mest_em", "mest_ems")
SPARSITIES = (0.9, 0.95, 0.98)
ERRORS = "Percent ± standard error over training seeds, or of one seed over the test examples."


def grids(results: Results) -> list[Grid]:
    """Accuracies of sparse networks, of dense ones, and what the runs spent."""
    found = finished(results)
    sparsities = sorted({*SPARSITIES, *(key.sparsity for key in found.rows if key.sparsity > 0)})
    optimizers = optimizers_of(found)
    return [
        sparse_grid("Sparse networks", found, SMALL, METHODS, sparsities, optimizers),
        dense_grid(found, with_paper(SMALL, found.networks), optimizers),
        _spent_grid(found),
    ]


def optimizers_of(found: Finished) -> list[str]:
    """The paper's two, and others that were run."""
    known = {*PAIR, *(key.optimizer for key in found.rows)}
    return [name for name in OPTIMIZERS if name in known] + sorted(known - set(OPTIMIZERS))


def sparse_grid(
    title: str,
    found: Finished,
    paper: Sequence[str],
    methods: Iterable[str],
    sparsities: Sequence[float],
    optimizers: Sequence[str],
) -> Grid:
    """Accuracies by network and method; one empty line for a network of the paper without any run."""
    columns = tuple(
        Column(f"{100 * level:g} % sparse", OPTIMIZER_NAMES.get(name, name), name)
        for level in sparsities
        for name in optimizers
    )
    lines = []
    for network in with_paper(paper, found.networks):
        known = found.methods(network, sparsities)
        if not known:
            if network in paper:
                lines.append(Line((network_name(network), "all methods"), (NOT_RUN,) * len(columns)))
            continue
        for method in in_order({*known, *methods}):
            entries = [
                found.accuracy(network, method, level, name) for level in sparsities for name in optimizers
            ]
            lines.append(
                Line((network_name(network), method_name(method)), with_best(entries, columns, optimizers))
            )
    notes = [ERRORS, "Sparsity as each method's authors count it."]
    if found.unfinished:
        names = ", ".join(found.unfinished[:8]) + (", …" if len(found.unfinished) > 8 else "")
        notes.append(f"Not finished, {len(found.unfinished)} runs: {names}.")
    return Grid(title, ("network", "method"), columns, tuple(lines), (*notes, *found.notes))


def dense_grid(found: Finished, networks: Sequence[str], optimizers: Sequence[str]) -> Grid:
    """Accuracies of the networks without pruning."""
    columns = tuple(Column("", OPTIMIZER_NAMES.get(name, name), name) for name in optimizers)
    lines = [
        Line(
            (network_name(network),),
            with_best(
                [found.accuracy(network, "dense", 0.0, name) for name in optimizers], columns, optimizers
            ),
        )
        for network in networks
    ]
    return Grid("Dense networks", ("network",), columns, tuple(lines), (ERRORS,))


def _spent_grid(found: Finished) -> Grid:
    """How sparse the runs are by both countings, and what one took."""
    kinds = sorted({(key.network, key.method, key.sparsity) for key in found.rows}, key=_place)
    keys = ("sparsity_masked", "sparsity_overall", "epochs_trained", "examples_trained")
    columns = tuple(Column("", head, key) for head, key in zip(HEADS, keys, strict=True))
    lines = []
    for network, method, sparsity in kinds:
        rows = [
            row
            for key, group in found.rows.items()
            if (key.network, key.method, key.sparsity) == (network, method, sparsity)
            for row in group
        ]
        labels = (network_name(network), method_name(method), f"{sparsity:g}" if sparsity else "")
        lines.append(Line(labels, tuple(_spent_entries(spent(rows)))))
    note = "Of one run, over all its rounds; smallest to largest where the runs differ."
    return Grid("What the runs spent", ("network", "method", "sparsity"), columns, tuple(lines), (note,))


def _place(kind: tuple[str, str, float]) -> tuple[str, int, str, float]:
    network, method, sparsity = kind
    return network, ORDER.index(method) if method in ORDER else len(ORDER), method, sparsity


def _spent_entries(one: Spent) -> list[Entry]:
    ranges = (one.masked, one.overall, one.epochs, one.examples)
    return [
        NOTHING if ends is None else Entry(text, value=sum(ends) / 2)
        for text, ends in zip(one.cells(), ranges, strict=True)
    ]


def epochs_entry(rows: Iterable[Row]) -> Entry:
    """Epochs of one run over all its rounds; smallest to largest where the runs differ."""
    entry = _spent_entries(spent(rows))[2]
    return NOT_RUN if entry is NOTHING else entry


PRODUCT = TableProduct("table1", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
