"""The command ``python -m analysis.hessian``: checkpoints in; a table, HDF5 files, JSON and a plot out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.hessian.hessian_options import HessianOptions
from landscape.commandline.cluster_options import working
from landscape.commandline.command import run_command
from landscape.commandline.outputs import say_written, write_texts
from landscape.commandline.results import both, distinct_names, prepare_folder, result_paths, resuming
from landscape.commandline.subject import Subject, computing, subjects
from landscape.progress import terminal_bar
from landscape.workers.side_by_side import Steps, side_by_side

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from analysis.hessian.result import Spectrum
    from landscape.examples import Examples

SUFFIX = ".hessian.h5"

ABOUT = """Eigenvalues, trace, Frobenius norm and spectral density of trained networks' Hessians.

Of the mean loss in evaluation mode, every example counting the same; on the kept weights of a sparse network.
"""

EPILOGUE = """Examples:

- Five largest and the smallest eigenvalue, trace, norm and density, on 1,000 training examples:\\
  `python -m analysis.hessian net.pt`
- Two networks, the eigenvalues and traces alone, on 512 examples each:\\
  `python -m analysis.hessian a.pt b.pt --density-probes 0 --examples 512`
- A finer density with its picture, and everything for a program:\\
  `python -m analysis.hessian net.pt --density-probes 10 --density-steps 80 --plot net.pdf --json net.json`
- In the full space of a sparse network, eigenvectors kept for planes through them:\\
  `python -m analysis.hessian net.pt --mask none --keep-vectors -o full`

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute, print the table; bad input is one line and exit code 2."""

    def command(checkpoints: list[Path], /, *, options: HessianOptions = HessianOptions()) -> None:  # noqa: B008
        """Compute spectra.

        Parameters
        ----------
        checkpoints
            Ours, a state_dict (bare or wrapped), safetensors or TorchScript. Several are compared.
        """
        compute_spectra(checkpoints, options)

    run_command("analysis.hessian", ABOUT, EPILOGUE, command, arguments)


def compute_spectra(checkpoints: Sequence[Path], options: HessianOptions) -> list[Spectrum]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing; a line says how to go on.
    """
    options.check(checkpoints)
    names, splits = distinct_names(checkpoints), options.data.splits
    parts = [f".{split}" if len(splits) > 1 else "" for split in splits]
    results = [f"{name}{part}" for name in names for part in parts]
    paths = result_paths(results, options.output.output, "hessians", SUFFIX)
    with computing(options.computation.threads, options.output):
        networks = subjects(checkpoints, names, options)
        with working(options.cluster, options.computation.threads) as cluster:
            works = _works(networks, paths, options, cluster)
            found = side_by_side(works, 1 if cluster is None else cluster.width() + 1)
        _report(found, paths, options)
    return found


def _works(
    networks: Sequence[Subject], paths: Sequence[Path], options: HessianOptions, cluster: Executor | None
) -> Iterator[Steps[Spectrum]]:
    """A computation for each network and split, begun when it is asked for."""
    left = iter(paths)
    for subject in networks:
        data, about = subject.examples()
        for split, examples in data.items():
            label = subject.name if len(data) == 1 else f"{subject.name} {split}"
            yield _compute(subject, examples, label, next(left), options, about | {"split": split}, cluster)


def _compute(
    subject: Subject,
    examples: Examples,
    label: str,
    target: Path,
    options: HessianOptions,
    about: dict[str, Any],
    cluster: Executor | None,
) -> Steps[Spectrum]:
    from analysis.hessian.lanczos import Wanted
    from analysis.hessian.spectrum import spectrum_steps
    from analysis.hessian.spectrum_run import Plan
    from landscape.keeping.partial import state_path

    prepare_folder(target)
    chosen, output = options.spectrum, options.output
    wanted = Wanted(chosen.top, chosen.bottom, chosen.tolerance, chosen.max_products)
    others = {name: value for name, value in asdict(chosen).items() if not hasattr(wanted, name)}
    with (
        resuming(target, "products", overwrite=output.overwrite, state=state_path(target)) as listener,
        nullcontext() if cluster is not None else terminal_bar(label) as bar,
    ):
        return (
            yield from spectrum_steps(
                subject.model,
                examples,
                **subject.arguments,
                plan=Plan(wanted, **others),
                mask_source=subject.mask_source,
                memory=options.computation.memory_bytes,
                path=target,
                overwrite=output.overwrite,
                keep_vectors=output.keep_vectors,
                label=label,
                about=about,
                progress=both(listener, bar),
                executor=cluster,
            )
        )


def _report(found: Sequence[Spectrum], paths: Sequence[Path], options: HessianOptions) -> None:
    from analysis.hessian.spectrum_table import print_table, to_json

    json, plot = options.output.json, options.output.plot
    printed = write_texts([(json, lambda: to_json(found, paths))])
    if plot is not None:
        from analysis.hessian.plot import plot_densities, save_plot

        save_plot(plot_densities(found), plot)
    if not printed:
        print_table(found)
    say_written([*paths, json, plot])


if __name__ == "__main__":
    main()
