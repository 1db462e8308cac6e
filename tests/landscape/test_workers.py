"""Workers of a Dask cluster: equal bits, what travels, what is computed ahead, and what gets lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from cluster_works import Deadly, Refusing, Squares, Unloadable, Whose
from inside_cluster import inside_cluster, served
from small_network import bits, examples, small_network

from landscape.commandline import cluster_options
from landscape.commandline.cluster_options import ClusterOptions
from landscape.compute import compute_surface
from landscape.engine.executors import point_name
from landscape.errors import UserError
from landscape.planes import RandomPlane
from landscape.surface import Surface
from landscape.workers import cluster as clusters
from landscape.workers import evaluator, local, there
from landscape.workers.cluster import Cluster, connected
from landscape.workers.crew import Parcel
from landscape.workers.evaluator import Workers, workers
from landscape.workers.local import local_cluster
from landscape.workers.side_by_side import Steps, side_by_side

pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

POINTS = [(float(i), float(j)) for i in range(5) for j in range(4)]


@pytest.fixture
def here() -> Iterator[Cluster]:
    with inside_cluster() as found:
        yield found


def compute(**options: Any) -> Surface:
    data = {"train": examples(0), "test": examples(1, 9)}
    return compute_surface(small_network(), data, device="cpu", progress=None, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"points": (5, 3), "exact_grid": True, "plane": [RandomPlane(0), RandomPlane(1)]},
        {"points": 9, "tolerance": 0.2, "max_points": 60},
    ],
)
def test_the_bits_are_those_of_this_process(here: Cluster, options: dict[str, Any], tmp_path: Path) -> None:
    sent = list[int]()
    scatter = here.client.scatter

    def counted(data: dict[str, bytes], **more: Any) -> Any:
        sent.extend(len(one) for one in data.values())
        return scatter(data, **more)

    here.client.scatter = counted
    found = compute(path=tmp_path / "x.h5", executor=here, **options)
    assert bits(found) == bits(compute(**options))
    assert len(sent) == 2 + len(found.planes)  # network and examples once, directions for each plane
    assert [one.name for one in tmp_path.iterdir()] == ["x.h5"]


def evaluated(crew: Executor, work: Squares, points: Sequence[Any] = POINTS) -> dict[int, float]:
    with workers(crew, [2.0, work], None, point_name) as found:
        return dict(found.evaluate_many(points))


def right(points: Sequence[Sequence[float]] = POINTS) -> dict[int, float]:
    return {number: 2.0 * sum(one**2 for one in point) for number, point in enumerate(points)}


def test_a_refusal_is_told(here: Cluster) -> None:
    with pytest.raises(UserError, match="the worker 7 on that host computes otherwise"):
        evaluated(here, Refusing("."))


def test_a_part_that_got_lost_is_sent_again(here: Cluster, tmp_path: Path) -> None:
    with workers(here, [2.0, Squares(str(tmp_path))], None, point_name) as found:
        assert dict(found.evaluate_many(POINTS[:3])) == right(POINTS[:3])
        there._works.clear()
        there._parts.clear()
        assert dict(found.evaluate_many(POINTS[3:6])) == dict(enumerate(list(right().values())[3:6]))


def test_two_works_of_the_same_parts_end_apart(here: Cluster, tmp_path: Path) -> None:
    parts = [2.0, Squares(str(tmp_path))]
    with workers(here, parts, None, point_name) as one:
        with workers(here, parts, None, point_name) as two:
            assert dict(two.evaluate_many(POINTS[:2])) == right(POINTS[:2])
        there._works.clear()
        there._parts.clear()
        assert dict(one.evaluate_many(POINTS[:2])) == right(POINTS[:2])
    assert not here._sent


def test_workers_beyond_the_cores_stand_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.1)
    with inside_cluster(3, at_once=1) as found, workers(found, [Whose()], None, point_name) as evaluator:

        def answering() -> set[Any]:
            return set(dict(evaluator.evaluate_many(POINTS)).values())

        def who_has() -> set[str]:
            return {address for sent in found._sent.values() for address in sent.keeps}

        (first,) = answering()
        assert found.width() == 1
        assert who_has() == {first}  # the others needn't even import what works are made of
        found.client.retire_workers([first], close_workers=True)
        assert first not in answering()  # what it had was lost until that was seen
        time.sleep(0.1)
        (second,) = answering()
        assert second != first
        assert who_has() - {first} == {second}  # that the first had it is known until something is lost there
    with inside_cluster(3) as found, workers(found, [Whose()], None, point_name) as evaluator:
        assert len(answering()) == found.width() == 3


def test_who_works_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with inside_cluster(1, at_once=2) as found:
        for there, working in (("bcd", "bc"), ("abcd", "bc"), ("abd", "ba"), ("", ""), ("dc", "cd")):
            monkeypatch.setattr(found.client, "nthreads", lambda there=there: dict.fromkeys(there, 1))
            assert found.there(now=True) == set(there)
            assert "".join(found._working) == working
            assert found.width() == max(1, len(working))


@pytest.mark.slow
def test_processes_killed_and_deadly_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DEATHS", 2)  # each costs the start of a process
    work, environment = Squares(str(tmp_path), 0.05), dict(os.environ)
    with local_cluster(2) as cluster:
        for name, value in (("MALLOC_TRIM_THRESHOLD_", None), ("OMP_NUM_THREADS", "1")):
            assert set(cluster.client.run(os.environ.get, name).values()) == {value}
        pids = set(cluster.client.run(os.getpid).values())
        assert len(pids) == 2
        assert os.getpid() not in pids
        os.kill(max(pids), signal.SIGINT)  # as Ctrl-C in a terminal reaches it
        timer = threading.Timer(0.3, os.kill, [min(pids), signal.SIGKILL])
        timer.start()
        assert evaluated(cluster, work) == right()
        timer.join()
        assert set(work.calls().values()) <= {1, 2}
        assert max(pids) in cluster.client.run(os.getpid).values()
        deadly = Deadly(str(tmp_path), 0.01, at=(3.0, 2.0))
        with pytest.raises(UserError, match=r"workers died .*while they had the point \(3, 2\)"):
            evaluated(cluster, deadly)
        with pytest.raises(UserError, match=r"workers died .*while they had the point \(3, 2\)"):
            evaluated(cluster, deadly, [(3.0, 2.0)])
        assert evaluated(cluster, Squares(str(tmp_path)), POINTS[:2]) == right(POINTS[:2])
    assert dict(os.environ) == environment
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_scheduler_that_goes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "GONE_SECONDS", 0.5)
    with (
        served("tcp", 1) as inside,
        connected(inside.scheduler_address) as cluster,
    ):
        timer = threading.Timer(0.3, inside.close)
        timer.start()
        with pytest.raises(UserError, match=r"the scheduler tcp://.* is gone, or was started anew; what"):
            evaluated(cluster, Squares(str(tmp_path), 0.5), POINTS)
        timer.join()


def test_a_file_that_no_scheduler_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "WRITE_SECONDS", 0.1)
    file, what = tmp_path / "scheduler.json", "no file that `dask scheduler --scheduler-file` has written"
    for text in ("hello", "{}", '{"address": "here"}', '["address"]', '{"address": "tcp://'):
        file.write_text(text)
        with pytest.raises(UserError, match=what), connected(str(file)):
            pass


def test_a_file_that_a_scheduler_is_writing(tmp_path: Path) -> None:
    file, text = tmp_path / "scheduler.json", '{"type": "Scheduler", "address": "tls://127.0.0.1:1"}'
    for number in (0, 1, len(text) - 1):
        file.write_text(text[:number])
        timer = threading.Timer(0.2, file.write_text, [text])
        timer.start()
        assert clusters._address_in(file) == "tls://127.0.0.1:1"
        timer.join()


def test_a_refused_parcel_is_no_burden_to_the_next(here: Cluster, tmp_path: Path) -> None:
    refused = workers(here, [Unloadable(), Squares(str(tmp_path))], None, point_name)
    with pytest.raises(UserError, match="can't load model, loss or examples"), refused:
        pass
    assert evaluated(here, Squares(str(tmp_path)), POINTS[:2]) == right(POINTS[:2])


def test_workers_that_end_before_they_have_anything(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def another(self: Cluster) -> None:
        self._threads = {f"tcp://there:{next(numbers)}": 1}
        self._working = list(self._threads)

    monkeypatch.setattr(Cluster, "_look", another)
    with pytest.raises(UserError, match="3 workers here ended before they had network and examples"):
        here.send([b"parts"])
    assert not here._sent


@pytest.mark.slow
def test_workers_beyond_the_cores_steal_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 1)
    with local_cluster(2) as cluster:
        assert evaluated(cluster, Squares(str(tmp_path), 0.15)) == right()
    assert len({pid for one in tmp_path.iterdir() for pid in one.read_text().split()}) == 1


class Counting(Executor):
    """A crew of threads, which can hold an item back, as a worker that was cut off does."""

    def __init__(self, width: int) -> None:
        self.begun, self.held, self._width = list[Any](), dict[Any, Future[Any]](), width
        self.tasks = list[int]()

    def there(self, now: bool = False) -> frozenset[str]:
        """Nobody goes."""
        return frozenset()

    def width(self) -> int:
        """As it was told."""
        return self._width

    def several(self, parcel: Parcel, items: Sequence[Any]) -> Future[list[Any]]:
        """Done at once, the first time not for an item that is to be held."""
        self.begun += items
        future: Future[list[Any]] = Future()
        if items[0] in self.held and self.begun.count(items[0]) == 1:
            self.held[items[0]] = future
        else:
            self.tasks.append(len(items))
            future.set_result([sum(item) for item in items])
        return future

    def replaced(self, tasks: Collection[Future[Any]], seconds: float) -> Mapping[Future[Any], bool]:
        """Nobody stands by."""
        return {}

    def check(self) -> None:
        """Nothing is wrong."""

    def explained(self, error: BaseException, what: str) -> UserError | None:
        """Nothing is known."""

    def blames(self, error: BaseException) -> bool:
        """Nobody dies."""
        return False


def of(crew: Any) -> Workers[Any, Any]:
    return Workers(crew, Parcel("file", (), ()), point_name)


def test_idle_workers_compute_ahead_and_it_is_used() -> None:
    crew, coming = Counting(4), iter([(9.0, 9.0), (8.0, 8.0), (7.0, 7.0)])
    crew.held = {point: Future() for point in POINTS[:2]}  # two of four are busy until …
    many = of(crew)
    asked: list[int] = []

    def ahead(count: int) -> Iterator[tuple[float, float]]:
        asked.append(count)
        return islice(coming, 1)

    results = many.evaluate_many(POINTS[:3], ahead)
    assert next(results) == (2, sum(POINTS[2]))
    for number, point in enumerate(POINTS[:2]):
        crew.held[point].set_result([sum(point)])
        assert next(results) == (number, sum(point))
    assert asked[0] >= 1
    assert (9.0, 9.0) in crew.begun
    assert next(results, None) is None
    assert dict(many.evaluate_many([(9.0, 9.0)])) == {0: 18.0}
    assert crew.begun.count((9.0, 9.0)) == 1


def test_short_items_go_several_to_a_task_and_all_workers_get_some() -> None:
    crew, many = Counting(2), [(float(number), 1.0) for number in range(200)]
    assert dict(of(crew).evaluate_many(many)) == {number: sum(one) for number, one in enumerate(many)}
    assert crew.begun == many
    assert crew.tasks[0] == 1, "nothing is known at first"
    assert 10 <= max(crew.tasks) <= 25
    assert crew.tasks[-1] == 1, "the last ones are shared out"


@pytest.mark.parametrize("held", [POINTS[1:2], POINTS[1:3], POINTS[2:5]], ids=len)
def test_a_straggler_is_begun_again_once(monkeypatch: pytest.MonkeyPatch, held: Sequence[Any]) -> None:
    monkeypatch.setattr(evaluator, "STRAGGLER_SECONDS", 0.05)
    monkeypatch.setattr(evaluator, "LOOK_SECONDS", 0.02)
    crew = Counting(2)
    crew.held = {one: Future() for one in held}
    assert dict(of(crew).evaluate_many(POINTS[:5])) == {n: sum(one) for n, one in enumerate(POINTS[:5])}
    for one in held:
        assert crew.begun.count(one) == 2
        assert crew.held[one].cancelled()


def test_what_ends_one_ends_all_and_each_hears_of_it() -> None:
    heard = []

    def work(name: str, last: int) -> Steps[str]:
        try:
            for number in range(5):
                if number == last:
                    raise UserError(f"{name} fails")
                yield
        except UserError as error:
            heard.append((name, str(error)))
            raise
        return name

    assert side_by_side([work("a", 9), work("b", 9), work("c", 9)], 2) == ["a", "b", "c"]
    with pytest.raises(UserError, match="b fails"):
        side_by_side([work("a", 9), work("b", 2), work("c", 9)], 3)
    assert heard == [("b", "b fails"), ("a", "b fails"), ("c", "b fails")]


@contextlib.contextmanager
def checked(options: ClusterOptions) -> Iterator[None]:
    options.check()
    with cluster_options.working(options):
        yield


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (ClusterOptions("tcp://a:1", 2), "--scheduler and --workers exclude each other"),
        (ClusterOptions(workers=0), "--workers 0: expected at least 1"),
        (ClusterOptions(devices="0,x"), "--devices 0,x: expected all, or numbers such as 0,2"),
        (ClusterOptions(devices="1,1"), "--devices 1,1: expected each number once"),
        (ClusterOptions("nothing.json"), r"--scheduler nothing.json: no such file; expected tcp://HOST:PORT"),
        (ClusterOptions("tcp://127.0.0.1:9"), r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers"),
    ],
)
def test_options_that_cannot_be(options: ClusterOptions, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=text), checked(options):
        pass


def test_devices_need_gpus_and_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--devices gives each worker its GPU; leave out --device cpu"):
        ClusterOptions(devices="all").check("cpu")
    for count, text in ((0, "no GPU is found on this machine"), (2, "only GPUs 0 to 1 are here")):
        monkeypatch.setattr("torch.cuda.is_available", lambda count=count: bool(count))
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        with (
            pytest.raises(UserError, match=f"--devices 0,2: {text}"),
            cluster_options.working(ClusterOptions(devices="0,2")),
        ):
            pass


@pytest.mark.parametrize(
    ("given", "seen"),
    [(None, ["0", "2"]), ("", ["0", "2"]), ("4,5, 7", ["4", "7"]), ("GPU-a,GPU-b,MIG-c", ["GPU-a", "MIG-c"])],
)
def test_a_worker_sees_one_of_the_gpus_that_a_batch_system_gave(
    monkeypatch: pytest.MonkeyPatch, given: str | None, seen: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    made = local._workers(2, [0, 2], {})
    assert [one["options"]["env"]["CUDA_VISIBLE_DEVICES"] for one in made.values()] == seen


def test_a_worker_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    told = list[Any]()

    @contextlib.contextmanager
    def started(count: int, *, threads: int, devices: list[int]) -> Iterator[None]:
        told.append((count, threads, devices))
        yield

    monkeypatch.setattr("landscape.workers.local.local_cluster", started)
    for options in (ClusterOptions(devices="all"), ClusterOptions(devices="2"), ClusterOptions(workers=4)):
        with cluster_options.working(options, 2):
            pass
    assert told == [(3, 2, [0, 1, 2]), (1, 2, [2]), (4, 2, ())]
