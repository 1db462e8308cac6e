"""Run commands one after another, within a time budget, and say how far it is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from figures.reproduce.plan import Job

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
        Whether it was interrupted.
    """

    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: bool = False


def run_jobs(
    jobs: Sequence[Job],
    logs: Path,
    deadline: float,
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
    call
        Runs one job and returns its exit status; the default starts its command.
    clock
        Seconds that rise.
    """
    outcome = Outcome()
    todo = [job for job in jobs if not job.done]
    seconds: dict[str, list[float]] = {}
    for number, job in enumerate(todo):
        left = sum(_expected(one, seconds) for one in todo[number:])
        if clock() + _expected(job, seconds) > deadline:
            outcome.left.append(job.name)
            continue
        _say(f"[{number + 1}/{len(todo)}, about {_minutes(left)} left] {job.kind} {job.name}")
        began, log = clock(), logs / f"{job.kind}-{job.name}.log"
        try:
            status = (call or run_one)(job, log)
        except KeyboardInterrupt:
            outcome.stopped = True
            outcome.left += [one.name for one in todo[number:]]
            return outcome
        if status == 0 and job.done:
            seconds.setdefault(job.kind, []).append(clock() - began)
        else:
            outcome.failed[f"{job.kind} {job.name}"] = _last_line(log) or f"exit status {status}"
            _say(f"failed: {outcome.failed[f'{job.kind} {job.name}']}")
    return outcome


def run_one(job: Job, log: Path) -> int:
    """Start the command; its standard error, with the progress, is shown, and all of it is logged."""
    log.parent.mkdir(parents=True, exist_ok=True)
    job.product.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        file.write(" ".join(job.command) + "\n")
        file.flush()
        with subprocess.Popen(
            job.command, stdout=file, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
        ) as process:
            try:
                for line in process.stderr or ():
                    file.write(line)
                    file.flush()
                    _say(f"  {line.rstrip()}")
                return process.wait()
            except BaseException:
                process.terminate()  # it keeps what it has
                raise


def _expected(job: Job, seconds: dict[str, list[float]]) -> float:
    known = seconds.get(job.kind) or [one for times in seconds.values() for one in times]
    return median(known) if known else FIRST_GUESS


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _last_line(log: Path) -> str:
    """The last thing that a command said; commands end with one line that says what is wrong."""
    lines = log.read_text(encoding="utf-8").strip().splitlines()[1:] if log.exists() else []
    return lines[-1].strip() if lines else ""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
