"""Figure 3: loss surfaces of SNIP, GraSP and MEST (EM) with and without S2-SAM, in pairs.

``python -m figures.figure3 RESULTS [--output DIR]``. After Figure 3 of Ji et al., "A Single-Step,
Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate Sparse Training" (2024); see
`figures.results` for what RESULTS holds.
"""

from __future__ import annotations

from math import isnan

from matplotlib.figure import Figure

from figures import caption as captions
from figures.grid import Grid, draw_grid
from figures.product import Product, drawn
from figures.results import Cell, Results, change_of_ra
from figures.style import METHOD_NAMES, OPTIMIZER_NAMES
from landscape.surface import Surface

METHODS = ("snip", "grasp", "mest_em")
SPARSITIES = (0.9, 0.95, 0.98)
PAIR = ("sgd", "s2sam")
TITLE = "Figure 3: loss surfaces with and without S2-SAM"
WHAT = (
    "Loss surfaces of networks trained with SGD (original) and with S2-SAM: α and β across, loss (log) "
    "upwards, all on one scale. Below each pair, in bold: relative change of Ra."
)

Pair = tuple[Cell, Cell]


def table(results: Results) -> dict[str, list[Pair]]:
    """A row of pairs per method, one per sparsity."""

    def pair(method: str, sparsity: float) -> Pair:
        original, other = (results.cell(method, sparsity, optimizer) for optimizer in PAIR)
        return original, other

    return {METHOD_NAMES[method]: [pair(method, sparsity) for sparsity in SPARSITIES] for method in METHODS}


def cells(results: Results) -> list[Cell]:
    """All of them, row by row."""
    return [cell for row in table(results).values() for pair in row for cell in pair]


def draw(results: Results) -> Figure:
    """The figure; a panel without a surface names the run that is missing."""
    pairs = table(results)
    grid = Grid(
        rows={title: [cell for pair in row for cell in pair] for title, row in pairs.items()},
        groups=[(f"sparsity {sparsity:g}", 2) for sparsity in SPARSITIES],
        columns=[OPTIMIZER_NAMES[name] for name in PAIR] * len(SPARSITIES),
        below={title: [change_text(pair) for pair in row] for title, row in pairs.items()},
        height=1.0,
        zoom=1.06,
    )
    return draw_grid(grid, captions.footer(cells(results), results.network, WHAT))


def change_text(pair: Pair) -> str:
    """The relative change of Ra from the first to the second."""
    change = change_of_ra(*pair)
    return "change unknown" if isnan(change) else f"Ra {100 * change:+.1f} %".replace("-", "−")


def caption(results: Results) -> str:
    """Markdown: what, n, seeds, span, examples, points, mask, normalization; numbers of panels and pairs."""
    changes = ["| pair | change of Ra with S2-SAM |", "| --- | --- |"]
    for title, row in table(results).items():
        changes += [
            f"| {title} {pair[0].sparsity:g} | {change_text(pair).removeprefix('Ra ')} |" for pair in row
        ]
    return captions.caption(TITLE, cells(results), results.network, WHAT, changes)


def surfaces(results: Results) -> list[Surface]:
    """Those of the interactive page."""
    return drawn(cells(results))


def unlike(results: Results) -> list[str]:
    """In what the surfaces differ and mustn't."""
    return captions.unlike(cells(results))


PRODUCT = Product("figure3", TITLE, draw, caption, surfaces, unlike)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
