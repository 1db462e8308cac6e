"""The command ``python -m analysis.sharpness``: checkpoints in; a table, JSON and CSV out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.sharpness import MEASURES, Objective
from analysis.sharpness import sharpness_file as record
from analysis.sharpness.sharpness_file import Entry
from analysis.sharpness.sharpness_options import SharpnessOptions
from analysis.sharpness.sharpness_table import table, to_csv
from landscape.checks.identity import Functions, check_same
from landscape.commandline.command import (
    distinct_names,
    load_examples,
    load_network,
    run_command,
    say,
    threads,
)
from landscape.commandline.console import terminal
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.keeping.settings import FUNCTIONS, result_difference
from landscape.losses import classification
from landscape.progress import counted, terminal_bar

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.checkpoint import LoadedCheckpoint
    from landscape.examples import Examples
    from landscape.parameters import Moving

ABOUT = """Sharpness of trained networks, each measure with its paper, its error and whether it is a bound.

Perturbations are exactly zero where a network is pruned. Measures: {names}.
"""

EPILOGUE = """Examples:

- Every measure of one network on 1,000 training examples:\\
  `python -m analysis.sharpness net.pt`
- SAM's and ASAM's of two networks, kept while computing and again for a spreadsheet:\\
  `python -m analysis.sharpness a.pt b.pt --measures sam asam -o sharp.json --csv sharp.csv`
- A larger ball, searched longer:\\
  `python -m analysis.sharpness net.pt --measures sam_ascent --rho 0.1 --steps 50 --starts 5`

With --output, a run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print; bad input is one line and exit code 2."""

    def command(checkpoints: list[Path], /, *, options: SharpnessOptions = SharpnessOptions()) -> None:  # noqa: B008
        """Measure sharpness.

        Parameters
        ----------
        checkpoints
            Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.
        """
        run(checkpoints, options)

    run_command("analysis.sharpness", ABOUT.format(names=", ".join(MEASURES)), EPILOGUE, command, arguments)


def run(checkpoints: Sequence[Path], options: SharpnessOptions) -> list[Entry]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With code 130 when stopped while computing; finished measures are in the output file.
    """
    options.check(checkpoints)
    names = distinct_names(checkpoints)
    with threads(options.computation.threads):
        # All of them, before hours go into the first.
        networks = [load_network(path, options.network) for path in checkpoints]
        entries: list[Entry] = []
        results = _earlier(options)
        for loaded, path, name in zip(networks, checkpoints, names, strict=True):
            entries += measure(loaded, path, name, options, results)
    _write(entries, results, options)
    return entries


def measure(
    loaded: LoadedCheckpoint,
    path: Path,
    name: str,
    options: SharpnessOptions,
    results: dict[tuple[str, str], Entry],
) -> list[Entry]:
    """Every chosen measure of one checkpoint, an entry per split.

    Goes on with what `results` has, by checkpoint digest and split, and keeps it up to date.
    """
    from landscape.kept_weights import density, resolve_mask
    from landscape.parameters import moving_params

    params = moving_params(loaded.model, options.network.params)
    functions = Functions(loaded.model, classification)
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    data, about = load_examples(loaded, options.data, device=options.computation.device)
    facts = about | {"mask": source, "density": density(mask) if mask else 1.0} | params.about()
    done: list[Entry] = []
    for split, examples in data.items():
        settings = _settings(options, mask, params, examples, functions)
        fresh = Entry(name, str(path), loaded.sha256, split, settings, dict(facts))
        key = loaded.sha256, split
        entry = results[key] = _continued(
            None if options.output.overwrite else results.get(key), fresh, options
        )
        left = [one for one in options.chosen.names() if one not in entry.measures]
        if left or entry.measures:
            objective = _objective(loaded, examples, mask, options)
            _check_centre(entry, objective, options)
        if left:
            entry.about |= {"kept_weights": objective.size, "loss": objective.center.mean("loss")}
            _compute(objective, entry, left, options, results)
        done.append(entry)
    return done


def _check_centre(entry: Entry, objective: Objective, options: SharpnessOptions) -> None:
    """Compare earlier measures' loss at the weights with what it is now; UserError for another."""
    known = entry.about.get("loss")
    if entry.measures and isinstance(known, int | float):
        what = f"{options.output.output}: the loss of {entry.name} at the weights"
        now = objective.center.mean("loss")
        check_same(what, known, now, options.computation.dtype, advice="overwrite it with --overwrite")


def _objective(
    loaded: LoadedCheckpoint, examples: Examples, mask: Mapping[str, Tensor] | None, options: SharpnessOptions
) -> Objective:
    computation = options.computation
    return Objective(
        loaded.model,
        examples,
        mask=mask,
        params=options.network.params,
        batch_size=computation.batch_size,
        device=computation.device,
        dtype=computation.dtype,
    )


def _settings(
    options: SharpnessOptions,
    mask: Mapping[str, Tensor] | None,
    params: Moving,
    examples: Examples,
    functions: Functions,
) -> dict[str, Any]:
    from landscape.provenance import digest

    return {
        **asdict(options.chosen.settings()),
        "examples": examples.digest(),
        "mask": digest(mask) if mask else None,
        **params.settings(),
        FUNCTIONS: functions.about(),
        "dtype": options.computation.dtype,
    }


def _earlier(options: SharpnessOptions) -> dict[tuple[str, str], Entry]:
    """What the output file holds, by checkpoint digest and split; probes that it can be written."""
    target = options.output.output
    if target is None:
        return {}
    if not target.exists():
        record.save([], target)
    try:
        found = record.load(target)
    except UserError:
        if not options.output.overwrite:
            raise
        found = []
    return {(one.sha256, one.split): one for one in found}


def _continued(found: Entry | None, fresh: Entry, options: SharpnessOptions) -> Entry:
    """`fresh` with the measures that were found, if they were measured alike."""
    if found is None:
        return fresh
    used = {"examples", "mask", "dtype", "params"}.union(
        *(MEASURES[name].uses for name in found.measures if name in MEASURES)
    )
    differing = [key for key in used if found.settings.get(key) != fresh.settings.get(key)]
    if differing:
        parts = ", ".join(
            f"{key} {found.settings.get(key)} there, {fresh.settings.get(key)} now"
            for key in sorted(differing)
        )
        raise UserError(
            f"{options.output.output} holds {fresh.name} with other settings ({parts}); "
            "name another --output, or give --overwrite"
        )
    keys = (FUNCTIONS,)
    functions = result_difference(*({key: one.settings.get(key) for key in keys} for one in (found, fresh)))
    if functions is not None:
        raise UserError(
            f"{options.output.output} holds {fresh.name} with other functions ({functions}); "
            "name another --output, or give --overwrite"
        )
    known = [one for one in options.chosen.names() if one in found.measures]
    if known:
        say(f"{fresh.name}, {fresh.split}: {', '.join(known)} from {options.output.output}")
    fresh.measures.update(found.measures)
    fresh.about = found.about | fresh.about
    return fresh


def _compute(
    objective: Objective,
    entry: Entry,
    left: Sequence[str],
    options: SharpnessOptions,
    results: Mapping[tuple[str, str], Entry],
) -> None:
    settings, target = options.chosen.settings(), options.output.output
    expected = sum(MEASURES[name].passes(settings) for name in left)
    try:
        with terminal_bar(entry.name) as bar:
            objective.listener = counted(bar, expected)
            for name in left:
                entry.measures[name] = MEASURES[name].compute(objective, settings)
                if target is not None:
                    record.save(list(results.values()), target)
    except KeyboardInterrupt:
        kept = "nothing is kept without --output"
        if target is not None:
            kept = f"{target} keeps what was finished; give the same command to go on"
        wanted = options.chosen.names()
        finished = sum(name in entry.measures for name in wanted)
        say(f"stopped after {finished} of {len(wanted)} measures of {entry.name}; {kept}")
        raise SystemExit(130) from None


def _write(
    entries: Sequence[Entry], results: Mapping[tuple[str, str], Entry], options: SharpnessOptions
) -> None:
    output = options.output
    if output.output is not None:
        record.save(list(results.values()), output.output)
    for path, form in ((output.json, record.to_json), (output.csv, to_csv)):
        if path == "-":
            sys.stdout.write(form(entries))
        elif path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(form(entries), encoding="utf-8", errors="backslashreplace")
    if "-" not in (output.json, output.csv):
        print_table(entries)
    for written in (output.output, output.json, output.csv):
        if written is not None and str(written) != "-":
            say(f"wrote {written}")


def print_table(entries: Sequence[Entry]) -> None:
    """On standard output."""
    terminal().print(table(entries))


if __name__ == "__main__":
    main()
