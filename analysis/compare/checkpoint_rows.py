"""Rows of checkpoints: what they store and, on request, their Hessian and sharpness."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.compare.compare_options import CompareOptions
from analysis.compare.read import checkpoint_row, row_name, sharpness_row, spectrum_row
from analysis.compare.rows import Row

if TYPE_CHECKING:
    from landscape.checkpoint import LoadedCheckpoint


def measure_checkpoints(paths: Sequence[Path], options: CompareOptions) -> list[Row]:
    """Rows in the order of the paths; what is computed goes to the output folder, if there is one.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With code 130 when stopped while computing.
    """
    from landscape.commandline.command import load_network, threads
    from landscape.kept_weights import density, resolve_mask
    from landscape.parameters import moving_params

    rows = []
    with threads(options.computation.threads):
        loaded = [
            load_network(path, options.network) for path in paths
        ]  # all, before hours go into the first
        for path, one in zip(paths, loaded, strict=True):
            params = moving_params(one.model, options.network.params)
            mask, _ = resolve_mask(options.network.mask, one.mask, params)
            rows.append(checkpoint_row(path, one, density(mask) if mask else 1.0))
        for path, one, row in zip(paths, loaded, rows, strict=True):
            if options.hessian:
                _add(row, _hessian(one, path, options))
            if options.sharpness:
                _add(row, _sharpness(one, path, options))
    return rows


def _add(row: Row, found: Row) -> None:
    row.cells = found.cells | row.cells
    row.made |= found.made


def _hessian(loaded: LoadedCheckpoint, path: Path, options: CompareOptions) -> Row:
    from analysis.hessian import hessian_spectrum
    from analysis.hessian.spectrum_table import to_json
    from landscape.commandline.command import load_examples
    from landscape.kept_weights import resolve_mask
    from landscape.parameters import moving_params
    from landscape.progress import terminal_bar

    params = moving_params(loaded.model, options.network.params)
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    data, about = load_examples(loaded, options.data, device=options.computation.device)
    name, folder = row_name(path), options.output.output
    with terminal_bar(name) as bar:
        spectrum = hessian_spectrum(
            loaded.model,
            next(iter(data.values())),
            mask=mask if mask is not None else "none",
            mask_source=source,
            params=options.network.params,
            top=1,
            bottom=0,
            density_probes=0,
            batch_size=options.computation.batch_size,
            device=options.computation.device,
            dtype=options.computation.dtype,
            path=None if folder is None else folder / f"{name}.hessian.h5",
            overwrite=options.output.overwrite,
            label=name,
            about=about,
            progress=bar,
        )
    return spectrum_row(json.loads(to_json([spectrum], [path]))[0])


def _sharpness(loaded: LoadedCheckpoint, path: Path, options: CompareOptions) -> Row:
    from analysis.sharpness import sharpness_file as record
    from analysis.sharpness.__main__ import _earlier, measure

    name, folder = row_name(path), options.output.output
    chosen = options.sharpness_options()
    if folder is not None:
        target = folder / f"{name}.sharpness.json"
        chosen = replace(chosen, output=replace(chosen.output, output=target))
    (entry,) = measure(loaded, path, name, chosen, _earlier(chosen))
    return sharpness_row(json.loads(record.to_json([entry]))["results"][0])
