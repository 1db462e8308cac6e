"""Runs the trainings of a sweep, some at a time, until all are done or something ends it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.commandline.claims import claim
from landscape.commandline.jobs import Process, Schedule, start
from training.sweep.display import Display, Running
from training.sweep.estimate import Estimator, duration
from training.sweep.images import Images
from training.sweep.laned import TAKEN, LaneProcess
from training.sweep.planned import PlannedRun
from training.sweep.status import Runs, Status, saved_epochs
from training.sweep.table import write_table

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

Command = Callable[[PlannedRun, str], Sequence[str]]
LANES = (sys.executable, "-P", "-m", "training.sweep.lane_server")


@dataclass(frozen=True)
class Limits:
    """How many runs at a time, until when (monotonic seconds), if ``last.pt`` stays, on what, by whom.

    `lanes` is how many of them take turns in one process of each device; 1 for a process each.
    """

    jobs: int = 1
    deadline: float = math.inf
    keep_state: bool = False
    devices: Sequence[str] = ("auto",)
    cluster: Cluster | None = None
    lanes: int = 1


class Sweep(Schedule[PlannedRun]):
    """The trainings of one call.

    Parameters
    ----------
    planned
        All runs of the plan, for the table.
    chosen
        Those to run.
    command
        The command line of a run's process, on a device.
    images
        By which a finished run of other images is told.

    Attributes
    ----------
    errors
        Why runs failed, by name.
    """

    def __init__(
        self,
        runs: Runs,
        planned: Sequence[PlannedRun],
        chosen: Sequence[PlannedRun],
        command: Command,
        limits: Limits,
        display: Display,
        images: Images,
    ) -> None:
        super().__init__(limits.jobs, limits.deadline, devices=limits.devices, cluster=limits.cluster)
        self._lanes, self._lane_processes = limits.lanes, dict[str, LaneProcess]()
        self.runs, self.planned, self.chosen = runs, planned, chosen
        self.command, self.keep_state, self.display, self.images = command, limits.keep_state, display, images
        self.errors: dict[str, str] = {}
        self._estimator = Estimator()
        self._first: dict[str, int] = {}  # epochs that were saved when a run was started here
        self._done = 0
        self._shown = -math.inf

    @property
    def left(self) -> int:
        """Runs that are neither finished nor failed."""
        return len(self.chosen) - self._done - len(self.errors)

    def run(self) -> None:
        """See `Schedule.run`; the table is kept up to date."""
        self._sort_out()
        self._write_table()
        try:
            super().run()
        finally:
            for process in self._lane_processes.values():
                process.close()
            self._write_table()

    def _sort_out(self) -> None:
        """Finished runs are skipped, those that can't be run are noted, the rest waits."""
        for run in self.chosen:
            status = self.runs.status(run.name, run.settings)
            others = self.images.others(run.config, status.data)
            if others:
                self._refuse(run, others)
            elif status.state == "finished":
                self._done += 1
                self.runs.tidy(run.name, self.keep_state)
                self._estimator.learn(
                    run.settings, status.metrics.get("seconds", 0.0), run.epochs, here=False
                )
            elif status.state == "failed":
                self._fail(run, status.error)
            else:
                self.waiting.append(run)

    def _refuse(self, run: PlannedRun, others: str) -> None:
        """A finished run of other images."""
        text = f"{self.runs.root / run.name} holds a finished run of other {run.settings['data']} {others}"
        self.runs.refused[run.name] = f"{text}; move it away or choose another --output"
        self._fail(run, self.runs.refused[run.name])

    def expected(self, job: PlannedRun) -> float | None:
        """By the epochs that are left, and what epochs of runs like it took."""
        return self._estimator.seconds(job.settings, job.epochs - saved_epochs(self.runs.root / job.name))

    def start(self, job: PlannedRun) -> Process[PlannedRun] | None:
        """See `Schedule.start`."""
        log = log_path(self.runs.root, job.name)
        descriptor = claim(log)
        if descriptor is None:
            return None  # the process of a sweep that was killed, or of another one, is at it
        status = self.runs.status(job.name, job.settings)
        if status.state == "finished":
            os.close(descriptor)
            self.waiting.remove(job)
            self._finish(job, "finished by another process")
            return None
        self._first[job.name] = status.epochs
        device = self.next_device
        command = self.command(job, device)
        if self._lanes > 1:
            os.close(descriptor)  # and is taken there
            return Process(job, self._laned(device).give(command, log), log, self.clock(), device)
        return start(job, log, descriptor, command, self.clock(), device=device, cluster=self.cluster)

    def _laned(self, device: str) -> LaneProcess:
        """The process of a device's lanes; a new one where the last has died."""
        known = self._lane_processes.get(device)
        if known is None or not known.alive:
            if known is not None:
                known.close()
            known = self._lane_processes[device] = LaneProcess([*LANES, device, str(self._lanes)])
        return known

    def ended(self, process: Process[PlannedRun]) -> None:
        """See `Schedule.ended`."""
        run, status = process.job, self.runs.status(process.job.name, process.job.settings)
        if status.state == "finished":
            seconds = self.clock() - process.started
            self._estimator.learn(run.settings, seconds, run.epochs - self._first[run.name], here=True)
            self._finish(run, _result(status, seconds))
        elif process.stopped() or process.process.returncode == TAKEN:
            self.waiting.append(run)
        else:
            self._fail(run, status.error or process.failure())
        self._write_table()

    def _finish(self, run: PlannedRun, text: str) -> None:
        self._done += 1
        self.runs.tidy(run.name, self.keep_state)
        remove_log(self.runs.root, run.name)
        self.display.line(f"[{self._done + len(self.errors)}/{len(self.chosen)}] {run.name}: {text}")

    def _fail(self, run: PlannedRun, error: str) -> None:
        self.errors[run.name] = error
        self.display.line(f"[{self._done + len(self.errors)}/{len(self.chosen)}] {run.name} failed: {error}")

    def show(self) -> None:
        """Refresh the display, once a second: it reads the logs of all runs that aren't done."""
        if time.monotonic() < self._shown + 1:
            return
        self._shown = time.monotonic()
        running = [
            Running(process.job.name, saved_epochs(self.runs.root / process.job.name), process.job.epochs)
            for process in self.running
        ]
        self.display.update(len(self.chosen) - self.left, running, self._eta())

    def _eta(self) -> float | None:
        """Expected seconds until everything is done; None while unknown."""
        needs = [self.expected(run) for run in self.waiting]
        for process in self.running:
            run = process.job
            whole = self._estimator.seconds(run.settings, run.epochs - self._first[run.name])
            needs.append(None if whole is None else max(whole + process.started - self.clock(), 0.0))
        known = [seconds for seconds in needs if seconds is not None]
        return sum(known) / self.at_a_time if len(known) == len(needs) else None

    def _write_table(self) -> None:
        write_table(self.runs, self.planned, dict.fromkeys(self._first, "") | self.errors)


def _result(status: Status, seconds: float) -> str:
    accuracy = status.metrics.get("test_accuracy")
    result = "finished" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"
    return f"{result} in {duration(seconds)}"


def log_path(root: Path, name: str) -> Path:
    """Where a run's messages are."""
    return root / "logs" / f"{name}.log"


def remove_log(root: Path, name: str) -> None:
    """Remove the log of a finished run, and the folder with the last of them."""
    log_path(root, name).unlink(missing_ok=True)
    with suppress(OSError):
        log_path(root, name).parent.rmdir()
