"""Claim: whatever happens to workers, scheduler or client, no finished point is lost, the result is right.

    python tests/reliability/cluster_faults.py                      # 20 rounds of each fault
    python tests/reliability/cluster_faults.py --rounds 3 --faults worker client --seed 7

Each round has its own folder, and a fault at a random moment of a run of 80 points on two workers. The points
go the way of a surface's (`PointRun`, `Workers`, a file that is kept), but need no torch: every call leaves a
line in a file of its point. Counted are rounds whose result was wrong, points that were in the file and were
computed again, and points that were computed more than twice.

worker      SIGKILL to one of two worker processes
memory      a worker takes more than its limit at one point, the first time
cut         SIGSTOP to a worker, SIGCONT after ten seconds
scheduler   SIGKILL to the scheduler; the run ends in a line, and goes on with another scheduler
client      SIGKILL to the client; the same run is started again
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "landscape")]

from cluster_works import HungryOnce, Squares  # noqa: E402

from landscape.errors import UserError  # noqa: E402
from landscape.files import atomic_path  # noqa: E402
from landscape.keeping.lock import owned  # noqa: E402
from landscape.keeping.points import Asked, Index, PointRun  # noqa: E402
from landscape.sampling import exact  # noqa: E402
from landscape.workers.cluster import Cluster, connected  # noqa: E402
from landscape.workers.evaluator import workers  # noqa: E402
from landscape.workers.local import local_cluster  # noqa: E402

AXES = np.linspace(-1, 1, 10), np.linspace(-1, 1, 8)
SECONDS = 0.03
FACTOR = 2.0
CUT_SECONDS = 10.0


@dataclass
class Record:
    """What is known, in a JSON file."""

    values: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record:
        return cls(json.loads(path.read_text()) if path.exists() else {})

    def __contains__(self, index: Index) -> bool:
        return str(index) in self.values

    def __len__(self) -> int:
        return len(self.values)

    def add(self, index: Index, found: float) -> None:
        self.values[str(index)] = found

    def save(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.values))


def compute(cluster: Cluster, folder: Path, work: Squares) -> None:
    """A run of all points, or what is left of one."""
    path = folder / "result.json"
    with owned(path):
        record, sampler = Record.read(path), exact(*AXES)
        with workers(cluster, [FACTOR, work], path, str) as evaluator:
            run = PointRun(path, 1, None)
            batches = sampler.batches(lambda indices: np.zeros(len(indices)))
            asked = Asked(sampler, batches, _place)
            run.plane(asked, evaluator, record, record.save, lambda: record.save(path))


def _place(index: Index) -> list[float]:
    return [float(axis[one]) for axis, one in zip(AXES, index, strict=True)]


@dataclass
class Count:
    """What came of the rounds of a fault."""

    rounds: int = 0
    wrong: int = 0
    again: int = 0
    thrice: int = 0
    twice: int = 0
    told: list[str] = field(default_factory=list)

    def see(self, folder: Path, kept: Sequence[str] = ()) -> None:
        """Compare a round's result; `kept` were in the file before the fault."""
        indices = [(i, j) for i in range(len(AXES[0])) for j in range(len(AXES[1]))]
        right = {str(index): FACTOR * sum(one**2 for one in _place(index)) for index in indices}
        found = Record.read(folder / "result.json").values
        calls = Squares(str(folder / "calls")).calls()
        names = {str(index): "_".join(f"{one:g}" for one in _place(index)) for index in indices}
        self.rounds += 1
        self.wrong += found != right
        self.again += sum(calls[names[one]] > 1 for one in kept)
        self.twice += sum(number == 2 for number in calls.values())
        self.thrice += sum(number > 2 for number in calls.values())


def in_a_moment(seconds: float, what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=lambda: (time.sleep(seconds), what()), daemon=True)
    thread.start()
    return thread


def moment(draw: random.Random) -> float:
    """Somewhere in the 1.2 s that two workers need."""
    return draw.uniform(0.0, 1.3)


def one_of_two(cluster: Cluster, draw: random.Random) -> int:
    """A worker's process."""
    return draw.choice(sorted(cluster.client.run(os.getpid).values()))


def worker(rounds: int, draw: random.Random, folders: Iterator[Path]) -> Count:
    count = Count()
    with local_cluster(2) as cluster:
        for _ in range(rounds):
            folder, victim = next(folders), one_of_two(cluster, draw)
            killer = in_a_moment(moment(draw), lambda victim=victim: os.kill(victim, signal.SIGKILL))
            compute(cluster, folder, Squares(str(folder / "calls"), SECONDS))
            killer.join()
            count.see(folder)
            cluster.client.wait_for_workers(2)
    return count


def cut(rounds: int, draw: random.Random, folders: Iterator[Path]) -> Count:
    count = Count()
    with local_cluster(2) as cluster:
        for _ in range(rounds):
            folder, victim = next(folders), one_of_two(cluster, draw)

            def interrupt(victim: int = victim) -> None:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(CUT_SECONDS)
                os.kill(victim, signal.SIGCONT)

            cutter = in_a_moment(moment(draw), interrupt)
            compute(cluster, folder, Squares(str(folder / "calls"), SECONDS))
            cutter.join()
            count.see(folder)
    return count


def memory(rounds: int, draw: random.Random, folders: Iterator[Path]) -> Count:
    count = Count()
    with local_cluster(2, memory=400 << 20) as cluster:
        for _ in range(rounds):
            folder = next(folders)
            at = tuple(_place((draw.randrange(len(AXES[0])), draw.randrange(len(AXES[1])))))
            compute(cluster, folder, HungryOnce(str(folder / "calls"), SECONDS, at))
            assert (folder / "hungry").exists()
            count.see(folder)
            cluster.client.wait_for_workers(2)
    return count


@contextmanager
def served(folder: Path, port: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A scheduler and two workers in processes of their own, as a batch system starts them."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    file = folder / "scheduler.json"
    program = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    told = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--scheduler-file", str(file)]
    processes = [subprocess.Popen([*program, "scheduler", *told], **quiet)]
    try:
        until = time.monotonic() + 120
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        told = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]
        told += ["--scheduler-file", str(file), "--local-directory", str(folder)]
        processes += [subprocess.Popen([*program, "worker", *told], **quiet) for _ in range(2)]
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
        file.unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scheduler(rounds: int, draw: random.Random, folders: Iterator[Path]) -> Count:
    count = Count()
    for _ in range(rounds):
        folder, port = next(folders), free_port()
        work, kept = Squares(str(folder / "calls"), SECONDS), list[str]()
        with ExitStack() as stack:
            processes = stack.enter_context(served(folder, port))
            try:
                with connected(str(folder / "scheduler.json")) as cluster:
                    cluster.client.wait_for_workers(2)
                    in_a_moment(moment(draw), processes[0].kill)
                    compute(cluster, folder, work)
            except UserError as error:
                count.told.append(str(error))
                kept = list(Record.read(folder / "result.json").values)
        with served(folder, port), connected(str(folder / "scheduler.json")) as cluster:
            compute(cluster, folder, work)
        count.see(folder, kept)
    return count


def client(rounds: int, draw: random.Random, folders: Iterator[Path]) -> Count:
    count = Count()
    with tempfile.TemporaryDirectory() as place, served(Path(place), free_port()):
        told = [sys.executable, __file__, "--child", str(Path(place) / "scheduler.json")]
        for _ in range(rounds):
            folder = next(folders)
            first = subprocess.Popen([*told, str(folder)], stdout=subprocess.PIPE)
            assert first.stdout is not None
            first.stdout.readline()
            time.sleep(moment(draw))
            first.kill()
            first.wait()
            kept = list(Record.read(folder / "result.json").values)
            subprocess.run([*told, str(folder)], check=True, stdout=subprocess.DEVNULL)
            count.see(folder, kept)
    return count


def child(file: str, folder: Path) -> None:
    from landscape.keeping import pace

    pace.EVERY_SECONDS = 0.1
    with connected(file) as cluster:
        cluster.client.wait_for_workers(2)
        print("go", flush=True)
        compute(cluster, folder, Squares(str(folder / "calls"), SECONDS))


FAULTS = {one.__name__: one for one in (worker, memory, cut, scheduler, client)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]))
        return
    failed = False
    with tempfile.TemporaryDirectory() as place:
        for name in options.faults:
            began, draw = time.monotonic(), random.Random(f"{name} {options.seed}")
            count = FAULTS[name](options.rounds, draw, _folders(Path(place) / name))
            failed |= bool(count.wrong or count.again or count.thrice)
            print(
                f"{name:10} {count.rounds} rounds: {count.wrong} wrong, {count.again} kept points computed "
                f"again, {count.thrice} computed more than twice, {count.twice} twice; "
                f"{len(count.told)} ended in a line; {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for line in sorted(set(count.told))[:2]:
                print(f"           {line}", flush=True)
    sys.exit(failed)


def _folders(place: Path) -> Iterator[Path]:
    for number in range(10_000):
        folder = place / str(number)
        (folder / "calls").mkdir(parents=True)
        yield folder


if __name__ == "__main__":
    main()
