"""The command ``python -m analysis.hessian``: checkpoints in; a table, HDF5 files, JSON and a plot out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.hessian.hessian_options import HessianOptions
from landscape.commandline.command import (
    both,
    distinct_names,
    load_examples,
    load_network,
    prepare_folder,
    run_command,
    say,
    threads,
)
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.progress import Progress, terminal_bar

if TYPE_CHECKING:
    from analysis.hessian.result import Spectrum
    from landscape.checkpoint import LoadedCheckpoint
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
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped.
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
        run(checkpoints, options)

    run_command("analysis.hessian", ABOUT, EPILOGUE, command, arguments)


def run(checkpoints: Sequence[Path], options: HessianOptions) -> list[Spectrum]:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With code 130 when stopped while computing; a line says how to go on.
    """
    options.check(checkpoints)
    splits = ("train", "test") if options.data.split == "both" else (options.data.split,)
    names = distinct_names(checkpoints)
    targets = output_paths(names, splits, options.output.output)
    found: list[Spectrum] = []
    with threads(options.computation.threads):
        networks = [load_network(path, options.network) for path in checkpoints]
        for loaded, name in zip(networks, names, strict=True):
            data, about = load_examples(loaded, options.data, device=options.computation.device)
            for split, examples in data.items():
                label = name if len(splits) == 1 else f"{name} {split}"
                facts = about | {"split": split}
                found.append(_compute(loaded, examples, label, targets[name, split], options, facts))
    _report(found, [targets[name, split] for name in names for split in splits], options)
    return found


def output_paths(
    names: Sequence[str], splits: Sequence[str], output: Path | None
) -> dict[tuple[str, str], Path]:
    """Where each result goes, by name and split.

    Raises
    ------
    UserError
        When one file is named for several results.
    """
    folder = Path("hessians") if output is None else output
    if output is not None and not output.is_dir() and (output.name.endswith(".h5") or output.is_file()):
        if len(names) * len(splits) > 1:
            raise UserError(f"--output {output} is one file for several spectra; name a folder")
        if not output.name.endswith(".h5"):
            raise UserError(f"--output {output} is a file; name a folder or a file NAME{SUFFIX}")
        return {(names[0], splits[0]): output}
    parts = {split: f".{split}" if len(splits) > 1 else "" for split in splits}
    return {(name, split): folder / f"{name}{parts[split]}{SUFFIX}" for name in names for split in splits}


def _compute(
    loaded: LoadedCheckpoint,
    examples: Examples,
    label: str,
    target: Path,
    options: HessianOptions,
    about: dict[str, Any],
) -> Spectrum:
    from analysis.hessian.spectrum import hessian_spectrum
    from landscape.kept_weights import resolve_mask
    from landscape.parameters import moving_params

    params = moving_params(loaded.model, options.network.params)
    mask, source = resolve_mask(options.network.mask, loaded.mask, params)
    prepare_folder(target, SUFFIX)
    chosen, computation, output = options.spectrum, options.computation, options.output
    if target.exists() and not output.overwrite:
        say(f"{target} is there already; --overwrite would compute it anew")
    with _stop_message(target, overwrite=output.overwrite) as listener, terminal_bar(label) as bar:
        return hessian_spectrum(
            loaded.model,
            examples,
            mask=mask if mask is not None else "none",
            mask_source=source,
            params=options.network.params,
            top=chosen.top,
            bottom=chosen.bottom,
            tolerance=chosen.tolerance,
            max_products=chosen.max_products,
            trace_tolerance=chosen.trace_tolerance,
            max_probes=chosen.max_probes,
            density_probes=chosen.density_probes,
            density_steps=chosen.density_steps,
            seed=chosen.seed,
            device=computation.device,
            dtype=computation.dtype,
            batch_size=computation.batch_size,
            memory=options.memory_bytes,
            path=target,
            overwrite=output.overwrite,
            keep_vectors=output.keep_vectors,
            label=label,
            about=about,
            progress=both(listener, bar),
        )


@contextmanager
def _stop_message(target: Path, *, overwrite: bool) -> Iterator[Callable[[Progress], None]]:
    """Remember how far the run came, and say so when it is interrupted."""
    last: Progress | None = None

    def remember(state: Progress) -> None:
        nonlocal last
        last = state

    try:
        yield remember
    except KeyboardInterrupt:
        from landscape.keeping.partial import state_path

        where = f"after {last.done} of about {last.expected} products" if last else "before the first product"
        again = "the same command without --overwrite" if overwrite else "the same command"
        state = state_path(target)
        kept = f"{state} keeps what was computed; " if state.exists() else ""
        say(f"stopped {where}; {kept}give {again} to go on")
        raise SystemExit(130) from None


def _report(found: Sequence[Spectrum], paths: Sequence[Path], options: HessianOptions) -> None:
    from analysis.hessian.spectrum_table import print_table, to_json

    json, plot = options.output.json, options.output.plot
    if json == "-":
        sys.stdout.write(to_json(found, paths))
    elif json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(to_json(found, paths), encoding="utf-8", errors="backslashreplace")
    if plot is not None:
        from analysis.hessian.plot import plot_densities, save_plot

        save_plot(plot_densities(found), plot)
    if json != "-":
        print_table(found)
    for written in (*paths, json, plot):
        if written is not None and str(written) != "-":
            say(f"wrote {written}")


if __name__ == "__main__":
    main()
