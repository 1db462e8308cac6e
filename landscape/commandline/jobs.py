"""Commands in processes of their own, some at a time, until a time or a signal: sweeps and reproductions.

A command's standard error goes into its log, which is locked as long as the process lives, whether whoever
started it still does or was killed: two processes never do the same job.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from landscape.commandline.gpus import least_used
from landscape.errors import UserError
from landscape.keeping.signals import listened_to

POLL_SECONDS = 0.1
GRACE_SECONDS = 60.0  # for a process that was asked to stop; writing a state takes seconds at most
_PLACE = 1 << 30  # bytes from the beginning: Windows keeps others from what is locked, and logs are read

Job = TypeVar("Job")


def _module(name: str) -> Any:
    """A module that not every system has; None where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")

INHERITED = _fcntl is not None
"""Whether a lock lasts as long as a child has the descriptor, however early the process that took it ends."""


@dataclass
class Process(Generic[Job]):
    """A job that runs since `started` (on the schedule's clock, in seconds).

    It computes on `device`. What it prints begins at byte `begins` of its log; `held` is the log's descriptor
    where a process can't hold the lock itself.
    """

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    device: str = ""
    begins: int = 0
    interrupted: bool = False
    held: int | None = None

    def ended(self) -> bool:
        """Whether it is over; then its claim is free again."""
        if self.process.poll() is None:
            return False
        if self.held is not None:
            os.close(self.held)
            self.held = None
        return True

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does; it keeps what it has saved."""
        self.interrupted = True
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        usual = signal.SIGTERM if ignored else signal.SIGINT
        self.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", usual))

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
        return _last_line(self.log, self.begins) or f"ended with code {code} and without a word"


class Schedule(ABC, Generic[Job]):
    """Runs jobs, some at a time, until nothing is left, the time is over, or a signal comes.

    Parameters
    ----------
    at_a_time
        How many run together.
    deadline
        On `clock`, in seconds: no job starts that isn't expected to end by then, running ones are stopped.
    clock
        Seconds that rise.
    devices
        Where jobs may compute: each on the one on which the fewest run.

    Attributes
    ----------
    waiting, running
        Jobs that are to be started, in order, and those that were.
    signals
        Numbers of those that came.
    """

    def __init__(
        self,
        at_a_time: int = 1,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        devices: Sequence[str] = ("auto",),
    ) -> None:
        self.at_a_time, self.deadline, self.clock, self.devices = at_a_time, deadline, clock, devices
        self.waiting: list[Job] = []
        self.running: list[Process[Job]] = []
        self.signals: list[int] = []

    @property
    def next_device(self) -> str:
        """Where the next job is to compute."""
        return least_used(self.devices, (process.device for process in self.running))

    @abstractmethod
    def expected(self, job: Job) -> float | None:
        """Seconds that a job will still take; None while unknown."""

    @abstractmethod
    def start(self, job: Job) -> Process[Job] | None:
        """Start one, or see that there is nothing to do: then it no longer waits. Else None: it is taken."""

    @abstractmethod
    def ended(self, process: Process[Job]) -> None:
        """See what became of one; an interrupted one may wait again."""

    @abstractmethod
    def show(self) -> None:
        """Show how far it is; called several times a second."""

    def run(self) -> None:
        """Run it all; ends all processes."""
        with self._noted_signals():
            try:
                while (self.waiting or self.running) and not self.signals:
                    self._reap()
                    if self.clock() >= self.deadline or not (self._start() or self.running):
                        break
                    self.show()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()

    def _start(self) -> bool:
        """Start what there is room and time for; whether any job can still be waited for."""
        hope = False
        for job in list(self.waiting):
            if len(self.running) >= self.at_a_time:
                return True
            seconds = self.expected(job)
            if seconds is None or self.clock() + seconds <= self.deadline:
                hope = True
                process = self.start(job)
                if process is not None:
                    self.waiting.remove(job)
                    self.running.append(process)
        return hope

    def _reap(self) -> None:
        for process in [process for process in self.running if process.ended()]:
            self.running.remove(process)
            self.ended(process)

    def _stop(self) -> None:
        """Interrupt what is running and wait for it; a second signal, or a long time, ends it by force."""
        for process in self.running:
            process.interrupt()
        until, signals = time.monotonic() + GRACE_SECONDS, len(self.signals)
        while any(not process.ended() for process in self.running):
            if time.monotonic() > until or len(self.signals) > max(signals, 1):
                for process in self.running:
                    process.kill()
            time.sleep(POLL_SECONDS / 4)
        self._reap()

    @contextmanager
    def _noted_signals(self) -> Iterator[None]:
        """Note Ctrl-C and its like, so that no write or wait is cut in two."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        before = {number: signal.signal(number, note) for number in listened_to()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def claim(log: Path) -> int | None:
    """Take a job: the descriptor of its locked, empty log; None while another process is at it."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}; choose another --output") from error
    if _lock(descriptor):
        os.ftruncate(descriptor, 0)
        return descriptor
    os.close(descriptor)
    return None


def start(
    job: Job,
    log: Path,
    descriptor: int,
    command: Sequence[str],
    started: float,
    *,
    device: str = "",
    stdout: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Process[Job]:
    """Start a claimed job; its process holds the claim from now on.

    The terminal's Ctrl-C reaches whoever started it alone, who passes it on once.
    """
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows' way; the session is the others'
    try:
        begins = os.fstat(descriptor).st_size
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=descriptor,
            env=environment,
            start_new_session=not group,
            creationflags=group,
        )
    except OSError as error:
        os.close(descriptor)
        raise UserError(f"can't start {command[0]}: {error.strerror or error}") from error
    if INHERITED:
        os.close(descriptor)
    return Process(job, process, log, started, device, begins, held=None if INHERITED else descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file; False while another process has it. True too where the system has no such locks."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            os.lseek(descriptor, _PLACE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _last_line(path: Path, begins: int) -> str:
    """The last line that isn't empty, without the ``error: `` in front."""
    try:
        lines = path.read_bytes()[begins:].decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1].removeprefix("error: ") if filled else ""
