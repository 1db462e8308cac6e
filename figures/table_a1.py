"""Table A.1: test accuracy by distribution of the kept weights over the layers, uniform and ERK.

``python -m figures.table_a1 RESULTS [--output DIR]``. From the runs in ``runs/results.csv``: a run that has
another distribution than its method's own says so in its name (``rigl_uniform``). Needs no torch.
"""

from __future__ import annotations

from figures.finished import PAIR, finished, with_paper
from figures.networks import DISTRIBUTION_NAMES, DISTRIBUTIONS, SMALL, network_name, split_method
from figures.results import Results
from figures.style import METHOD_NAMES, OPTIMIZER_NAMES
from figures.table1 import ERRORS, SPARSITIES
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, Column, Grid, Line, with_best

TITLE = "Table A.1: test accuracy by distribution over the layers"
METHODS = ("set", "rigl", "mest_em", "mest_ems")
KINDS = ("uniform", "erk")
NETWORKS = SMALL[:1]


def grids(results: Results) -> list[Grid]:
    """One grid; a method's lines stand together."""
    found = finished(results)
    columns = tuple(
        Column(f"{100 * level:g} % sparse", OPTIMIZER_NAMES[name], name)
        for level in SPARSITIES
        for name in PAIR
    )
    lines = []
    networks = [one for one in found.networks if any(split_method(name)[1] for name in found.methods(one))]
    for network in with_paper(NETWORKS, networks):
        known = {split_method(name) for name in found.methods(network)}
        if not any(kind for _, kind in known):
            empty = (NOT_RUN,) * len(columns)
            lines.append(Line((network_name(network), "all methods", "uniform and ERK"), empty))
            continue
        pairs = {(base, kind) for base, kind in known if kind}
        pairs |= {(base, kind) for base in METHODS for kind in KINDS}
        for base, kind in sorted(pairs, key=_place):
            method = base if DISTRIBUTIONS.get(base) == kind else f"{base}_{kind}"
            entries = [found.accuracy(network, method, level, name) for level in SPARSITIES for name in PAIR]
            labels = (network_name(network), METHOD_NAMES.get(base, base), DISTRIBUTION_NAMES[kind])
            lines.append(Line(labels, with_best(entries, columns, PAIR)))
    heads = ("network", "method", "distribution")
    return [Grid("Distributions", heads, columns, tuple(lines), (ERRORS, *found.notes))]


def _place(pair: tuple[str, str]) -> tuple[int, str, int]:
    base, kind = pair
    order = list(METHOD_NAMES)
    return (order.index(base) if base in order else len(order)), base, list(DISTRIBUTION_NAMES).index(kind)


PRODUCT = TableProduct("table_a1", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
