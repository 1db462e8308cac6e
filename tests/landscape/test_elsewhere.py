"""Jobs as commands in a cluster's workers: exit codes, what they print, their locks, and being stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inside_cluster import inside_cluster, served
from waiting import soon

from landscape.commandline.claims import claim
from landscape.commandline.elsewhere import KILL, Elsewhere, stop_file
from landscape.commandline.jobs import Process, Schedule, start
from landscape.workers.cluster import Cluster, connected

pytest.importorskip("distributed")


@pytest.fixture
def here() -> Iterator[Cluster]:
    with inside_cluster() as found:
        yield found


class Commands(Schedule[str]):
    """Each job is a program; what became of it is noted."""

    def __init__(self, programs: list[str], folder: Path, cluster: Cluster) -> None:
        super().__init__(cluster=cluster)
        self.waiting, self.folder = list(programs), folder
        self.codes: dict[str, int | None] = {}
        self.failures: dict[str, str] = {}

    def expected(self, job: str) -> float | None:
        """Unknown."""
        return None

    def start(self, job: str) -> Process[str] | None:
        """In the folder, with a log."""
        log = self.folder / f"{abs(hash(job))}.log"
        descriptor = claim(log)
        if descriptor is None:
            return None
        return start(job, log, descriptor, [sys.executable, "-c", job], 0.0, cluster=self.cluster)

    def ended(self, process: Process[str]) -> None:
        """Note it."""
        self.codes[process.job] = process.process.returncode
        if process.process.returncode:
            self.failures[process.job] = process.failure()
        if process.job.startswith("import time"):
            assert claim(process.log) is not None, "the lock is free again"

    def show(self) -> None:
        """Nothing."""


def test_commands_run_in_workers(here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    right = ["open('a', 'w').write('1')", "open('b', 'w').write('2')"]
    wrong = ["import sys; sys.exit('error: no such data')", "import os; os.kill(os.getpid(), 9)"]
    schedule = Commands([*right, *wrong], tmp_path, here)
    schedule.run()
    assert schedule.codes == {right[0]: 0, right[1]: 0, wrong[0]: 1, wrong[1]: -9}
    assert schedule.failures == {wrong[0]: "no such data", wrong[1]: "killed by SIGKILL (out of memory?)"}
    assert (Path("a").read_text(), Path("b").read_text()) == ("1", "2")
    assert schedule.at_a_time == 2
    assert not list(tmp_path.glob(".*stop"))


def test_a_signal_reaches_them(here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / "begun"
    program = (
        f"import time, pathlib; pathlib.Path({str(begun)!r}).touch()\n"
        "try: time.sleep(300)\nexcept KeyboardInterrupt: raise SystemExit(130)"
    )
    schedule = Commands([program], tmp_path, here)

    def when_begun() -> None:
        while not begun.exists():
            threading.Event().wait(0.05)
        threading.Event().wait(0.3)  # the interpreter is in its sleep by then, or stops before it
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=when_begun)
        thread.start()
        schedule.run()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert schedule.signals == [signal.SIGINT]
    assert schedule.codes == {program: 130}
    assert not list(tmp_path.glob(".*stop"))


STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
with open("begun", "a") as file: file.write(f"{os.getpid()}\\n")
while True:
    time.sleep(0.05)
    with open("alive", "a") as file: file.write("x")
"""


def pids_in(folder: Path, count: int) -> list[int]:
    """Of as many that have begun, once they have."""
    file = folder / "begun"
    assert soon(lambda: file.exists() and len(file.read_text().split()) >= count)
    return [int(one) for one in file.read_text().split()]


def gone(folder: Path) -> bool:
    """Whether all that have begun have ended."""
    return not any(map(runs, pids_in(folder, 1)))


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def goes_on(folder: Path) -> bool:
    """Whether something is added to a file."""
    file = folder / "alive"
    before = file.stat().st_size
    return soon(lambda: file.stat().st_size > before)


def stop_files(folder: Path) -> list[Path]:
    return list(folder.glob(".*stop"))


@pytest.mark.parametrize("apart", [0.1, 1.0])
def test_a_second_signal_ends_them(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: float
) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = Commands([STUBBORN], tmp_path, here)

    def twice() -> None:
        pids_in(tmp_path, 1)
        for seconds in (0.2, apart):
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=twice)
        thread.start()
        schedule.run()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert schedule.codes == {STUBBORN: -signal.SIGKILL}
    assert soon(lambda: gone(tmp_path))
    assert soon(lambda: not stop_files(tmp_path))


def test_a_worker_that_ends_ends_them_and_another_one_goes_on(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "job.log"
    old, other = stop_file(log, "old"), stop_file(log, "other")
    old.write_text(KILL)
    other.write_text(KILL)
    os.utime(old, (0.0, 0.0))
    process = Elsewhere(here, [sys.executable, "-c", STUBBORN], log, prints=False)
    (first,) = pids_in(tmp_path, 1)
    ((address, _),) = [one for one in here.client.processing().items() if one[1]]
    here.client.retire_workers([address], close_workers=True)
    (_, second) = pids_in(tmp_path, 2)
    assert process.poll() is None
    assert first != second
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert soon(lambda: gone(tmp_path))
    assert soon(lambda: stop_files(tmp_path) == [other]), "somebody may come to read it"


def test_who_was_asked_to_stop_is_asked_again_elsewhere(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = Elsewhere(here, [sys.executable, "-c", STUBBORN], tmp_path / "job.log", prints=False)
    pids_in(tmp_path, 1)
    ((address, _),) = [one for one in here.client.processing().items() if one[1]]
    process.send_signal(signal.SIGINT)
    here.client.retire_workers([address], close_workers=True)
    assert soon(lambda: process.poll() is not None)
    assert process.returncode in (130, -signal.SIGINT), "not begun, or before it could refuse"
    assert soon(lambda: gone(tmp_path))
    assert soon(lambda: not stop_files(tmp_path))


def test_who_started_them_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command that is killed does, while workers of a scheduler's file stay."""
    monkeypatch.chdir(tmp_path)
    with served("tcp", 1) as inside:
        with connected(inside.scheduler_address) as cluster:
            Elsewhere(cluster, [sys.executable, "-c", STUBBORN], tmp_path / "job.log", prints=False)
            (pid,) = pids_in(tmp_path, 1)
        time.sleep(1.0)
        assert goes_on(tmp_path)
        assert claim(tmp_path / "job.log") is None, "the same command waits for it"
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("asked", ["who runs it", "who waits for it"])
def test_who_stops_one_does_not_stop_another_ones(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """As two sweeps of a folder, both of whose workers have a run before either has begun it."""
    monkeypatch.chdir(tmp_path)
    program = STUBBORN.replace("signal.signal(signal.SIGINT, signal.SIG_IGN)\n", "")
    log = tmp_path / "job.log"
    first = Elsewhere(here, [sys.executable, "-c", program], log, prints=False)
    pids_in(tmp_path, 1)
    second = Elsewhere(here, [sys.executable, "-c", program], log, prints=False)
    time.sleep(0.6)
    stopped, other = (first, second) if asked == "who runs it" else (second, first)
    stopped.send_signal(signal.SIGINT)
    assert soon(lambda: stopped.poll() is not None)
    if other is second:
        pids_in(tmp_path, 2)
    time.sleep(0.6)
    assert other.poll() is None
    assert goes_on(tmp_path)
    other.kill()
    assert soon(lambda: gone(tmp_path))
    assert soon(lambda: not stop_files(tmp_path))


def test_two_signals_at_once_are_two(here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = Commands([STUBBORN], tmp_path, here)

    def show() -> None:
        if (tmp_path / "begun").exists():
            schedule.signals += [signal.SIGINT, signal.SIGINT]

    monkeypatch.setattr(schedule, "show", show)
    started = time.monotonic()
    schedule.run()
    assert schedule.codes == {STUBBORN: -signal.SIGKILL}
    assert time.monotonic() - started < 30.0, "before the time to stop by itself was over"
