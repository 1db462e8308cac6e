"""Where a command of checkpoints puts its results, and what it says while they are made: one rule for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from landscape.commandline.console import leave, note
from landscape.errors import UserError
from landscape.files import atomic_path, check_target, sweep
from landscape.keeping.partial import SUFFIX as PARTIAL
from landscape.progress import Listener, Progress


def distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """File stems, with the folder's name in front where they repeat (``a/final.pt``, ``b/final.pt``)."""
    stems = [path.stem for path in checkpoints]
    if len(set(stems)) < len(stems):
        stems = [f"{Path(os.path.abspath(path)).parent.name}-{path.stem}" for path in checkpoints]
    if len(set(stems)) < len(stems):
        raise UserError("two checkpoints have the same name and folder name; compute them one by one")
    return stems


def result_paths(names: Sequence[str], output: Path | None, folder: str, suffix: str) -> list[Path]:
    """Where each result goes: into the folder ``--output``, or for one result into a file of that name.

    Parameters
    ----------
    names
        Of the results.
    output, folder
        ``--output``, and where to without it.
    suffix
        Of the files, such as ``.surface.h5``; its last part tells a file from a folder.

    Raises
    ------
    UserError
        When one file is named for several results, or a file of another kind.
    """
    kind = Path(suffix).suffix
    if output is not None and not output.is_dir() and (output.name.endswith(kind) or output.is_file()):
        if len(names) > 1:
            raise UserError(f"--output {output} is one file for {len(names)} results; name a folder")
        if not output.name.endswith(kind):
            raise UserError(f"--output {output} is a file; name a folder or a file NAME{suffix}")
        return [output]
    return [(output or Path(folder)) / f"{name}{suffix}" for name in names]


def prepare_folder(target: Path) -> None:
    """Fail before computing, not after."""
    check_target(target, PARTIAL)
    probe = target.with_name(f".{target.name[:15]}.probe")
    with atomic_path(probe) as temporary:
        temporary.write_bytes(b"")
    probe.unlink(missing_ok=True)
    sweep(target)  # a finished one isn't written again


@contextmanager
def resuming(
    target: Path, unit: str, *, overwrite: bool, state: Path | None = None, found: str = ""
) -> Iterator[Listener]:
    """Around a computation: say what it goes on from, that there was nothing to do, or how far it came.

    Nothing is said of an earlier result before it is accepted: a refusal would contradict it.

    Parameters
    ----------
    target, state
        The result, and where its unfinished state is kept; the result itself by default.
    unit
        What is counted, such as "points".
    overwrite
        Whether to compute anew.
    found
        What to say of the earlier, unfinished result that it goes on from.

    Yields
    ------
    Listener
        To be called with how far it is.
    """
    before, last = _stamp(target), None

    def listen(now: Progress) -> None:
        nonlocal last
        if last is None and found:
            note(found)
        last = now

    try:
        yield listen
    except KeyboardInterrupt as error:
        where = (
            f"after {last.done} of about {last.expected} {unit}"
            if last
            else f"before the first new {unit[:-1]}"
        )
        again = "the same command without --overwrite" if overwrite else "the same command"
        kept = f"{state or target} keeps what was computed; " if (state or target).exists() else ""
        leave(error, f" {where}; {kept}give {again} to go on")
    if before is not None and before == _stamp(target) and not overwrite:
        note(f"{target} is there and finished; --overwrite would compute it anew")


def both(*listeners: Listener | None) -> Listener:
    """A listener that tells others, those that there are."""

    def listener(state: Progress) -> None:
        for one in listeners:
            if one is not None:
                one(state)

    return listener


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
