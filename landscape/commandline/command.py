"""What the commands that take checkpoints share: parsing, loading, threads, signals, messages."""

from __future__ import annotations

import glob
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sharpscape
from landscape.commandline.console import guarded_command, note
from landscape.errors import UserError, exit_with
from landscape.files import atomic_path, check_target
from landscape.progress import Listener, Progress
from landscape.siblings import need

if TYPE_CHECKING:  # torch is imported only when there is something to compute
    from landscape.checkpoint import LoadedCheckpoint
    from landscape.examples import Examples
    from landscape.surface.surface_options import DataOptions

LEFTOVER_SECONDS = 600  # no write takes as long; an older temporary file belongs to a killed run
LONGEST_SUFFIX = ".partial"  # of what is written beside a result


class NetworkChoice(Protocol):
    """What of a command's options says how to read a checkpoint."""

    @property
    def model(self) -> str | None:
        """The architecture, where the file doesn't tell."""

    @property
    def trust_checkpoint(self) -> bool:
        """Whether code in the file may run."""

    @property
    def weights(self) -> str | None:
        """Which weights, where the file has several sets."""


def run_command(
    name: str, about: str, epilogue: str, command: Callable[..., Any], arguments: Sequence[str] | None
) -> None:
    """Parse `arguments` for ``python -m name`` and call `command`; bad input is one line and exit code 2.

    Parameters
    ----------
    name, about, epilogue
        The module, and what its help says above and below the options (Markdown).
    command
        A function whose annotations are the command line.
    arguments
        Those of the process for None.
    """
    import cyclopts

    app = cyclopts.App(
        name=sharpscape.program(name),
        help=about,
        help_epilogue=epilogue,
        help_format="markdown",
        version_flags=(),
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # it would exit without a word
    )
    app["--help"].group = "Help"
    app.default(command)
    _print_any_text()
    with guarded_command(), terminating_signals():
        try:
            app(arguments, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            exit_with(UserError(f"{error} (--help shows every option)"))


def distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """File stems, with the folder's name in front where they repeat (``a/final.pt``, ``b/final.pt``)."""
    stems = [path.stem for path in checkpoints]
    if len(set(stems)) < len(stems):
        stems = [f"{Path(os.path.abspath(path)).parent.name}-{path.stem}" for path in checkpoints]
    if len(set(stems)) < len(stems):
        raise UserError("two checkpoints have the same name and folder name; compute them one by one")
    return stems


def load_network(path: Path, network: NetworkChoice, *, quiet: bool = False) -> LoadedCheckpoint:
    """The network of a checkpoint, ours among the known architectures; says what was recognised.

    Not so where `quiet`, as for the many networks of a trajectory.

    Raises
    ------
    UserError
        As `landscape.checkpoint.load_checkpoint`.
    """
    from landscape.checkpoint import load_checkpoint

    need("training")
    from training.models import ARCHITECTURES

    loaded = load_checkpoint(
        path,
        model=network.model,
        trust=network.trust_checkpoint,
        weights=network.weights,
        architectures=ARCHITECTURES,
    )
    if not quiet:
        say(f"{path}: {loaded.how}")
    return loaded


def load_examples(
    loaded: LoadedCheckpoint,
    data: DataOptions,
    *,
    others: Sequence[LoadedCheckpoint] = (),
    like: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> tuple[dict[str, Examples], dict[str, Any]]:
    """The examples by split, and what a result says about checkpoint and data; says what was chosen.

    Parameters
    ----------
    loaded, others
        The network that they are for, and further ones that are evaluated on the same examples.
    data
        Which.
    like
        What an earlier result says about its data, where the same examples are wanted again.
    device
        Where to try normalizations, if nobody says which one it is.
    """
    from landscape.data import check_model_takes
    from landscape.data.settle import load_settled
    from landscape.examples import Examples

    names = ("train", "test") if data.split == "both" else (data.split,)
    sets, record = load_settled(loaded, data, names, others=others, like=like, device=device, say=say)
    first = next(iter(sets.values()))
    for one in sets.values():
        check_model_takes(loaded.model, one)
    about = {
        "checkpoint": {"file": f"{loaded.name}", "sha256": loaded.sha256, "metrics": loaded.metrics},
        "architecture": loaded.architecture,
        "data": {
            "name": first.name,
            "examples": {name: len(one.targets) for name, one in sets.items()},
            "drawn_from": {name: one.drawn_from for name, one in sets.items()},
            "seed": data.example_seed,
            "mean": first.mean,
            "std": first.std,
            "normalization": record,
            "images": None if first.preparation is None else first.preparation.record,
        },
    }
    return {
        name: Examples.from_images(one.inputs, one.targets, one.mean, one.std) for name, one in sets.items()
    }, about


def prepare_folder(target: Path, suffix: str) -> None:
    """Fail before computing, not after; sweep up what killed runs left."""
    check_target(target, LONGEST_SUFFIX)
    probe = target.with_name(f".{target.name[:15]}.probe")
    with atomic_path(probe) as temporary:
        temporary.write_bytes(b"")
    probe.unlink(missing_ok=True)
    stem = glob.escape(f".{target.name[:60].removesuffix(suffix)}")
    for leftover in target.parent.glob(f"{stem}*.tmp"):
        with suppress(OSError):  # another run may sweep at the same time
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                leftover.unlink()


def both(first: Listener, second: Listener) -> Listener:
    """A listener that tells two others."""

    def listener(state: Progress) -> None:
        first(state)
        second(state)

    return listener


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with that many threads inside the block; None leaves their number alone."""
    if number is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def terminating_signals() -> Iterator[None]:
    """Treat SIGTERM (a batch system's time limit) like Ctrl-C, for the length of the block."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; give the same command to go on")
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    """A line beside the results, on standard error."""
    note(line)


def _print_any_text() -> None:
    """Where the output's encoding lacks a sign (β, ±), print a question mark instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
