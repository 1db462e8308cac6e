"""Run commands, some at a time, within a time budget, and say how far it is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Lock

from figures.reproduce.plan import Job
from landscape.commandline.console import note

FIRST_GUESS = 60.0  # seconds a job is expected to take before one of its kind has ended


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes
    ----------
    failed
        Names of jobs whose command failed, with its last line.
    left
        Jobs that the time budget didn't allow to start.
    stopped
        What interrupted it, if anything did.
    """

    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: KeyboardInterrupt | None = None


class Commands:
    """Starts commands and, when asked to, stops those that run.

    Parameters
    ----------
    at_a_time
        How many run together: each is told its share of the cores.
    """

    def __init__(self, at_a_time: int = 1) -> None:
        self._environment = _shared_cores(at_a_time)
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = Lock()

    def __call__(self, job: Job, log: Path) -> int:
        """Run one; its standard error, with the progress, is shown, and all of it is logged."""
        log.parent.mkdir(parents=True, exist_ok=True)
        job.product.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            file.write(" ".join(job.command) + "\n")
            file.flush()
            process = self._start(job, file.fileno())
            try:
                for line in process.stderr or ():
                    file.write(line)
                    file.flush()
                    _say(f"  {line.rstrip()}")
                return process.wait()
            finally:
                self._end(process)

    def stop(self) -> None:
        """End what runs, as a batch system does: the commands keep what they have."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _start(self, job: Job, output: int) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                job.command,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=self._environment,
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.discard(process)
        if process.poll() is None:
            process.terminate()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


@dataclass
class _Queue:
    """What is still to run, and how long jobs have taken."""

    todo: list[Job]
    logs: Path
    at_a_time: int
    clock: Callable[[], float]
    outcome: Outcome = field(default_factory=Outcome)
    running: dict[Future[int], tuple[Job, float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    started: int = 0

    def expected(self, job: Job) -> float:
        known = self.seconds.get(job.kind) or [one for times in self.seconds.values() for one in times]
        return median(known) if known else FIRST_GUESS

    def next(self, deadline: float) -> Job | None:
        """The next job that can be expected to end by the deadline; those that can't are left."""
        while self.todo:
            job = self.todo.pop(0)
            self.started += 1
            if self.clock() + self.expected(job) <= deadline:
                return job
            self.outcome.left.append(job.name)
        return None

    def announce(self, job: Job) -> None:
        waiting = sum(self.expected(one) for one in [job, *self.todo])
        begun = sum(
            max(0.0, self.expected(one) + since - self.clock()) for one, since in self.running.values()
        )
        left = (waiting + begun) / self.at_a_time
        total = self.started + len(self.todo)
        _say(f"[{self.started}/{total}, about {_minutes(left)} left] {job.kind} {job.name}")

    def finish(self, future: Future[int]) -> None:
        job, began = self.running.pop(future)
        status = future.result()
        if status == 0 and job.done:
            self.seconds.setdefault(job.kind, []).append(self.clock() - began)
            return
        name = f"{job.kind} {job.name}"
        self.outcome.failed[name] = _last_line(log_of(job, self.logs)) or f"exit status {status}"
        _say(f"failed: {name}: {self.outcome.failed[name]}")


def run_jobs(
    jobs: Sequence[Job],
    logs: Path,
    deadline: float,
    at_a_time: int = 1,
    call: Callable[[Job, Path], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run what isn't done; a job that can't be expected to end by the deadline isn't started.

    Parameters
    ----------
    jobs
        In this order.
    logs
        Folder for a file per job with what it prints.
    deadline
        On `clock`; inf for none.
    at_a_time
        How many run together.
    call
        Runs one job and returns its exit status; the default starts its command.
    clock
        Seconds that rise.
    """
    commands = Commands(at_a_time)
    queue = _Queue([job for job in jobs if not job.done], logs, at_a_time, clock)
    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            while True:
                while len(queue.running) < at_a_time and (job := queue.next(deadline)) is not None:
                    queue.announce(job)
                    began = clock()
                    future = pool.submit(call or commands, job, log_of(job, logs))
                    queue.running[future] = (job, began)
                if not queue.running:
                    return queue.outcome
                for future in wait(queue.running, return_when=FIRST_COMPLETED).done:
                    queue.finish(future)
        except KeyboardInterrupt as error:
            commands.stop()
            queue.outcome.stopped = error
            begun = [job for job, _ in queue.running.values() if not job.done]
            queue.outcome.left += [one.name for one in [*begun, *queue.todo]]
            return queue.outcome


def log_of(job: Job, logs: Path) -> Path:
    """Where a job's output is kept."""
    return logs / f"{job.kind}-{job.name}.log"


def _shared_cores(at_a_time: int) -> dict[str, str] | None:
    """The environment of the commands: one alone takes all cores; None is this process's own."""
    if at_a_time == 1:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // at_a_time))}


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _last_line(log: Path) -> str:
    """The last thing that a command said; commands end with one line that says what is wrong."""
    lines = log.read_text(encoding="utf-8").strip().splitlines()[1:] if log.exists() else []
    return lines[-1].strip() if lines else ""


def _say(line: str) -> None:
    note(line)
