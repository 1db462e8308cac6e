"""Table 6: dense networks with and without S2-SAM: parameters, test accuracy, gain.

``python -m figures.table6 RESULTS [--output DIR]``. From the dense runs in ``runs/results.csv``. Needs no
torch.
"""

from __future__ import annotations

from dataclasses import replace

from figures.finished import finished, with_paper
from figures.networks import network_name, parameters_of
from figures.results import Results
from figures.style import OPTIMIZER_NAMES
from figures.table1 import ERRORS, optimizers_of
from figures.table_product import TableProduct
from figures.tabular import NOTHING, Column, Grid, Line, number, with_best

TITLE = "Table 6: dense networks"
NETWORKS = ("torchvision-mobilenet_v2-cifar10", "torchvision-efficientnet_b0-imagenet")
GAIN = (
    "Gain: percentage points over the original optimizer with the same seeds. With one seed its error is "
    "that of two independent sets of test examples, so too wide."
)


def grids(results: Results) -> list[Grid]:
    """One grid: the paper's networks whose names are known, and all that were run."""
    found = finished(results)
    optimizers = optimizers_of(found)
    columns = (
        Column("", "parameters", "parameters"),
        *(Column("test accuracy", OPTIMIZER_NAMES.get(name, name), name) for name in optimizers),
        *(Column("gain", OPTIMIZER_NAMES.get(name, name), f"gain_{name}") for name in optimizers[1:]),
    )
    networks = [one for one in found.networks if "dense" in found.methods(one)]
    lines = []
    for network in with_paper(NETWORKS, networks):
        size = parameters_of(network)
        entries = [
            replace(number(size, ",.0f"), state="none") if size else NOTHING,  # nobody measured it
            *(found.accuracy(network, "dense", 0.0, name) for name in optimizers),
            *(found.gain(network, "dense", 0.0, name) for name in optimizers[1:]),
        ]
        lines.append(Line((network_name(network),), with_best(entries, columns, optimizers)))
    grid = Grid("Dense networks", ("network",), columns, tuple(lines), (ERRORS, GAIN, *found.notes))
    return [grid]


PRODUCT = TableProduct("table6", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
