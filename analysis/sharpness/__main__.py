"""The command ``python -m analysis.sharpness``: checkpoints in; a table, JSON and CSV out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from analysis.sharpness import MEASURES, sharpness_file
from analysis.sharpness.measuring import SUFFIX, KeptEntries, measure
from analysis.sharpness.sharpness_file import Entry
from analysis.sharpness.sharpness_options import SharpnessOptions
from analysis.sharpness.sharpness_table import table, to_csv
from landscape.commandline.cluster_options import working
from landscape.commandline.command import run_command
from landscape.commandline.console import terminal
from landscape.commandline.outputs import say_written, write_texts
from landscape.commandline.results import distinct_names, result_paths
from landscape.commandline.subject import computing, subjects
from landscape.workers.side_by_side import side_by_side

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

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print; bad input is one line and exit code 2."""
    about = ABOUT.format(names=", ".join(MEASURES))
    run_command("analysis.sharpness", about, EPILOGUE, measure_sharpness, arguments)


def measure_sharpness(
    checkpoints: list[Path],
    /,
    *,
    options: SharpnessOptions = SharpnessOptions(),  # noqa: B008
) -> list[Entry]:
    """Measure sharpness.

    Parameters
    ----------
    checkpoints
        Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing; finished measures are in the
        output file.
    """
    options.check(checkpoints)
    names, output = distinct_names(checkpoints), options.output
    shared = output.output is not None and output.output.suffix == ".json" and not output.output.is_dir()
    paths = result_paths(["all"] if shared else names, output.output, "sharpness", SUFFIX)
    with computing(options.computation.threads, output):
        networks = subjects(checkpoints, names, options)
        files = {path: KeptEntries(path, output.overwrite) for path in paths}
        places = zip(networks, paths * len(names) if shared else paths, strict=True)
        with working(options.cluster, options.computation.threads) as cluster, ExitStack() as stack:
            for file in files.values() if cluster is not None else ():
                stack.enter_context(file.alone())  # several checkpoints of one file at a time
            works = (
                measure(subject, *subject.examples(), options, files[path], cluster)
                for subject, path in places
            )
            found = side_by_side(works, 1 if cluster is None else cluster.width() + 1)
        entries = [one for several in found for one in several]
        _write(entries, paths, options)
    return entries


def _write(entries: Sequence[Entry], paths: Sequence[Path], options: SharpnessOptions) -> None:
    json, csv = options.output.json, options.output.csv
    texts = [(json, lambda: sharpness_file.to_json(entries)), (csv, lambda: to_csv(entries))]
    if not write_texts(texts):
        terminal().print(table(entries))
    say_written([*paths, json, csv])


if __name__ == "__main__":
    main()
