"""Workers that hang while they have items, or are to get what they need: who stands by replaces them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_works import Squares

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

    def stop(self) -> list[str]:
        """Those that work at present, whose addresses it returns."""
        working = list(self.cluster._working)
        for address in working:
            self.stopped.add(self.pids[address])
            os.kill(self.pids[address], signal.SIGSTOP)
        return working

    def go_on(self) -> None:
        """All that were."""
        while self.stopped:
            with suppress(ProcessLookupError):
                os.kill(self.stopped.pop(), signal.SIGCONT)


@contextmanager
def hanging(count: int) -> Iterator[Hanging]:
    with local_cluster(count) as cluster:
        found = Hanging(cluster)
        cluster.there(now=True)
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


def evaluated(many: Workers[Any, Any], after: Mapping[int, Callable[[], Any]], seconds: float = 12.0) -> Any:
    """All results in order; some things are done after as many of them. Fails when it takes long."""
    found, until = list[tuple[int, float]](), time.monotonic() + seconds
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
        assert evaluated(many, {6: here.stop, 12: here.go_on}) == RIGHT
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
        started = time.monotonic()
        timer = threading.Timer(15.0, here.go_on)
        timer.start()
        gone = here.stop() if first == "parcel" else []
        with workers(here.cluster, [2.0, Squares(str(tmp_path))], None, point_name) as many:
            gone = gone or here.stop()
            assert evaluated(many, {}) == RIGHT
        timer.cancel()
        assert time.monotonic() - started < 10.0
        assert set(here.cluster._working).isdisjoint(gone)


def test_the_last_one_is_waited_for(tmp_path: Path) -> None:
    with (
        hanging(1) as here,
        workers(here.cluster, [2.0, Squares(str(tmp_path))], None, point_name) as many,
    ):

        def stop_for_a_while() -> None:
            here.stop()
            threading.Timer(2.0, here.go_on).start()

        assert evaluated(many, {6: stop_for_a_while}) == RIGHT


@dataclass(frozen=True)
class OneSlow(Squares):
    """One point takes seconds; who begins it leaves a file beside the folder."""

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        usual = super().begin(factor)

        def work(point: Sequence[float]) -> float:
            if tuple(point) == POINTS[6]:
                (Path(self.folder).parent / f"slow {os.getpid()}").touch()
                time.sleep(4.0)
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
