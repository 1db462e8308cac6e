"""A command met by a fault at one of its file operations, and what must hold then and after the next run."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from file_faults import die, failing, fault
from forking import Ended, Running
from tiny_commands import WORKS, Work, contents, differences, prepare, words_of

LOSSY = (".tmp", ".partial", ".lock", ".probe")
"""What a finished command leaves nothing of."""


@dataclass(frozen=True)
class Fault:
    """What happens at an operation; from then on at each where `onwards`."""

    act: Callable[[], object]
    onwards: bool = False


FAULTS: dict[str, Fault] = {
    "killed": Fault(die),
    "full once": Fault(failing(errno.ENOSPC)),
    "full": Fault(failing(errno.ENOSPC), onwards=True),
    "over quota": Fault(failing(errno.EDQUOT), onwards=True),
    "broken disk": Fault(failing(errno.EIO)),
    "read-only": Fault(failing(errno.EROFS), onwards=True),
    "SIGTERM": Fault(lambda: signal.raise_signal(signal.SIGTERM)),
}


def hasty(stack: ExitStack) -> None:
    """In a child: everything is saved at once, leftovers are swept at once, and nothing is synced."""
    import figures.reproduce.__main__ as reproducing
    import landscape.files as files
    from figures.tables import TABLES
    from landscape.commandline import jobs
    from landscape.keeping import lock, pace
    from training import loop

    for where, name, value in (
        (pace, "EVERY_SECONDS", 0.0),
        (pace, "SHARE", float("inf")),
        (lock, "FILLED_SECONDS", 0.0),
        (lock, "TWICE_SECONDS", 0.0),
        (jobs, "POLL_SECONDS", 0.01),
        (files, "LEFTOVER_SECONDS", 0.0),
        (loop, "LEFTOVER_SECONDS", 0.0),
        (reproducing, "PRODUCTS", TABLES[:1]),  # all of them take ten seconds to draw
        (os, "fsync", lambda descriptor: None),
    ):
        stack.enter_context(patch.object(where, name, value))


def run(
    work: Work, inputs: Path, folder: Path, kind: str = "", at: int = 0, counted: Path | None = None
) -> Ended:
    """Run it to its end, with a fault at file operation `at` where one is named; or count operations."""

    def inside(stack: ExitStack) -> None:
        hasty(stack)
        chosen = FAULTS.get(kind, Fault(lambda: None))
        operations = stack.enter_context(fault(at, chosen.act, chosen.onwards))
        if counted is not None:
            stack.callback(lambda: counted.write_text(str(operations.count)))

    return Running(work.module, words_of(work, inputs), prepare(work, inputs, folder), inside).ended()


def operations(work: Work, inputs: Path, folder: Path) -> int:
    """How many file operations it takes."""
    ended = run(work, inputs, folder, counted=folder.with_name(f"{folder.name}.count"))
    assert ended.code == 0, ended
    return int(folder.with_name(f"{folder.name}.count").read_text())


def after(ended: Ended, kind: str, folder: Path) -> list[str]:
    """What doesn't hold after a fault: a proper end, and files that are whole."""
    found = []
    if kind == "killed" and ended.code not in (0, -signal.SIGKILL):  # it has gone on before the operation
        found.append(f"not killed: {ended.code}")
    if kind != "killed" and ended.wrong:
        found.append(ended.wrong)
    try:
        whole_files(folder)
    except Exception as error:
        found.append(f"not whole: {type(error).__name__}: {error}")
    return found


def whole_files(folder: Path) -> dict[str, object]:
    """What the files below a folder say that claim to be whole."""
    hidden = {
        path for path in folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".partial")
    }
    return contents(folder, hidden)


def leftovers(folder: Path) -> list[str]:
    """Files that no finished command leaves."""
    return sorted(path.name for path in folder.rglob("*") if path.name.endswith(LOSSY))


def finished(work: Work, inputs: Path, folder: Path, wanted: dict[str, object]) -> list[str]:
    """Give the command again; what doesn't hold at its end: the result, and nothing else."""
    ended = run(work, inputs, folder)
    if ended.code:
        return [f"given again it ends with {ended.code}: {ended.err[-800:]}"]
    found = [f"left: {left}"] if (left := leftovers(folder)) else []
    differing = differences(wanted, contents(folder / "out"))
    return found + ([f"other than uninterrupted: {differing[:3]}"] if differing else [])


@dataclass(frozen=True)
class Case:
    """One fault at one operation of one command."""

    name: str
    kind: str
    at: int


class Survey:
    """Commands' uninterrupted results, and cases tried against them.

    Parameters
    ----------
    inputs, folder
        What the commands read, and where they work.
    names
        Of the commands.
    """

    def __init__(self, inputs: Path, folder: Path, names: Sequence[str]) -> None:
        self.inputs, self.folder = inputs, folder
        self.counts, self.wanted = dict[str, int](), dict[str, dict[str, object]]()
        for name in names:
            whole = folder / name.replace(" ", "-")
            self.counts[name] = operations(WORKS[name], inputs, whole)
            self.wanted[name] = contents(whole / "out")

    def by_command(self) -> dict[str, list[Case]]:
        """Every fault at every operation."""
        return {
            name: [Case(name, kind, at) for kind in FAULTS for at in range(1, count + 1)]
            for name, count in self.counts.items()
        }

    def wrong(self, case: Case) -> list[str]:
        """What doesn't hold."""
        here, work = self.folder / "case", WORKS[case.name]
        try:
            ended = run(work, self.inputs, here, case.kind, case.at)
            bad = after(ended, case.kind, here / "out")
            bad += finished(work, self.inputs, here, self.wanted[case.name])
        finally:
            shutil.rmtree(here, ignore_errors=True)
        return [f"{case.name}, {case.kind} at {case.at} of {self.counts[case.name]}: {one}" for one in bad]
