"""The command ``python -m analysis.compare``: files of many networks in, one table out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.compare.compare_options import CompareOptions
from analysis.compare.comparison_table import paired_table, table, to_csv, to_json, to_latex
from analysis.compare.pairs import Comparison, compare_pairs, find_pairs
from analysis.compare.read import is_checkpoint, read_results
from analysis.compare.rows import Row, disagreements, merge
from landscape.commandline.command import run_command
from landscape.commandline.console import note, terminal
from landscape.commandline.outputs import write_texts
from landscape.commandline.subject import computing
from landscape.errors import UserError

ABOUT = """Compare trained networks: accuracy, sparsity, Ra, λmax, trace, sharpness and accuracy on corrupted
images, with 95 % intervals.

Files of the same network (told by the checkpoint's digest, else by name) become one line. Checkpoints give
accuracy and sparsity; surface files Ra; JSON and HDF5 of the other commands what they hold.
"""

EPILOGUE = """Examples:

- Two checkpoints, their surfaces and their sharpness in one table:\\
  `python -m analysis.compare a.pt b.pt surfaces/*.surface.h5 sharpness.json`
- Many runs, tested in pairs that differ in the optimizer only, for a paper:\\
  `python -m analysis.compare runs/*/final.pt surfaces/*.h5 --pair sgd s2sam --latex table.tex`
- Compute what is missing:\\
  `python -m analysis.compare a.pt b.pt --hessian --sharpness --measures sam asam -o measured`

Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""
_SHOWN = 3  # differing values per line of a warning


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print; bad input is one line and exit code 2."""
    run_command("analysis.compare", ABOUT, EPILOGUE, compare_files, arguments)


def compare_files(
    files: list[Path],
    /,
    *,
    options: CompareOptions = CompareOptions(),  # noqa: B008
) -> tuple[list[Row], list[Comparison]]:
    """Compare networks.

    Parameters
    ----------
    files
        Checkpoints, surface files, results of analysis.hessian (HDF5, JSON), analysis.robustness (HDF5),
        analysis.sharpness and analysis.roughness (JSON).

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing.
    """
    options.check(files)
    files = list(dict.fromkeys(files))
    checkpoints = [path for path in files if is_checkpoint(path)]
    chosen = options.comparison
    if (chosen.hessian or chosen.sharpness) and not checkpoints:
        raise UserError("--hessian and --sharpness measure checkpoints, and none is given")
    with computing(options.computation.threads if checkpoints else None, options.output):
        results = {path: read_results(path) for path in files if not is_checkpoint(path)}
        measured = {}
        if checkpoints:
            from analysis.compare.checkpoint_rows import measure_checkpoints

            measured = dict(zip(checkpoints, measure_checkpoints(checkpoints, options), strict=True))
        rows = merge(
            row for path in files for row in ([measured[path]] if path in measured else results[path])
        )
        tests = compare_pairs(find_pairs(rows, *chosen.pair), chosen.test_seed) if chosen.pair else []
        _warn(rows)
        _write(rows, tests, options)
    return rows, tests


def _warn(rows: Sequence[Row]) -> None:
    found = disagreements(rows)
    if found:
        parts = [
            f"{name} {' / '.join(values[:_SHOWN])}{' / …' if len(values) > _SHOWN else ''}"
            for name, values in found.items()
        ]
        note(f"warning: not measured alike, compare with care: {'; '.join(parts)}")


def _write(rows: Sequence[Row], tests: Sequence[Comparison], options: CompareOptions) -> None:
    words, output = options.comparison.pair or (), options.output
    printed = write_texts(
        [
            (output.csv, lambda: to_csv(rows)),
            (output.latex, lambda: to_latex(rows, tests, words)),
            (output.json, lambda: to_json(rows, tests, words)),
        ]
    )
    if not printed:
        _print_tables(rows, tests, words)


def _print_tables(rows: Sequence[Row], tests: Sequence[Comparison], words: tuple[str, ...]) -> None:
    console = terminal()
    console.print(table(rows))
    if tests:
        console.print(paired_table(tests, words[0], words[1]))


if __name__ == "__main__":
    main()
