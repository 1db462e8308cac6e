"""The command ``python -m analysis.roughness``; argparse and little else, since it must start at once."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import sharpscape
from analysis.roughness import UNSURE, Roughness, roughness
from analysis.roughness.conventions import conventions, differences
from analysis.roughness.roughness_table import Row, caption, differences_table, table, to_csv, to_json
from landscape.commandline.console import guarded_command, note, terminal
from landscape.commandline.outputs import check_text_outputs
from landscape.errors import UserError, exit_with
from landscape.files import atomic_path
from landscape.surface import Surface, load_surface

EXAMPLES = """\
examples:
  python -m analysis.roughness a.surface.h5 b.surface.h5
      compare two surfaces in a table; says so when they weren't made alike
  python -m analysis.roughness *.surface.h5 --span 0.5 --csv roughness.csv
      the inner square only, for a spreadsheet
  python -m analysis.roughness a.surface.h5 --split test --json
      everything that is known, for a program
"""


class Parser(argparse.ArgumentParser):
    """Errors in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        exit_with(f"{message}; see --help")


@guarded_command()
def run(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    try:
        options = _parser().parse_args(arguments)
        _check_outputs(options)
        rows = _rows(options)
        _warn(rows)
        for path, text in ((options.json, to_json), (options.csv, to_csv)):
            if path is not None:
                _write(path, text(rows))
        if "-" not in (options.json, options.csv):
            _print_table(rows, log=options.log)
    except UserError as error:
        exit_with(error)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=sharpscape.program("analysis.roughness"),
        description="Roughness of loss surfaces: Ra and its siblings (ISO 25178-2) with 95 % intervals\n"
        "over examples and direction seeds, of the loss and of log loss.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("surfaces", nargs="+", metavar="FILE", help="surface files (.surface.h5)")
    what = parser.add_argument_group("what to measure")
    what.add_argument("--split", help="only this set of examples (default: every one in the files)")
    what.add_argument(
        "--span", type=float, help="only the square |alpha|, |beta| <= SPAN (default: the whole grid)"
    )
    what.add_argument(
        "--reference",
        choices=("mean", "plane"),
        default="mean",
        help="heights above the mean or the least-squares plane (default: %(default)s)",
    )
    what.add_argument("--log", action="store_true", help="show log loss in the table (default: loss)")
    output = parser.add_argument_group("output (default: a table on the terminal)")
    output.add_argument(
        "--json", nargs="?", const="-", metavar="PATH", help="write JSON to PATH, or print it without a PATH"
    )
    output.add_argument(
        "--csv", nargs="?", const="-", metavar="PATH", help="write CSV to PATH, or print it without a PATH"
    )
    return parser


def _check_outputs(options: argparse.Namespace) -> None:
    """`--json a.surface.h5` reads as a path to write: never overwrite a surface with a report."""
    outputs = {"--json": options.json, "--csv": options.csv}
    for name, path in outputs.items():
        if path is not None and Path(path).suffix in (".h5", ".hdf5"):
            raise UserError(
                f"{name} {path} would overwrite a surface file; write {name}=- or put {name} last"
            )
    check_text_outputs(outputs, options.surfaces)


def _rows(options: argparse.Namespace) -> list[Row]:
    surfaces = {path: load_surface(path) for path in dict.fromkeys(options.surfaces)}
    repeated = Counter(surface.label for surface in surfaces.values())
    rows = []
    for path, surface in surfaces.items():
        name = surface.label if repeated[surface.label] == 1 else f"{surface.label} ({path})"
        for split in [options.split] if options.split else surface.splits:
            loss = roughness(surface, split=split, reference=options.reference, span=options.span)
            log_loss = _log_roughness(surface, split, options)
            made = conventions(surface, split)
            rows.append(Row(name, path, loss, log_loss, made, surface.complete))
    return rows


def _log_roughness(surface: Surface, split: str, options: argparse.Namespace) -> Roughness | None:
    try:
        return roughness(surface, split=split, log=True, reference=options.reference, span=options.span)
    except UserError:  # a loss that isn't positive: the loss itself has just been measured without error
        return None


def _warn(rows: Sequence[Row]) -> None:
    """A line for what keeps the numbers from being trusted, and one for what keeps them from comparison."""
    unfinished = list(dict.fromkeys(row.name for row in rows if not row.complete))
    if unfinished:
        note(f"warning: unfinished, interpolated so far: {', '.join(unfinished)}")
    unsure = list(dict.fromkeys(row.name for row in rows if row.loss.unsure))
    if unsure:
        print(
            f"warning: Ra may be off by more than {UNSURE:.0%} where points are interpolated: "
            f"{', '.join(unsure)}; "
            "compute that square itself, with more points",
            file=sys.stderr,
        )
    found: dict[str, list[str]] = {}
    for split in dict.fromkeys(row.loss.split for row in rows):
        found |= differences([row.made for row in rows if row.loss.split == split])
    if found:
        parts = "; ".join(f"{name} {' / '.join(values)}" for name, values in found.items())
        note(f"warning: these surfaces weren't made alike, compare with care: {parts}")


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _print_table(rows: Sequence[Row], *, log: bool) -> None:
    console = terminal()
    wide = table(rows, log=log)
    brief = console.measure(wide, options=console.options.update(width=1_000)).maximum > console.width
    console.print(table(rows, log=log, brief=True) if brief else wide)
    if brief:
        console.print("[dim]more metrics in a wider terminal, and with --json or --csv[/dim]")
    console.print(caption(rows), highlight=False, markup=False)
    differing = differences_table(rows)
    if differing is not None:
        console.print(differing)


if __name__ == "__main__":
    run()
