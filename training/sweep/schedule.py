"""Runs the trainings of a sweep, some at a time, until all are done or something ends it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from signal import signal
from types import FrameType

from landscape.keeping.signals import listened_to
from training.sweep.display import Display, Running
from training.sweep.estimate import Estimator, duration
from training.sweep.planned import PlannedRun
from training.sweep.process import RunProcess, claim, log_path, remove_log, start
from training.sweep.status import Runs, Status, saved_epochs
from training.sweep.table import write_table

POLL_SECONDS = 0.1
GRACE_SECONDS = 60.0  # for a process that was asked to stop; writing a state takes seconds at most

Command = Callable[[PlannedRun], Sequence[str]]


@dataclass(frozen=True)
class Limits:
    """How many runs at a time, until when (monotonic seconds), and whether ``last.pt`` stays."""

    jobs: int = 1
    deadline: float = math.inf
    keep_state: bool = False


@dataclass
class Sweep:
    """The trainings of one call.

    Attributes
    ----------
    planned
        All runs of the plan, for the table.
    chosen
        Those to run.
    command
        The command line of a run's process.
    errors
        Why runs failed, by name.
    """

    runs: Runs
    planned: Sequence[PlannedRun]
    chosen: Sequence[PlannedRun]
    command: Command
    limits: Limits
    display: Display
    errors: dict[str, str] = field(default_factory=dict)
    signals: list[int] = field(default_factory=list)
    _waiting: list[PlannedRun] = field(default_factory=list)
    _running: list[RunProcess] = field(default_factory=list)
    _estimator: Estimator = field(default_factory=Estimator)
    _started: set[str] = field(default_factory=set)
    _done: int = 0
    _shown: float = -math.inf

    @property
    def left(self) -> int:
        """Runs that are neither finished nor failed."""
        return len(self.chosen) - self._done - len(self.errors)

    def run(self) -> None:
        """Run until nothing is left, the time is over, or a signal came (`signals`); ends all processes."""
        self._sort_out()
        self._write_table()
        with self._noted_signals():
            try:
                while (self._waiting or self._running) and not self.signals:
                    self._reap()
                    if time.monotonic() >= self.limits.deadline or not (self._start() or self._running):
                        break
                    self._show()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()
                self._write_table()

    def _sort_out(self) -> None:
        """Finished runs are skipped, those that can't be run are noted, the rest waits."""
        for run in self.chosen:
            status = self.runs.status(run.name, run.settings)
            if status.state == "finished":
                self._done += 1
                self.runs.tidy(run.name, self.limits.keep_state)
                self._estimator.learn(
                    run.settings, status.metrics.get("seconds", 0.0), run.epochs, here=False
                )
            elif status.state == "failed":
                self._fail(run, status.error)
            else:
                self._waiting.append(run)

    def _start(self) -> bool:
        """Start what there is room and time for; whether any run can still be waited for."""
        hope = False
        for run in list(self._waiting):
            if len(self._running) >= self.limits.jobs:
                return True
            if self._fits(run, saved_epochs(self.runs.root / run.name)):
                hope = True
                self._start_one(run)
        return hope

    def _start_one(self, run: PlannedRun) -> None:
        descriptor = claim(self.runs.root, run.name)
        if descriptor is None:
            return  # the process of a sweep that was killed, or of another one, is at it
        self._waiting.remove(run)
        status = self.runs.status(run.name, run.settings)
        if status.state == "finished":
            os.close(descriptor)
            self._finish(run, "finished by another process")
            return
        log = log_path(self.runs.root, run.name)
        self._running.append(start(run, log, descriptor, self.command(run), status.epochs))
        self._started.add(run.name)

    def _fits(self, run: PlannedRun, epochs: int) -> bool:
        seconds = self._estimator.seconds(run.settings, run.epochs - epochs)
        return seconds is None or time.monotonic() + seconds <= self.limits.deadline

    def _reap(self) -> None:
        for process in [process for process in self._running if process.ended()]:
            self._running.remove(process)
            run, status = process.run, self.runs.status(process.run.name, process.run.settings)
            if status.state == "finished":
                trained = run.epochs - process.first_epoch
                self._estimator.learn(run.settings, process.seconds, trained, here=True)
                self._finish(run, _result(status, process.seconds))
            elif process.interrupted:
                self._waiting.append(run)
            else:
                self._fail(run, status.error or process.failure())
            self._write_table()

    def _finish(self, run: PlannedRun, text: str) -> None:
        self._done += 1
        self.runs.tidy(run.name, self.limits.keep_state)
        remove_log(self.runs.root, run.name)
        self.display.line(f"[{self._done + len(self.errors)}/{len(self.chosen)}] {run.name}: {text}")

    def _fail(self, run: PlannedRun, error: str) -> None:
        self.errors[run.name] = error
        self.display.line(f"[{self._done + len(self.errors)}/{len(self.chosen)}] {run.name} failed: {error}")

    def _show(self) -> None:
        """Refresh the display, once a second: it reads the logs of all runs that aren't done."""
        if time.monotonic() < self._shown + 1:
            return
        self._shown = time.monotonic()
        running = [
            Running(process.run.name, saved_epochs(self.runs.root / process.run.name), process.run.epochs)
            for process in self._running
        ]
        self.display.update(len(self.chosen) - self.left, running, self._eta())

    def _eta(self) -> float | None:
        """Expected seconds until everything is done; None while unknown."""
        needs = [
            self._estimator.seconds(run.settings, run.epochs - saved_epochs(self.runs.root / run.name))
            for run in self._waiting
        ]
        for process in self._running:
            whole = self._estimator.seconds(process.run.settings, process.run.epochs - process.first_epoch)
            needs.append(None if whole is None else max(whole - process.seconds, 0.0))
        known = [seconds for seconds in needs if seconds is not None]
        return sum(known) / self.limits.jobs if len(known) == len(needs) else None

    def _stop(self) -> None:
        """Interrupt what is running and wait for it; a second signal, or a long time, ends it by force."""
        for process in self._running:
            process.interrupt()
        until, signals = time.monotonic() + GRACE_SECONDS, len(self.signals)
        while any(not process.ended() for process in self._running):
            if time.monotonic() > until or len(self.signals) > max(signals, 1):
                for process in self._running:
                    process.kill()
            time.sleep(POLL_SECONDS / 4)
        self._reap()

    @contextmanager
    def _noted_signals(self) -> Iterator[None]:
        """Note Ctrl-C and its like, so that no write or wait is cut in two."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        before = {number: signal(number, note) for number in listened_to()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal(number, handler)

    def _write_table(self) -> None:
        write_table(self.runs, self.planned, dict.fromkeys(self._started, "") | self.errors)


def _result(status: Status, seconds: float) -> str:
    accuracy = status.metrics.get("test_accuracy")
    result = "finished" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"
    return f"{result} in {duration(seconds)}"
