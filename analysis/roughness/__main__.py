"""The command ``python -m analysis.roughness``: surface files in; a table, JSON and CSV out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from analysis.roughness import UNSURE, Roughness, roughness
from analysis.roughness.conventions import conventions, differences
from analysis.roughness.roughness_options import MeasureOptions, RoughnessOptions, TextOutput
from analysis.roughness.roughness_table import Row, caption, differences_table, table, to_csv, to_json
from landscape.commandline.command import run_command
from landscape.commandline.console import note, terminal
from landscape.commandline.outputs import check_text_outputs, write_texts
from landscape.errors import UserError
from landscape.surface import Surface, load_surface

ABOUT = """Roughness of loss surfaces: Ra and its siblings (ISO 25178-2) with 95 % intervals.

Over examples and direction seeds, of the loss and of log loss.
"""

EPILOGUE = """Examples:

- Compare two surfaces in a table; says so when they weren't made alike:\\
  `python -m analysis.roughness a.surface.h5 b.surface.h5`
- The inner square only, for a spreadsheet:\\
  `python -m analysis.roughness *.surface.h5 --span 0.5 --csv roughness.csv`
- Everything that is known, for a program:\\
  `python -m analysis.roughness a.surface.h5 --split test --json`
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print; bad input is one line and exit code 2."""

    def command(
        surfaces: Annotated[list[str], Parameter(name="FILE")],
        /,
        *,
        options: RoughnessOptions = RoughnessOptions(),  # noqa: B008
    ) -> None:
        """Measure roughness.

        Parameters
        ----------
        surfaces
            Surface files (`.surface.h5`).
        """
        output = options.output
        _check_outputs(output, surfaces)
        rows = _rows(surfaces, options.measure)
        _warn(rows)
        texts = [(output.json, lambda: to_json(rows)), (output.csv, lambda: to_csv(rows))]
        if not write_texts(texts):
            _print_table(rows, log=options.measure.log)

    run_command("analysis.roughness", ABOUT, EPILOGUE, command, arguments)


def _check_outputs(output: TextOutput, surfaces: Sequence[str]) -> None:
    """`--json a.surface.h5` reads as a path to write: never overwrite a surface with a report."""
    outputs = {"--json": output.json, "--csv": output.csv}
    for name, path in outputs.items():
        if path is not None and Path(path).suffix in (".h5", ".hdf5"):
            raise UserError(
                f"{name} {path} would overwrite a surface file; write {name}=- or put {name} last"
            )
    check_text_outputs(outputs, surfaces)


def _rows(paths: Sequence[str], options: MeasureOptions) -> list[Row]:
    surfaces = {path: load_surface(path) for path in dict.fromkeys(paths)}
    repeated = Counter(surface.label for surface in surfaces.values())
    rows = []
    for path, surface in surfaces.items():
        name = surface.label if repeated[surface.label] == 1 else f"{surface.label} ({path})"
        for split in [options.split] if options.split else surface.splits:
            loss = roughness(surface, split=split, reference=options.reference, span=options.span)
            log_loss = _log_roughness(surface, split, options)
            made = conventions(surface, split)
            rows.append(Row(name, path, loss, log_loss, made, surface.complete, _digest(surface)))
    return rows


def _digest(surface: Surface) -> str:
    checkpoint = surface.about.get("checkpoint")
    return str(checkpoint.get("sha256") or "") if isinstance(checkpoint, Mapping) else ""


def _log_roughness(surface: Surface, split: str, options: MeasureOptions) -> Roughness | None:
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
        note(
            f"warning: Ra may be off by more than {UNSURE:.0%} where points are interpolated: "
            f"{', '.join(unsure)}; compute that square itself, with more points"
        )
    found: dict[str, list[str]] = {}
    for split in dict.fromkeys(row.loss.split for row in rows):
        found |= differences([row.made for row in rows if row.loss.split == split])
    if found:
        parts = "; ".join(f"{name} {' / '.join(values)}" for name, values in found.items())
        note(f"warning: these surfaces weren't made alike, compare with care: {parts}")


def _print_table(rows: Sequence[Row], *, log: bool) -> None:
    console = terminal()
    wide = table(rows, log=log)
    brief = console.measure(wide, options=console.options.update(width=1_000)).maximum > console.width
    console.print(table(rows, log=log, brief=True) if brief else wide)
    if brief:
        console.print("more metrics in a wider terminal, and with --json or --csv", style="dim")
    console.print(caption(rows), highlight=False, markup=False)
    differing = differences_table(rows)
    if differing is not None:
        console.print(differing)


if __name__ == "__main__":
    main()
