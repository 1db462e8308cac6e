"""Table 2: ImageNet, ResNet-50: FLOPs and test accuracy at 80 % and 90 % sparsity, with and without S2-SAM.

``python -m figures.table2 RESULTS [--output DIR]``. From runs in ``runs/results.csv``, of whatever network
has any at these sparsities; numbers published elsewhere stand in lines of their own. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from figures.finished import PAIR, Finished, finished, in_order, mean_of, with_paper
from figures.networks import method_name, network_name
from figures.published import DENSE, IMAGENET, UNSTRUCTURED, Published
from figures.results import Results
from figures.style import OPTIMIZER_NAMES
from figures.table1 import ERRORS, dense_grid
from figures.table_product import TableProduct
from figures.tabular import NOTHING, Column, Entry, Grid, Line, number, published, with_best

TITLE = "Table 2: FLOPs and test accuracy of large sparse networks"
METHODS = ("snip", "grasp", "set", "dsr", "rigl", "mest_em", "mest_ems", "chase")
SPARSITIES = (0.8, 0.9)
COUNTED = (
    "FLOPs are shares of the dense network's and of its training for as many epochs, charged for kept "
    "weights, with the passes that change masks counted as Evci et al. (2020) do; of the original optimizer, "
    "and S2-SAM's are the same."
)


def grids(results: Results) -> list[Grid]:
    """Sparse networks, and dense ones beside them."""
    found = finished(results)
    columns = tuple(
        column
        for level in SPARSITIES
        for column in (
            Column(f"{100 * level:g} % sparse", "FLOPs, an image", "flops_share"),
            Column(f"{100 * level:g} % sparse", "FLOPs, training", "training_flops_share"),
            *(Column(f"{100 * level:g} % sparse", OPTIMIZER_NAMES[name], name) for name in PAIR),
        )
    )
    lines = []
    networks = [one for one in found.networks if found.methods(one, SPARSITIES)]
    for network in with_paper((IMAGENET,), networks):
        known = found.methods(network, SPARSITIES)
        methods = in_order({*known, *(METHODS if network == IMAGENET else ())})
        lines += [_line(found, network, method, columns) for method in methods]
        lines += [_published(one) for one in UNSTRUCTURED if one.network == network]
    dense = dense_grid(found, with_paper((IMAGENET,), networks), PAIR)
    return [
        Grid(
            "Sparse networks",
            ("network", "method"),
            columns,
            tuple(lines),
            (ERRORS, COUNTED, cited(), *found.notes),
        ),
        with_published(dense, DENSE),
    ]


def _line(found: Finished, network: str, method: str, columns: Sequence[Column]) -> Line:
    entries: list[Entry] = []
    for level in SPARSITIES:
        rows = found.of(network, method, level, "sgd") or found.of(network, method, level, "s2sam")
        entries += [number(mean_of(rows, key), ".3f") for key in ("flops_share", "training_flops_share")]
        entries += [found.accuracy(network, method, level, name) for name in PAIR]
    return Line((network_name(network), method_name(method)), with_best(entries, columns, PAIR))


def _published(one: Published) -> Line:
    entries: list[Entry] = []
    for level in SPARSITIES:
        known = one.accuracy.get(level)
        entries += [replace(number(share, ".2f"), state="published") for share in one.flops[level]]
        entries += [NOTHING if known is None else published(known), NOTHING]
    return Line((network_name(one.network), f"{one.method}, published {mark(one.source)}"), tuple(entries))


def mark(source: str) -> str:
    """How a source is named in a line.

    >>> mark("README of github.com/luuyin/chase, commit 58a277f")
    '(luuyin/chase)'
    """
    return f"({source.partition('github.com/')[2].partition(',')[0]})"


def cited(lines: Sequence[Published] = UNSTRUCTURED) -> str:
    """Where published numbers come from."""
    sources = "; ".join(dict.fromkeys(one.source for one in lines))
    return f"Published numbers, in italics, aren't ours and have recipes of their own: {sources}."


def with_published(grid: Grid, lines: Sequence[Published]) -> Grid:
    """A grid of dense networks with one published line for each of `lines`."""
    more = [
        Line(
            (f"{network_name(one.network)}, published {mark(one.source)}",),
            (published(one.accuracy[""]), *(NOTHING for _ in grid.columns[1:])),
        )
        for one in lines
    ]
    return Grid(grid.title, grid.heads, grid.columns, (*grid.lines, *more), (*grid.notes, cited(lines)))


PRODUCT = TableProduct("table2", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
