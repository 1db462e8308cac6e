"""Run the commands of a reproduction within a time budget, and say how far it is."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from figures.reproduce.plan import Job
from landscape.commandline.claims import claim
from landscape.commandline.console import note
from landscape.commandline.jobs import Process, Schedule, start
from landscape.cores import cores
from landscape.keeping.signals import Interrupted

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

FIRST_GUESS = 60.0  # seconds a job is expected to take before one of its kind has ended


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes
    ----------
    failed
        Names of jobs whose command failed, with its last line.
    left
        Jobs that the time budget or a signal didn't allow to start, or to end.
    stopped
        What interrupted it, if anything did.
    """

    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: KeyboardInterrupt | None = None


class Reproduction(Schedule[Job]):
    """Runs what isn't done; each command has its share of the cores, and a log with what it prints.

    Parameters
    ----------
    jobs
        In this order.
    logs
        Folder for a file per job.
    deadline, at_a_time, clock, devices, cluster
        See `Schedule`; inf for no deadline.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        logs: Path,
        deadline: float = inf,
        at_a_time: int = 1,
        clock: Callable[[], float] = time.monotonic,
        devices: Sequence[str] = ("auto",),
        cluster: Cluster | None = None,
    ) -> None:
        super().__init__(at_a_time, deadline, clock, devices, cluster)
        self.waiting = [job for job in jobs if not job.done]
        self.logs = logs
        self.failed: dict[str, str] = {}
        self._total = len(self.waiting)
        self._left: list[str] = []
        self._seconds: dict[str, list[float]] = {}
        self._shown: dict[Path, int] = {}
        share = {"OMP_NUM_THREADS": str(max(1, cores() // at_a_time))}
        self._environment = {**os.environ, **share} if at_a_time > 1 else None  # one alone takes all cores

    @property
    def outcome(self) -> Outcome:
        """What became of them so far."""
        stopped = Interrupted(self.signals[0]) if self.signals else None
        return Outcome(self.failed, [*self._left, *(job.name for job in self.waiting)], stopped)

    def expected(self, job: Job) -> float:
        """As its kind, else as all kinds, have taken here."""
        known = self._seconds.get(job.kind) or [one for times in self._seconds.values() for one in times]
        return median(known) if known else FIRST_GUESS

    def start(self, job: Job) -> Process[Job] | None:
        """See `Schedule.start`."""
        log = log_of(job, self.logs)
        descriptor = claim(log)
        if descriptor is None:
            return None  # the process of a reproduction that was killed, or of another one, is at it
        if job.done:  # which has ended meanwhile
            os.close(descriptor)
            self.waiting.remove(job)
            return None
        self._announce(job)
        job.product.parent.mkdir(parents=True, exist_ok=True)
        device = self.next_device
        command = job.on(device)
        self._shown[log] = os.write(descriptor, (shlex.join(command) + "\n").encode())
        return start(
            job,
            log,
            descriptor,
            command,
            self.clock(),
            device=device,
            cluster=self.cluster,
            stdout=descriptor,
            environment=self._environment,
        )

    def ended(self, process: Process[Job]) -> None:
        """See `Schedule.ended`."""
        job, name = process.job, process.job.title
        self._show_log(process.log)
        if process.process.returncode == 0 and job.done:
            self._seconds.setdefault(job.kind, []).append(self.clock() - process.started)
        elif process.stopped():
            self._left.append(job.name)
        else:
            self.failed[name] = process.failure()
            note(f"failed: {name}: {self.failed[name]}")

    def show(self) -> None:
        """What the commands have printed since."""
        for process in self.running:
            self._show_log(process.log)

    def _show_log(self, log: Path) -> None:
        with log.open("rb") as file:
            file.seek(self._shown[log])
            whole = file.read().rpartition(b"\n")
        self._shown[log] += len(whole[0]) + len(whole[1])
        for line in whole[0].decode("utf-8", "replace").splitlines():
            note(f"  {line.rstrip()}")

    def _announce(self, job: Job) -> None:
        begun = sum(max(0.0, self.expected(one.job) + one.started - self.clock()) for one in self.running)
        left = (sum(map(self.expected, self.waiting)) + begun) / self.at_a_time
        number = self._total - len(self.waiting) + 1
        note(f"[{number}/{self._total}, about {_minutes(left)} left] {job.title}")


def run_jobs(
    jobs: Sequence[Job],
    logs: Path,
    deadline: float = inf,
    at_a_time: int = 1,
    devices: Sequence[str] = ("auto",),
    cluster: Cluster | None = None,
) -> Outcome:
    """Run what isn't done; see `Reproduction`."""
    schedule = Reproduction(jobs, logs, deadline, at_a_time, devices=devices, cluster=cluster)
    schedule.run()
    return schedule.outcome


def log_of(job: Job, logs: Path) -> Path:
    """Where a job's output is kept."""
    return logs / f"{job.kind}-{job.name}.log"


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"
