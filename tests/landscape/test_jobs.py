"""Commands that run others, here and in a worker, asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import PATIENCE, soon

from landscape.commandline.claims import claim
from landscape.commandline.elsewhere import KILL, run_there, stop_file
from landscape.commandline.jobs import start


def there(words: Sequence[str], folder: Path) -> int:
    """What a worker does, which looks for my file."""
    log = folder / "job.log"
    return run_there(words, str(stop_file(log, "me")), str(log), str(folder), prints=False)


@pytest.mark.parametrize(
    ("here", "ended_by"), [(signal.default_int_handler, signal.SIGINT), (signal.SIG_IGN, signal.SIGTERM)]
)
def test_a_job_of_the_background_is_asked_too(tmp_path: Path, here: object, ended_by: signal.Signals) -> None:
    """A shell's ``&`` and nohup leave Ctrl-C ignored, here and in what is started from here."""
    before = signal.signal(signal.SIGINT, here)  # type: ignore[arg-type]
    try:
        log = tmp_path / "job.log"
        descriptor = claim(log)
        assert descriptor is not None
        process = start(None, log, descriptor, ["sleep", "60"], 0.0)
        process.interrupt()
        assert process.process.wait() == -ended_by
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("here", "ended_by"), [(signal.default_int_handler, signal.SIGINT), (signal.SIG_IGN, signal.SIGTERM)]
)
def test_a_worker_of_the_background_asks_too(tmp_path: Path, here: object, ended_by: signal.Signals) -> None:
    before = signal.signal(signal.SIGINT, here)  # type: ignore[arg-type]
    try:
        stop_file(tmp_path / "job.log", "me").touch()
        found = there(["sleep", "60"], tmp_path)
        assert found == -ended_by
    finally:
        signal.signal(signal.SIGINT, before)
    assert not stop_file(tmp_path / "job.log", "me").exists()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> int:
    """How many processes of its own one has."""
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found += int(stat.read_text().rpartition(")")[2].split()[1]) == pid
    return found


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
FAMILY = ["sh", "-c", "trap '' INT; sleep 600 & echo $! > child.new; mv child.new child; wait; sleep 600"]


def child_in(folder: Path) -> int:
    """What `FAMILY` has started, once it has."""
    assert soon((folder / "child").exists)
    return int((folder / "child").read_text())


@linux
def test_a_killed_command_ends_with_all_that_it_started(tmp_path: Path) -> None:
    stop, codes = stop_file(tmp_path / "job.log", "me"), list[int]()
    thread = threading.Thread(target=lambda: codes.append(there(FAMILY, tmp_path)))
    thread.start()
    child = child_in(tmp_path)
    stop.touch()  # which it doesn't heed
    time.sleep(0.5)
    assert alive(child)
    stop.write_text(KILL)
    thread.join(PATIENCE)
    assert codes == [-signal.SIGKILL]
    assert soon(lambda: not alive(child))
    assert not stop.exists()


def test_what_was_killed_before_its_worker_came_to_it_does_not_begin(tmp_path: Path) -> None:
    stop_file(tmp_path / "job.log", "me").write_text(KILL)
    found = there(["touch", "begun"], tmp_path)
    assert found == -signal.SIGKILL
    assert {one.name for one in tmp_path.iterdir()} == {"job.log"}


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_its_worker(tmp_path: Path, number: signal.Signals) -> None:
    told = f"{FAMILY!r}, {str(tmp_path / 'stop')!r}, {str(tmp_path / 'job.log')!r}, {str(tmp_path)!r}, False"
    program = f"from landscape.commandline.elsewhere import run_there; run_there({told})"
    with subprocess.Popen([sys.executable, "-c", program]) as worker:
        child = child_in(tmp_path)
        assert soon(lambda: children(worker.pid) == 2)  # the command, and who watches
        os.kill(worker.pid, number)
    assert soon(lambda: not alive(child))
    assert soon(lambda: claim(tmp_path / "job.log") is not None), "nothing of it has the lock"
