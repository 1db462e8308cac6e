"""Rows of checkpoints: what they store and, on request, their Hessian and sharpness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.compare_options import CompareOptions
from analysis.compare.read import checkpoint_row, row_name, sharpness_row, spectrum_row
from analysis.compare.rows import Row
from landscape.commandline.subject import Subject, subjects

if TYPE_CHECKING:
    from landscape.examples import Examples

Data = tuple[Mapping[str, "Examples"], Mapping[str, Any]]


def measure_checkpoints(paths: Sequence[Path], options: CompareOptions) -> list[Row]:
    """Rows in the order of the paths; what is computed goes to the output folder, if there is one.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing.
    """
    chosen = options.comparison
    measures = [_hessian] * chosen.hessian + [_sharpness] * chosen.sharpness
    rows = []
    for subject in subjects(paths, [row_name(path) for path in paths], options):
        row = checkpoint_row(subject.path, subject.loaded, subject.density)
        data = subject.examples() if measures else ({}, {})
        for measured in measures:
            found = measured(subject, data, options)
            row.cells = found.cells | row.cells
            row.made |= found.made
        rows.append(row)
    return rows


def _hessian(subject: Subject, data: Data, options: CompareOptions) -> Row:
    from analysis.hessian import hessian_spectrum
    from analysis.hessian.spectrum_table import to_json
    from landscape.progress import terminal_bar

    examples, about = data
    with terminal_bar(subject.name) as bar:
        spectrum = hessian_spectrum(
            subject.model,
            next(iter(examples.values())),
            **subject.arguments,
            mask_source=subject.mask_source,
            top=1,
            bottom=0,
            density_probes=0,
            path=_kept(subject, options, ".hessian.h5"),
            overwrite=options.output.overwrite,
            label=subject.name,
            about=about,
            progress=bar,
        )
    return spectrum_row(json.loads(to_json([spectrum], [subject.path]))[0])


def _sharpness(subject: Subject, data: Data, options: CompareOptions) -> Row:
    from analysis.sharpness import sharpness_file
    from analysis.sharpness.measuring import SUFFIX, KeptEntries, measure
    from landscape.workers.side_by_side import side_by_side

    kept = KeptEntries(_kept(subject, options, SUFFIX), options.output.overwrite)
    ((entry,),) = side_by_side([measure(subject, *data, options.sharpness_options(), kept)], 1)
    return sharpness_row(json.loads(sharpness_file.to_json([entry]))["results"][0])


def _kept(subject: Subject, options: CompareOptions, suffix: str) -> Path | None:
    """The file in which what is computed is kept."""
    folder = options.output.output
    return None if folder is None else folder / f"{subject.name}{suffix}"
