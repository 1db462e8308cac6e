"""The command of the figures: ``python -m figures NAME RESULTS`` and ``python -m figures.NAME RESULTS``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sharpscape
from analysis.roughness.__main__ import Parser
from figures.results import Results
from landscape.commandline.console import guarded_command, note, out
from landscape.errors import UserError, exit_with


class Writable(Protocol):
    """A figure, a table or a report: what the command needs of it."""

    @property
    def name(self) -> str:
        """Of its files."""

    def write(self, results: Results, folder: Path) -> list[Path]:
        """Every file, each in one step."""

    def unlike(self, results: Results) -> list[str]:
        """In what its surfaces differ and mustn't."""


ABOUT = """\
draw from surface files and results.csv: PDF, PNG, interactive page (.html) and caption (.md).

RESULTS holds surfaces/RUN.surface.h5, runs/results.csv and, for Figure 2, figure2/step.json.
Panels without a surface are drawn as empty frames that name the missing run.
The tables are .csv, .tex and .md; the report is RESULTS/report.md."""


@guarded_command()
def main(products: Sequence[Writable], arguments: Sequence[str] | None = None) -> None:
    """Write one product, or choose by its name, or "all", where there are several."""
    parser = Parser(
        prog=sharpscape.program("figures" if len(products) > 1 else f"figures.{products[0].name}"),
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if len(products) > 1:
        names = ["all", *(one.name for one in products)]
        parser.add_argument("figure", choices=names, help="which to draw")
    parser.add_argument("results", metavar="RESULTS", type=Path, help="folder of results")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to write (default: RESULTS/figures)"
    )
    parser.add_argument(
        "--network", help="MODEL-DATA of the runs, e.g. resnet20-cifar10; needed where there are several"
    )
    options = parser.parse_args(arguments)
    chosen = getattr(options, "figure", "all")
    wanted = [one for one in products if chosen in ("all", one.name)]
    try:
        results = Results(options.results, options.network)
    except UserError as error:
        exit_with(error)
    failed = [not _write(one, results, options.output or options.results / "figures") for one in wanted]
    if any(failed):
        raise SystemExit(2)


def _write(product: Writable, results: Results, folder: Path) -> bool:
    """Whether it could be drawn; one that can't doesn't keep others from it."""
    try:
        unlike = product.unlike(results)
        paths = product.write(results, folder)
    except UserError as error:
        note(f"error: {product.name}: {error}")
        return False
    if unlike:
        note(f"warning: {product.name}: the surfaces weren't made alike; they differ in {', '.join(unlike)}")
    for path in paths:
        out(path)
    return True
