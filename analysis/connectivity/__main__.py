"""The command ``python -m analysis.connectivity``: two checkpoints in; curves between them out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.connectivity.connectivity_options import ConnectivityOptions
from landscape.commandline.command import run_command
from landscape.commandline.console import leave, note, terminal
from landscape.commandline.outputs import say_written, write_texts
from landscape.commandline.results import prepare_folder
from landscape.commandline.subject import Subject, computing, subjects
from landscape.keeping.signals import exit_code
from landscape.progress import Listener, Progress, terminal_bar

if TYPE_CHECKING:
    from analysis.connectivity.connection import Connection
    from landscape.examples import Examples

ABOUT = """Mode connectivity: is there a way of low loss between two trained networks?

Loss and accuracy on the straight line between them and on a trained curve, with the height of the barrier.
"""

EPILOGUE = """Examples:

- Straight line and trained curve, on 1,000 training and 1,000 test examples:\\
  `python -m analysis.connectivity a.pt b.pt`
- The straight line alone, more finely, as JSON:\\
  `python -m analysis.connectivity a.pt b.pt --curve linear --points 51 --json -`
- A longer training of the bend, half an hour at a time:\\
  `python -m analysis.connectivity a.pt b.pt --steps 20000 --time-budget 30m`
- The plane through both networks and the bend:\\
  `python -m landscape.surface a.pt --between b.pt connectivity/a--b.bend.pt`

A run that was stopped, by Ctrl-C or by force, goes on when the same command is given again.\\
Exit codes: 0 done, 2 bad input (one line says what), 130 stopped (Ctrl-C; 143 SIGTERM, 129 SIGHUP).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute, print the table; bad input is one line and exit code 2."""

    def command(
        first: Path,
        second: Path,
        /,
        *,
        options: ConnectivityOptions = ConnectivityOptions(),  # noqa: B008
    ) -> None:
        """Connect two networks.

        Parameters
        ----------
        first
            The network at t = 0: ours, a state_dict (bare or wrapped), safetensors or TorchScript.
        second
            The network at t = 1, of the same architecture.
        """
        connect_checkpoints(first, second, options)

    run_command("analysis.connectivity", ABOUT, EPILOGUE, command, arguments)


def connect_checkpoints(first: Path, second: Path, options: ConnectivityOptions) -> Connection:
    """What the command does, without its command line.

    Raises
    ------
    UserError
        For any bad input.
    SystemExit
        With 128 and the signal's number when stopped while computing, with 130 by the time budget; a line
        says how to go on.
    """
    options.check((first, second))
    names = _names(first, second)
    base = (options.output.output or Path("connectivity")) / "--".join(names)
    with computing(options.computation.threads, options.output):
        ends = subjects((first, second), names, options.subject)
        for target in (base, *_json_path(options)):
            prepare_folder(target)
        _compare_data(ends)
        found = _connect(ends, names, base, options)
        _report(found, names, base, options)
    return found


def _json_path(options: ConnectivityOptions) -> tuple[Path, ...]:
    json = options.output.json
    return () if json in (None, "-") else (Path(json),)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The files' stems, or their folders' names where these are alike (``a/final.pt``, ``b/final.pt``)."""
    if first.stem != second.stem:
        return first.stem, second.stem
    one, two = first.resolve().parent.name, second.resolve().parent.name
    return (one, two) if one != two else (first.stem, second.stem)


def _connect(
    ends: Sequence[Subject], names: tuple[str, str], base: Path, options: ConnectivityOptions
) -> Connection:
    from analysis.connectivity.bend_files import Identity
    from analysis.connectivity.connection import connect

    first, second = ends
    data, recalibration, about = _examples(ends, options)
    train = None
    if "bezier" in options.curve.curves:
        whole = replace(options.data, split="train", examples=options.training.train_examples)
        train = first.examples(whole, others=[second])[0]["train"]
    told = {"ends": [{"file": one.loaded.name, "sha256": one.loaded.sha256} for one in ends]}
    loaded = first.loaded
    identity = Identity(loaded.architecture, loaded.arguments, loaded.data or {}, told)
    with _stop_message(base), _watch(options.seconds) as watcher:
        return connect(
            first.model,
            second.model,
            data,
            **first.machine,
            params=options.network.params,
            train_data=train,
            recalibration=recalibration,
            curves=options.curve.curves,
            training=options.training.training,
            masks=(None, None) if options.curve.mask == "none" else (first.mask, second.mask),
            batch_norm=options.network.batch_norm,
            points=options.curve.points,
            path=base,
            overwrite=options.output.overwrite,
            names=names,
            identity=identity,
            about={**about, **told},
            progress=watcher,
        )


def _examples(
    ends: Sequence[Subject], options: ConnectivityOptions
) -> tuple[dict[str, Examples], Examples, dict[str, Any]]:
    """By split to evaluate on; to re-estimate running statistics on; and what is said of them."""
    first, *others = ends
    data, about = first.examples(others=others)
    if "train" in data:
        return data, data["train"], about
    training = replace(options.data, split="train")
    return data, first.examples(training, others=others)[0]["train"], about


def _compare_data(ends: Sequence[Subject]) -> None:
    """Both are evaluated on the first one's data, normalized as it says."""
    keys = ("name", "mean", "std")
    told = [one.loaded.data and {key: one.loaded.data.get(key) for key in keys} for one in ends]
    if None not in told and told[0] != told[1]:
        note("warning: the checkpoints name other data or normalizations; the first one's are used for both")


_TOLD = ("architecture", "data", "versions")


class _OutOfTime(KeyboardInterrupt):
    """The time budget is used up."""


@contextmanager
def _watch(seconds: float | None) -> Iterator[Any]:
    """A bar per phase, and an end when the time is used up."""
    end = inf if seconds is None else time.monotonic() + seconds
    shown: dict[str, Listener] = {}
    with ExitStack() as stack:

        def watch(phase: str, state: Progress) -> None:
            if phase not in shown:
                stack.close()
                unit = "steps" if phase == "bend" else "points"
                shown[phase] = stack.enter_context(terminal_bar(phase, unit))
            shown[phase](state)
            if time.monotonic() > end and state.done < state.expected:
                raise _OutOfTime

        yield watch


@contextmanager
def _stop_message(base: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        kept = f"; {base}.* keep what was computed; give the same command to go on, without --overwrite"
        if not isinstance(stop, _OutOfTime):
            leave(stop, kept)
        note(f"the time budget is used up{kept}", urgent=True)
        raise SystemExit(exit_code(stop)) from None


def _report(found: Connection, names: tuple[str, str], base: Path, options: ConnectivityOptions) -> None:
    from analysis.connectivity.connection_table import table, to_json

    written, json = list(found.files), options.output.json
    first = next(iter(found.surfaces.values()))
    about: dict[str, Any] = {key: first.about[key] for key in _TOLD if key in first.about}
    printed = write_texts([(json, lambda: to_json(found.surfaces, names, about))])
    written += _json_path(options)
    if options.output.plot:
        from analysis.connectivity.plot import plot_connection
        from landscape.plot import save_figure

        written.append(save_figure(plot_connection(found.surfaces, names), f"{base}.png"))
    if not printed:
        terminal().print(table(found.surfaces))
    say_written(written)


if __name__ == "__main__":
    main()
