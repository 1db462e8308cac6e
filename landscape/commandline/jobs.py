"""Commands in processes of their own, some at a time, until a time or a signal: sweeps and reproductions.

A command's standard error goes into its log, which is locked as long as the process lives, whether whoever
started it still does or was killed: two processes never do the same job.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from landscape.commandline.claims import INHERITED
from landscape.commandline.elsewhere import Elsewhere
from landscape.commandline.gpus import least_used
from landscape.errors import UserError
from landscape.keeping.signals import listened_to, stopping

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

POLL_SECONDS = 0.1
GRACE_SECONDS = 60.0  # for a process that was asked to stop; writing a state takes seconds at most

Job = TypeVar("Job")


class Remote(Protocol):
    """What is like a process of its own, as far as schedules need it, but lives in another.

    Attributes
    ----------
    returncode
        None while it runs.
    told
        Why it ended without a word of its own, in a line; else empty.
    """

    returncode: int | None
    told: str

    def poll(self) -> int | None:
        """Its exit code; None while it waits or runs."""

    def send_signal(self, number: int) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int | None:
        """Its exit code, once it is over."""


@dataclass
class Process(Generic[Job]):
    """A job that runs since `started` (on the schedule's clock, in seconds).

    It computes on `device`. What it prints begins at byte `begins` of its log; `held` is the log's descriptor
    where a process can't hold the lock itself.
    """

    job: Job
    process: subprocess.Popen[bytes] | Remote
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
        self.process.send_signal(stopping())

    def stopped(self) -> bool:
        """Whether it ended because it was asked to, by whomever: another one can go on with what it saved."""
        return self.interrupted or self.process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)

    def kill(self) -> None:
        """End it at once; the files that it keeps are whole all the same."""
        self.process.kill()
        self.process.wait()

    def failure(self) -> str:
        """Why it ended without a result, in one line."""
        code = self.process.returncode
        if told := getattr(self.process, "told", ""):  # a remote one's
            return str(told)
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        printed = b""
        with suppress(OSError):
            printed = self.log.read_bytes()[self.begins :]
        return last_line(printed) or f"ended with code {code} and without a word"


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
    cluster
        Whose workers run them, as many as it has threads; None for this machine.

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
        cluster: Cluster | None = None,
    ) -> None:
        self.at_a_time, self.deadline, self.clock, self.devices = at_a_time, deadline, clock, devices
        self.cluster = cluster
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
        if self.cluster is not None:
            self.cluster.check()
            self.at_a_time = self.cluster.width()
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
            again = len(self.signals) > max(signals, 1) or self.signals.count(signal.SIGINT) > 1
            if time.monotonic() > until or again:
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


def start(
    job: Job,
    log: Path,
    descriptor: int,
    command: Sequence[str],
    started: float,
    *,
    device: str = "",
    cluster: Cluster | None = None,
    stdout: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Process[Job]:
    """Start a claimed job, here or in a worker of a cluster; its process holds the claim from now on.

    The terminal's Ctrl-C reaches whoever started it alone, who passes it on once.
    """
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows' way; the session is the others'
    try:
        begins = os.fstat(descriptor).st_size
        if cluster is not None:
            os.close(descriptor)  # and is taken there
            there = Elsewhere(cluster, command, log, stdout != subprocess.DEVNULL)
            return Process(job, there, log, started, device, begins)
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


def last_line(printed: bytes) -> str:
    """The last line that isn't empty, without the ``error: `` in front; empty where there is none."""
    filled = [line.strip() for line in printed.decode("utf-8", "replace").splitlines() if line.strip()]
    return filled[-1].removeprefix("error: ") if filled else ""
