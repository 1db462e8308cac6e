"""Workers that hang while they have items, or are to get what they need: who stands by replaces them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_works import Squares
from waiting import PATIENCE, soon

from landscape.engine.executors import point_name
from landscape.keeping.points import nothing_ahead
from landscape.workers import cluster as clusters
from landscape.workers import evaluator, local
from landscape.workers.cluster import Cluster
from landscape.workers.evaluator import Workers, workers
from landscape.workers.local import local_cluster

pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped"),
]

POINTS = [(float(number), 1.0) for number in range(20)]
RIGHT = [(number, 2.0 * (point[0] ** 2 + 1.0)) for number, point in enumerate(POINTS)]
NEVER = 1000.0


class Hanging:
    """A cluster some of whose workers are stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.stopped = cluster, set[int]()
        self.pids: dict[str, int] = cluster.client.run(os.getpid)

    def stop(self, *which: str) -> list[str]:
        """Those that work at present, or others; it returns their addresses."""
        found = list(which or self.cluster._working)
        for address in found:
            self.stopped.add(self.pids[address])
            os.kill(self.pids[address], signal.SIGSTOP)
        return found

    def stop_for(self, seconds: float) -> None:
        """Those that work at present."""
        threading.Timer(seconds, self.go_on, self.stop()).start()

    def go_on(self, *which: str) -> None:
        """Some or all that were stopped."""
        for pid in {self.pids[address] for address in which} or set(self.stopped):
            self.stopped.discard(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self, *which: str) -> None:
        """End some; they are started anew at other addresses."""
        for address in which:
            os.kill(self.pids[address], signal.SIGKILL)
        assert soon(lambda: not self.cluster.client.nthreads().keys() & set(which))

    def others(self) -> list[str]:
        """Those that stand by."""
        return sorted(self.pids.keys() - self.cluster._working)


@contextmanager
def hanging(count: int) -> Iterator[Hanging]:
    with local_cluster(count) as cluster:
        assert soon(lambda: len(cluster.there(now=True)) == count)
        found = Hanging(cluster)
        try:
            yield found
        finally:
            found.go_on()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 1)
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(clusters, "SILENT_SECONDS", NEVER)
    monkeypatch.setattr(evaluator, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(evaluator, "STRAGGLER_SECONDS", 0.7)
    monkeypatch.setattr(evaluator, "STRAGGLER_TIMES", 5.0)


def evaluated(many: Workers[Any, Any], after: Mapping[int, Callable[[], Any]]) -> Any:
    """All results in order; some things are done after as many of them. Fails when it takes long."""
    found, until = list[tuple[int, float]](), time.monotonic() + PATIENCE
    for one in many.coming(POINTS, nothing_ahead, 0.1):
        assert time.monotonic() < until, f"{len(found)} came"
        if one is not None:
            found.append(one)
            after.get(len(found), int)()
    return sorted(found)


@pytest.mark.parametrize(("count", "at_once"), [(3, 1), (4, 2)])
def test_who_stands_by_replaces_them_and_they_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, at_once: int
) -> None:
    monkeypatch.setattr(local, "cores", lambda: at_once)
    with (
        hanging(count) as here,
        workers(here.cluster, [2.0, Squares(str(tmp_path), 0.05)], None, point_name) as many,
    ):
        before = list(here.cluster._working)
        # One that comes back may be needed no more, but two aren't late at the same moment.
        assert evaluated(many, {6: here.stop, 12 if at_once == 1 else 20: here.go_on}) == RIGHT
        assert soon(lambda: here.cluster.there(now=True) and not here.cluster._late)
        assert here.cluster.width() == at_once
        assert not set(before).intersection(here.cluster._working)
        assert evaluated(many, {6: here.stop}) == RIGHT
        if count == 2 * at_once:
            assert set(before) == set(here.cluster._working), "they stand by since they came back"


@pytest.mark.parametrize("first", ["parcel", "item"])
def test_one_that_hangs_before_anything_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 1.5)
    with hanging(2) as here:
        timer = threading.Timer(2 * PATIENCE, here.go_on)  # longer than anything waits
        timer.start()
        gone = here.stop() if first == "parcel" else []
        with workers(here.cluster, [2.0, Squares(str(tmp_path))], None, point_name) as many:
            gone = gone or here.stop()
            assert evaluated(many, {}) == RIGHT
        timer.cancel()
        assert here.stopped, "or it was waited for"
        assert set(here.cluster._working).isdisjoint(gone)


def test_the_last_one_is_waited_for(tmp_path: Path) -> None:
    with (
        hanging(1) as here,
        workers(here.cluster, [2.0, Squares(str(tmp_path))], None, point_name) as many,
    ):
        assert evaluated(many, {6: lambda: here.stop_for(2.0)}) == RIGHT


@dataclass(frozen=True)
class OneSlow(Squares):
    """One point takes seconds, or until it is enough; who begins it leaves a file beside the folder."""

    slow: float = 4.0

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        usual, beside = super().begin(factor), Path(self.folder).parent

        def work(point: Sequence[float]) -> float:
            if tuple(point) == POINTS[6]:
                (beside / f"slow {os.getpid()}").touch()
                until = time.monotonic() + self.slow
                while time.monotonic() < until and not (beside / "enough").exists():
                    time.sleep(0.05)
            return usual(point)

        return work


def test_a_slow_item_does_not_go_through_all_that_stand_by(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    with (
        hanging(4) as here,
        workers(here.cluster, [2.0, OneSlow(str(folder), 0.05)], None, point_name) as many,
    ):
        assert evaluated(many, {}) == RIGHT
    assert len(list(tmp_path.glob("slow *"))) <= 2


def test_what_a_dead_one_had_comes_from_one_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 1.5)
    with (
        hanging(4) as here,
        workers(here.cluster, [2.0, Squares(str(tmp_path), 0.05)], None, point_name) as many,
    ):

        def most_go() -> None:
            here.stop(*here.others()[:-1])
            here.kill(*here.cluster._working)

        assert evaluated(many, {6: most_go}) == RIGHT


def test_who_stands_by_may_come_after_the_one_that_works_hangs(tmp_path: Path) -> None:
    with hanging(2) as here:
        here.kill(*here.others())
        here.cluster.there(now=True)
        with workers(here.cluster, [2.0, Squares(str(tmp_path), 0.05)], None, point_name) as many:
            assert evaluated(many, {1: here.stop}) == RIGHT


def test_parts_go_to_who_comes_while_the_only_one_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 1.5)
    with hanging(2) as here:
        timer = threading.Timer(2 * PATIENCE, here.go_on)
        timer.start()
        (gone,) = here.stop()
        here.kill(*here.others())
        with workers(here.cluster, [2.0, Squares(str(tmp_path))], None, point_name) as many:
            assert here.stopped, "or it was waited for"
            assert evaluated(many, {}) == RIGHT
        timer.cancel()
        assert gone not in here.cluster._working


def test_who_hangs_is_not_chosen_again_before_one_that_came_back(tmp_path: Path) -> None:
    with (
        hanging(3) as here,
        workers(here.cluster, [2.0, Squares(str(tmp_path), 0.05)], None, point_name) as many,
    ):
        assert evaluated(many, {4: here.stop, 8: lambda: here.stop_for(2.5), 15: here.stop}) == RIGHT


def test_a_slow_item_among_several_works_is_begun_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 2)
    folders = [tmp_path / name / "calls" for name in "abc"]
    for folder in folders:
        folder.mkdir(parents=True)
    with hanging(6) as here, ExitStack() as stack:
        works = [OneSlow(str(folders[0]), 0.05, 5.0), *(Squares(str(one), 0.05) for one in folders[1:])]
        many = [stack.enter_context(workers(here.cluster, [2.0, one], None, point_name)) for one in works]
        points = [POINTS[:10], *([(float(number), 2.0) for number in range(2000)] for _ in works[1:])]
        first, *others = (one.coming(of, nothing_ahead, 0.01) for one, of in zip(many, points, strict=True))
        found = list[tuple[int, float]]()
        for came in first:
            found += [] if came is None else [came]
            for other in others:
                next(other)
        assert sorted(found) == RIGHT[:10]
    assert len(list(tmp_path.glob("a/slow *"))) <= 2


def test_items_behind_one_in_which_two_hang_come(tmp_path: Path) -> None:
    folder, came = tmp_path / "calls", set[int]()
    folder.mkdir()
    with (
        hanging(4) as here,
        workers(here.cluster, [2.0, OneSlow(str(folder), 0.05, NEVER)], None, point_name) as many,
    ):
        until = time.monotonic() + PATIENCE
        for one in many.coming(POINTS, nothing_ahead, 0.1):
            assert time.monotonic() < until, f"{len(came)} came"
            came.update([] if one is None else [one[0]])
            if len(came) == len(POINTS) - 1:
                break
        (tmp_path / "enough").touch()
    assert came == {*range(len(POINTS))} - {6}


@dataclass(frozen=True)
class Large:
    """With a first part that takes a while on its way."""

    folder: str

    def begin(self, large: bytes, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        return Squares(self.folder).begin(factor)


def test_what_comes_too_late_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SILENT_SECONDS", 1.5)

    def held(dask_scheduler: Any = None) -> int:
        return sum(max(0, one.nbytes) for one in dask_scheduler.tasks.values())

    size = 20 << 20
    with hanging(2) as here:
        here.stop()
        with workers(here.cluster, [os.urandom(size), 2.0, Large(str(tmp_path))], None, point_name) as many:
            here.go_on()
            assert evaluated(many, {}) == RIGHT
        time.sleep(1.5)
        assert soon(lambda: here.cluster.client.run_on_scheduler(held) < 1.5 * size)
