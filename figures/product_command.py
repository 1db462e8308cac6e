"""The command of the figures: ``python -m figures NAME RESULTS`` and ``python -m figures.NAME RESULTS``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

from cyclopts import Parameter

from figures.results import Results
from landscape.commandline.command import run_command
from landscape.commandline.console import note, out
from landscape.commandline.options import OUTPUT, shown
from landscape.errors import UserError


class Writable(Protocol):
    """A figure, a table or a report: what the command needs of it."""

    @property
    def name(self) -> str:
        """Of its files."""

    def write(self, results: Results, folder: Path) -> list[Path]:
        """Every file, each in one step."""

    def unlike(self, results: Results) -> list[str]:
        """In what its surfaces differ and mustn't."""


ABOUT = """Draw from surface files and results.csv: PDF, PNG, interactive page (.html) and caption (.md).

RESULTS holds surfaces/RUN.surface.h5, runs/results.csv and, for Figure 2, figure2/step.json. Panels without a
surface are drawn as empty frames that name the missing run. The tables are .csv, .tex and .md; the report is
RESULTS/report.md.
"""

Folder = Annotated[Path, Parameter(name="RESULTS", help="Folder of results.")]
Output = Annotated[
    Path | None, shown("RESULTS/figures", name=["--output", "-o"], group=OUTPUT, help="Where to write.")
]
Network = Annotated[
    str | None,
    shown("the only one", help="MODEL-DATA of the runs, as `resnet20-cifar10`, where there are several."),
]


def main(products: Sequence[Writable], arguments: Sequence[str] | None = None) -> None:
    """Write one product, or choose by its name, or "all", where there are several."""
    names = ["all", *(one.name for one in products)]

    def draw(results: Folder, /, *, output: Output = None, network: Network = None) -> None:
        """Draw it."""
        _draw(products, results, output, network)

    def choose(
        figure: Annotated[str, Parameter(name="FIGURE", help="Which to draw, or `all`.")],
        results: Folder,
        /,
        *,
        output: Output = None,
        network: Network = None,
    ) -> None:
        """Draw one, or all."""
        if figure not in names:
            raise UserError(f"no figure {figure!r}; expected one of {', '.join(names)}")
        _draw([one for one in products if figure in ("all", one.name)], results, output, network)

    several = len(products) > 1
    module = "figures" if several else f"figures.{products[0].name}"
    about = f"{ABOUT}\nFigures: {', '.join(names)}.\n" if several else ABOUT
    run_command(module, about, "", choose if several else draw, arguments)


def _draw(products: Sequence[Writable], folder: Path, output: Path | None, network: str | None) -> None:
    results = Results(folder, network)
    failed = [not _write(one, results, output or folder / "figures") for one in products]
    if any(failed):
        raise SystemExit(2)


def _write(product: Writable, results: Results, folder: Path) -> bool:
    """Whether it could be drawn; one that can't doesn't keep others from it."""
    try:
        unlike = product.unlike(results)
        paths = product.write(results, folder)
    except (UserError, OverflowError, OSError) as error:
        note(f"error: {product.name}: {error}")
        return False
    if unlike:
        note(f"warning: {product.name}: the surfaces weren't made alike; they differ in {', '.join(unlike)}")
    for path in paths:
        out(path)
    return True
