"""One process writes an output: the second is refused in one line, a dead one's lock is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landscape.errors import UserError
from landscape.keeping import lock
from landscape.keeping.keeper import Keeper
from landscape.keeping.lock import check_owned, lock_path, owned

HOLDING = """
import sys
from landscape.keeping.lock import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(output: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def refused(output: Path) -> str:
    with pytest.raises(UserError) as error, owned(output):
        raise AssertionError
    return str(error.value)


def foreign(output: Path, **changes: Any) -> Path:
    """The lock of a process on another machine."""
    content = lock._this_process() | {"host": "elsewhere", "machine": ["elsewhere", "1", "pid:[1]"]} | changes
    lock_path(output).write_text(json.dumps(content))
    return lock_path(output)


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_the_second_process_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "x.h5"
    with holder(output) as first:
        said = refused(output)
        assert said.startswith(f"{output} is being written by process {first.pid} on ")
        assert f" UTC, as {lock_path(output)} says" in said
        assert "\n" not in said
        first.communicate()
    with owned(output):  # it has left nothing behind
        assert lock_path(output).exists()
    assert list(output.parent.iterdir()) == []


def test_a_killed_ones_lock_is_taken_over_at_once(tmp_path: Path) -> None:
    output = tmp_path / "x.h5"
    with holder(output) as first:
        first.kill()
        first.wait()
    assert lock_path(output).exists()
    began = time.monotonic()
    with owned(output):
        assert json.loads(lock_path(output).read_text())["pid"] == os.getpid()
    assert time.monotonic() - began < 2
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_by_now_is_no_owner(tmp_path: Path) -> None:
    output = tmp_path / "x.h5"
    if lock._this_process()["born"] is None:
        pytest.skip("no births of processes here")
    with holder(output) as first:
        told = json.loads(lock_path(output).read_text())
        assert f"process {first.pid} on " in refused(output)
        lock_path(output).write_text(json.dumps(told | {"born": "1"}))
        with owned(output):
            pass
        first.communicate()


def test_what_this_process_could_not_remove_is_no_lock(tmp_path: Path) -> None:
    lock_path(tmp_path / "x.h5").write_text(json.dumps(lock._this_process()))
    with owned(tmp_path / "x.h5"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_machines_lock_lasts_while_it_gives_a_sign(tmp_path: Path) -> None:
    output = tmp_path / "x.h5"
    path = foreign(output)
    assert "on elsewhere, since " in refused(output)
    aged(path, lock.SILENT_SECONDS - 60)
    refused(output)
    aged(path, lock.SILENT_SECONDS + 60)
    with owned(output):
        pass


def test_a_machine_that_was_started_anew_holds_nothing(tmp_path: Path) -> None:
    machine = lock._machine()
    if len(machine) < 3:
        pytest.skip("starts of the machine aren't told apart here")
    foreign(tmp_path / "x.h5", machine=[machine[0], "another start", machine[2]])
    with owned(tmp_path / "x.h5"):
        pass
    foreign(tmp_path / "x.h5", machine=[machine[0], machine[1], "pid:[1]"])  # a container: can't be looked at
    refused(tmp_path / "x.h5")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "[" * 5000])
def test_whoever_died_before_writing_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(lock, "FILLED_SECONDS", 0.01)
    path = lock_path(tmp_path / "x.h5")
    path.write_text(content)
    with owned(tmp_path / "x.h5"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ['{"pid": 1e400}', '{"token": null}', '{"machine": [1, {}], "pid": -1}'])
def test_a_lock_of_another_kind_waits_for_its_time(tmp_path: Path, content: str) -> None:
    path = lock_path(tmp_path / "x.h5")
    path.write_text(content)
    assert "is being written by " in refused(tmp_path / "x.h5")
    aged(path, lock.SILENT_SECONDS + 60)
    with owned(tmp_path / "x.h5"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_blocks_of_one_thread_nest_and_another_thread_is_refused(tmp_path: Path) -> None:
    output, said = tmp_path / "x.h5", list[str]()
    with owned(output):
        with owned(str(output)):
            pass
        assert lock_path(output).exists()
        other = threading.Thread(target=lambda: said.append(refused(output)))
        other.start()
        other.join()
    assert not lock_path(output).exists()
    assert f"process {os.getpid()} on" in said[0]


def test_whoever_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    output, written = tmp_path / "x.h5", list[Path]()
    keeper = Keeper(output)
    with owned(output):
        keeper.save(written.append)
        path = foreign(output)
        with pytest.raises(UserError, match=r"process .* on elsewhere.* has taken it over"):
            keeper.save(written.append)
        path.unlink()  # somebody has removed it: that is no other owner
        keeper.save(written.append)
        foreign(output)
    assert written == [output, output]
    assert path.exists()  # another's lock isn't removed
    check_owned(output)


def test_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with owned(tmp_path / "x.h5"):
        path = lock_path(tmp_path / "x.h5")
        aged(path, 1000)
        until = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 500 and time.monotonic() < until:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 500
    for thread in threading.enumerate():
        if thread.name == "lock":
            thread.join(10)
            assert not thread.is_alive()


def fails(name: str) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    return fail


@pytest.mark.parametrize("operation", ["open", "write"])
def test_where_no_lock_can_be_made_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Nothing else can be written there either, which says what is wrong."""
    with monkeypatch.context() as patch:
        patch.setattr(lock.os, operation, fails(operation))
        with owned(tmp_path / "x.h5"):
            assert list(tmp_path.iterdir()) == []
    with owned(Path("/proc/x.h5")), owned(tmp_path / ("x" * 240)), owned(None):
        pass
    (tmp_path / "file").write_text("")
    with owned(tmp_path / "file" / "x.h5"):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_many_that_find_a_dead_ones_lock_let_one_through(tmp_path: Path) -> None:
    output = tmp_path / "x.h5"
    foreign(output)
    aged(lock_path(output), lock.SILENT_SECONDS + 60)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDING, output],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        process.communicate()
    assert sorted(said) == ["", "", "", "held\n"]
    assert list(tmp_path.iterdir()) == []
