"""One training as a process of its own.

Its standard error goes into ``logs/NAME.log``. The log is locked as long as the process lives, whether the
sweep that started it still does or was killed: two trainings never write into one folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from landscape.errors import UserError
from training.sweep.locking import INHERITED, lock, start_apart, stop
from training.sweep.planned import PlannedRun


@dataclass
class RunProcess:
    """A running training; `first_epoch` were saved when it began at `started` (monotonic seconds).

    `held` is the descriptor of its log where a process can't hold the lock itself.
    """

    run: PlannedRun
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    first_epoch: int
    interrupted: bool = False
    held: int | None = None

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.started

    def ended(self) -> bool:
        """Whether it is over; then its claim is free again."""
        if self.process.poll() is None:
            return False
        if self.held is not None:
            os.close(self.held)
            self.held = None
        return True

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does; it keeps its last epoch."""
        self.interrupted = True
        stop(self.process)

    def kill(self) -> None:
        """End it at once; the files that it keeps are whole all the same."""
        self.process.kill()
        self.process.wait()

    def failure(self) -> str:
        """Why it ended without a result, in one line."""
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return last_line(self.log) or f"ended with code {code} and without a word"


def claim(root: Path, name: str) -> int | None:
    """Take a run: the descriptor of its locked log; None while another process is training it."""
    log = log_path(root, name)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}; choose another --output") from error
    if lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def start(run: PlannedRun, log: Path, descriptor: int, command: Sequence[str], epochs: int) -> RunProcess:
    """Start a claimed run that has `epochs` saved; its process holds the claim from now on.

    The terminal's Ctrl-C reaches the sweep alone, which passes it on once.
    """
    try:
        os.ftruncate(descriptor, 0)
        process = start_apart(command, descriptor)
    except OSError as error:
        os.close(descriptor)
        raise UserError(f"can't start {command[0]}: {error.strerror or error}") from error
    if INHERITED:
        os.close(descriptor)
    return RunProcess(run, process, log, time.monotonic(), epochs, held=None if INHERITED else descriptor)


def log_path(root: Path, name: str) -> Path:
    """Where a run's messages are."""
    return root / "logs" / f"{name}.log"


def remove_log(root: Path, name: str) -> None:
    """Remove the log of a finished run, and the folder with the last of them."""
    log_path(root, name).unlink(missing_ok=True)
    with suppress(OSError):
        log_path(root, name).parent.rmdir()


def last_line(path: Path) -> str:
    """The last line that isn't empty, without the ``error: `` in front."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1].removeprefix("error: ") if filled else ""
