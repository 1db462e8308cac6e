"""Figure 1: loss surfaces of GraSP and MEST (EM) as sparsity grows, trained with SGD.

``python -m figures.figure1 RESULTS [--output DIR]``. After Figure 1 of Ji et al., "A Single-Step,
Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate Sparse Training" (2024); see
`figures.results` for what RESULTS holds.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from figures import caption as captions
from figures.grid import Grid, draw_grid
from figures.product import Product, drawn
from figures.results import Cell, Results
from figures.style import METHOD_NAMES
from landscape.surface import Surface

METHODS = ("grasp", "mest_em")
SPARSITIES = (0.8, 0.9, 0.95, 0.98)
TITLE = "Figure 1: loss surfaces over sparsity"
WHAT = "Loss surfaces of networks trained with SGD: α and β across, loss (log) upwards, all on one scale."


def table(results: Results) -> dict[str, list[Cell]]:
    """A row of cells per method, one per sparsity."""
    return {
        METHOD_NAMES[method]: [results.cell(method, sparsity, "sgd") for sparsity in SPARSITIES]
        for method in METHODS
    }


def cells(results: Results) -> list[Cell]:
    """All of them, row by row."""
    return [cell for row in table(results).values() for cell in row]


def draw(results: Results) -> Figure:
    """The figure; a panel without a surface names the run that is missing."""
    groups = [(f"sparsity {sparsity:g}", 1) for sparsity in SPARSITIES]
    grid = Grid(table(results), groups, columns=(), below={}, height=1.42, zoom=1.1)
    return draw_grid(grid, captions.footer(cells(results), results.network, WHAT))


def caption(results: Results) -> str:
    """Markdown: what, n, seeds, span, examples, points, mask, normalization; every panel's numbers."""
    return captions.caption(TITLE, cells(results), results.network, WHAT)


def surfaces(results: Results) -> list[Surface]:
    """Those of the interactive page."""
    return drawn(cells(results))


def unlike(results: Results) -> list[str]:
    """In what the surfaces differ and mustn't."""
    return captions.unlike(cells(results))


PRODUCT = Product("figure1", TITLE, draw, caption, surfaces, unlike)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
