"""Whatever happens to the file system at whichever operation, files are whole, and the same call goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_faults import dies_at, failing, fault
from small_network import bits

from landscape.engine import Totals
from landscape.errors import UserError
from landscape.keeping import lock, pace
from landscape.keeping.lock import owned
from landscape.keeping.partial import PartialKeeper, State, state_path
from landscape.keeping.points import OneByOne, Point
from landscape.keeping.signals import Interrupted, held_back, raised_signals
from landscape.sampling import exact
from landscape.surface import Surface, load_surface
from landscape.surface.surface_run import SurfaceRun

AXIS = np.linspace(-1.0, 1.0, 2)
SETTINGS = {"what": "bowl"}
STEPS = 3
FULL_ONCE, FULL, READ_ONLY = (errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EROFS, True)


@pytest.fixture(autouse=True)
def _saving_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(pace, "SHARE", float("inf"))
    monkeypatch.setattr(lock, "FILLED_SECONDS", 0.0)
    monkeypatch.setattr(lock, "TWICE_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # other tests' disks are busy


class Bowl:
    """A loss without a network; remembers how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def evaluate(self, point: Point) -> Mapping[str, Totals]:
        self.asked += 1
        losses = np.array([1.0, 2.0]) + sum(one**2 for one in point)
        return {"train": Totals(np.array([3, 4]), {"loss": losses}, {"loss": float((losses**2).sum())})}


class Backwards(Bowl):
    """Gives the results of a batch in the opposite order."""

    def evaluate_many(
        self, points: Sequence[Point], ahead: object = None
    ) -> Generator[tuple[int, Mapping[str, Totals]], None, None]:
        """As of an `Evaluator`."""
        for number in reversed(range(len(points))):
            yield number, self.evaluate(points[number])


def surface(path: Path | None, bowl: Bowl | None = None) -> Surface:
    """Two points of a line, saved after each; goes on from what is there."""
    bowl = bowl or Bowl()
    evaluator = bowl if isinstance(bowl, Backwards) else OneByOne(bowl.evaluate)
    with owned(path):
        earlier = load_surface(path) if path is not None and path.exists() else None
        if earlier is not None and earlier.complete:
            return earlier
        frame = Surface(AXIS, np.zeros(1), (), SETTINGS, {}, complete=False)
        run = SurfaceRun(frame, 1, path, None, earlier)
        run.plane(evaluator, exact(AXIS, np.zeros(1)), {"kind": "bowl"}, [])
        return run.finish()


class TextForm:
    """Results and states as JSON, written in one step by way of `landscape.files`."""

    holds = "holds a sum"

    def read(self, path: Path) -> tuple[Mapping[str, Any], int]:
        """Settings and result."""
        content = json.loads(path.read_text())
        return content["settings"], content["value"]

    def read_state(self, path: Path) -> tuple[Mapping[str, Any], State]:
        """Settings and state."""
        content = json.loads(path.read_text())
        return content["settings"], content["value"]

    def write_state(self, path: Path, settings: Mapping[str, Any], state: State) -> None:
        """In one step."""
        write(path, settings, state)


def write(path: Path, settings: Mapping[str, Any], value: Any) -> None:
    from landscape.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "value": value}))


class Sum:
    """1 + 2 + … in two changes a step, which must not be torn apart."""

    def __init__(self) -> None:
        self.step = self.value = 0

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.step, self.value = state["step"], state["value"]

    def state(self) -> State:
        """Nothing before the first step."""
        assert self.value == self.step * (self.step + 1) // 2
        return {"step": self.step, "value": self.value} if self.step else {}


def summed(path: Path) -> int:
    """With its state at ``PATH.partial`` until it is there."""
    with owned(path):
        keeper = PartialKeeper(path, SETTINGS, TextForm())
        if keeper.finished is not None:
            return keeper.finished
        work = Sum()
        keeper.restore(work.restore)
        with keeper.keeping(work.state) as sometimes:
            while work.step < STEPS:
                with held_back():
                    work.step += 1
                    work.value += work.step
                sometimes()
        keeper.finish(lambda there: write(there, SETTINGS, work.value))
        return work.value


def points(path: Path) -> int:
    """Evaluated ones in a file that must be whole."""
    found = load_surface(path) if path.exists() else None
    return 0 if found is None else sum(int(plane.computed.sum()) for plane in found.planes)


def operations(work: Callable[[Path], object], folder: Path) -> int:
    """How many file operations it takes, once everything is imported."""
    (folder / "counted").mkdir()
    work(folder / "counted" / "first")
    with fault(0) as counted:
        work(folder / "counted" / "x")
    return counted.count


def left(folder: Path) -> set[str]:
    """Names, those of temporary files left out."""
    return {one.name for one in folder.iterdir() if not one.name.endswith((".tmp", ".lock"))}


def test_killed_at_each_file_operation_a_surface_loses_no_saved_point(tmp_path: Path) -> None:
    whole, known = surface(None), 0
    number = operations(surface, tmp_path)
    assert number > 20
    for at in range(1, number + 1):
        path = tmp_path / f"{at}.h5"
        assert dies_at(at, lambda path=path: surface(path))  # type: ignore[misc]
        before = points(path)
        assert before >= known - 1  # what the same operations had saved; the lock may be one more or less
        known = max(known, before)
        again = Bowl()
        assert bits(surface(path, again)) == bits(whole)
        assert again.asked == len(AXIS) - before
    assert bits(load_surface(path)) == bits(whole)
    assert known == len(AXIS)
    assert not list(tmp_path.glob(".*.lock"))


def test_killed_at_each_file_operation_a_partial_result_goes_on(tmp_path: Path) -> None:
    for at in range(1, operations(summed, tmp_path) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert dies_at(at, lambda path=folder / "x": summed(path))  # type: ignore[misc]
        assert summed(folder / "x") == STEPS * (STEPS + 1) // 2
        assert left(folder) == {"x"}


@pytest.mark.parametrize("work", [surface, summed])
@pytest.mark.parametrize(
    ("number", "onwards"), [(errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EROFS, True)]
)
def test_a_disk_that_fails_at_each_operation_in_turn(
    tmp_path: Path, work: Callable[[Path], Any], number: int, onwards: bool
) -> None:
    """Full for a moment, full from then on, and read-only from then on: one line, and later it goes on."""
    whole, count, said = work(tmp_path / "whole"), operations(work, tmp_path), list[str]()
    for at in range(1, count + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        with suppress(UserError), fault(at, failing(number), onwards):
            try:
                work(folder / "x")
            except UserError as error:
                said.append(str(error))
                raise
        if not onwards and at < count:  # the last one removes the lock
            assert not list(folder.glob(".*"))  # neither a lock nor half a file
        result = work(folder / "x")
        assert result == whole or bits(result) == bits(whole)
        assert left(folder) == {"x"}
    assert len(said) > count // 3
    assert [one for one in said if os.strerror(number) not in one or "\n" in one] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_each_file_operation_waits_until_the_file_is_written(
    tmp_path: Path, number: signal.Signals
) -> None:
    for at in range(1, operations(summed, tmp_path) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        with (
            suppress(Interrupted),
            raised_signals(),
            fault(at, lambda: signal.raise_signal(number)) as counted,
        ):
            summed(folder / "x")
        assert counted.count >= at
        assert not list(folder.glob(".*"))
        assert summed(folder / "x") == STEPS * (STEPS + 1) // 2


def test_results_in_any_order_end_in_the_same_file(tmp_path: Path) -> None:
    assert bits(surface(tmp_path / "x.h5", Backwards())) == bits(surface(None))


def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    whole = surface(folder / "done.h5")
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere; the full disk is the same to the code")
        assert bits(surface(folder / "done.h5")) == bits(whole)  # reading needs no lock
        with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
            surface(folder / "x.h5")
    finally:
        folder.chmod(0o700)


def test_a_second_computation_into_one_file_is_refused(tmp_path: Path) -> None:
    class Meeting(Bowl):
        def evaluate(self, point: Point) -> Mapping[str, Totals]:
            if not self.asked:
                code = "import sys; from landscape.keeping.lock import owned; owned(sys.argv[1]).__enter__()"
                line = [sys.executable, "-c", code, path]
                done = subprocess.run(line, capture_output=True, text=True, check=False)
                said.append(done.stderr.splitlines()[-1])
            return super().evaluate(point)

    path, said = tmp_path / "x.h5", list[str]()
    assert bits(surface(path, Meeting())) == bits(surface(None))
    assert f"is being written by process {os.getpid()} on " in said[0]


def test_other_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with (
        pytest.raises(ZeroDivisionError),
        PartialKeeper(path, SETTINGS, TextForm()).keeping(lambda: {"step": 1, "value": 1}),
    ):
        _ = 1 / 0
    assert summed(path) == STEPS * (STEPS + 1) // 2
    for there in (path, state_path(path)):
        with pytest.raises(UserError) as error:
            PartialKeeper(path, {"what": "cone"}, TextForm())
        assert str(error.value) == (
            f"{there} holds a sum made with other settings (what: the file has "
            '"bowl", this run wants "cone"); choose another output path, or overwrite it with --overwrite'
        )
        path.rename(state_path(path)) if there == path else None
    assert PartialKeeper(path, {"what": "cone"}, TextForm(), overwrite=True).state is None
