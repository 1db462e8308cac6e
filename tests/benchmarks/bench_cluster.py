"""Claim: two workers of one thread are 0.9 of twice as fast as one at least, eight on two cores not slower.

    python tests/benchmarks/bench_cluster.py                   # rounds of 441 points of the shipped ResNet-20
    python tests/benchmarks/bench_cluster.py --points 9 --rounds 3 --workers 1 2 --adaptive

In each round there is a local cluster for each number of workers in turn, alone; its first surface, a small
one (imports, the parcel's way), isn't counted, the second is. Beside them one in this process, with one
thread, and as many processes as there are cores that know nothing of each other and have a surface each:
what this machine gives to two at once, with no cluster's doing. Medians are printed with the least and the
largest; with them what an item costs that does nothing, one after the other and as many as workers take, and
the bytes that travel for a point.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from landscape.commandline.options import DataOptions, NetworkOptions
from landscape.commandline.subject import load_examples, load_network
from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.engine.executors import EngineWork, point_name
from landscape.examples import Examples
from landscape.losses import classification
from landscape.surface import FloatArray, Surface
from landscape.threads import threads
from landscape.workers.cluster import Cluster
from landscape.workers.crew import digests_of
from landscape.workers.evaluator import workers
from landscape.workers.local import local_cluster
from landscape.workers.there import do, packed

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "examples/checkpoints/resnet20-cifar10-erk90.pt"
ITEMS = 300


@dataclass(frozen=True)
class Nothing:
    """A work that is none."""

    def begin(self) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        return sum


def overhead(cluster: Cluster) -> str:
    """Milliseconds of an item that does nothing: on the clock, and of processors, whoever else is busy."""

    def spent() -> tuple[float, float, float]:
        there = sum(cluster.client.run(time.process_time).values())
        return time.perf_counter(), time.process_time(), there

    with workers(cluster, [Nothing()], None, point_name) as evaluator:
        list(evaluator.evaluate_many([(float(number), 0.0) for number in range(20)]))
        marks = [spent()]
        for number in range(ITEMS):
            list(evaluator.evaluate_many([(float(number), 1.0)]))
        marks.append(spent())
        list(evaluator.evaluate_many([(float(number), 2.0) for number in range(ITEMS)]))
        marks.append(spent())
    found = [[1000 * (b - a) / ITEMS for a, b in zip(*two, strict=True)] for two in pairwise(marks)]
    return "; ".join(
        f"{name} {clock:.2f} ms on the clock, {here:.2f} of command and scheduler, {there:.2f} of workers"
        for name, (clock, here, there) in zip(("one by one", "among many"), found, strict=True)
    )


def travels(model: nn.Module, data: dict[str, Examples]) -> str:
    """Bytes of a plane's parcel and of a point."""
    directions = [dict(model.named_parameters())] * 2
    engine = Engine(model, data, classification, directions)
    answer = engine.evaluate([0.0, 0.0])
    parts = (model, classification), data, EngineWork(directions, engine.about, answer)
    sizes = [f"{len(one):,}" for one in packed(parts)]
    digests = digests_of([b"1", b"2", b"3"])
    asked = pickle.dumps((do, "cluster", digests, digests, (0.1, 0.2)))
    return (
        f"bytes: network {sizes[0]}, examples {sizes[1]}, a plane's directions {sizes[2]}; "
        f"a point {len(asked):,} there, {len(pickle.dumps(answer)):,} back"
    )


def apart(points: int, count: int) -> float:
    """Points a second of two processes together, each with a surface of its own, begun at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(2), context.SimpleQueue()
    both = [context.Process(target=_one_of_two, args=(points, count, barrier, rates)) for _ in range(2)]
    for one in both:
        one.start()
    found = rates.get() + rates.get()
    for one in both:
        one.join()
    return float(found)


def _one_of_two(points: int, count: int, barrier: Any, rates: Any) -> None:
    model, data = load_network(CHECKPOINT, NetworkOptions(), quiet=True).model, examples(count)
    with threads(1):
        told: dict[str, Any] = {"device": "cpu", "progress": None, "exact_grid": True}
        compute_surface(model, data, points=5, **told)
        barrier.wait()
        began = time.perf_counter()
        compute_surface(model, data, points=points, **told)
        rates.put(points**2 / (time.perf_counter() - began))


def examples(count: int) -> dict[str, Examples]:
    """Of the sample that ships, as the command takes them."""
    network = load_network(CHECKPOINT, NetworkOptions(), quiet=True)
    return load_examples(network, DataOptions(data="sample", examples=count), device="cpu")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=21, help="grid points per axis")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--adaptive", action="store_true", help="the sampler's points, not all")
    options = parser.parse_args()
    model, data = load_network(CHECKPOINT, NetworkOptions(), quiet=True).model, examples(options.examples)

    def surface(executor: Executor | None, points: int) -> Surface:
        told: dict[str, Any] = {"points": points, "exact_grid": not options.adaptive}
        with threads(1):
            return compute_surface(model, data, device="cpu", progress=None, executor=executor, **told)

    def rate(executor: Executor | None) -> float:
        surface(executor, 5)  # what is done once: imports, the parcel's way, kernels
        began = time.perf_counter()
        found = surface(executor, options.points)
        seconds = time.perf_counter() - began
        losses.append(found.loss)
        return float(found.planes[0].computed.sum()) / seconds

    losses = list[FloatArray]()
    rates = {0: list[float](), **{count: list[float]() for count in options.workers}}
    limits = list[float]()
    print(travels(model, data), flush=True)
    for number in range(options.rounds):
        rates[0].append(rate(None))
        limits.append(apart(options.points, options.examples))
        for count in options.workers:
            with local_cluster(count) as cluster:
                rates[count].append(rate(cluster))
                if not number:
                    print(f"{count} workers, an item of nothing: {overhead(cluster)}", flush=True)
        print(
            ", ".join(f"{count}: {found[-1]:.2f}" for count, found in rates.items())
            + f", two processes apart: {limits[-1]:.2f}",
            flush=True,
        )
    assert all((one == losses[0]).all() for one in losses), "other bits"
    for count, found in rates.items():
        name = f"{count} workers" if count else "in this process"
        print(
            f"{name}: {median(found):.2f} points/s ({min(found):.2f} to {max(found):.2f}), "
            f"{1000 / median(found):.1f} ms a point"
        )
    print_ratio("two processes apart against one", limits, rates[0])
    for count in [one for one in rates if one > 1 and 1 in rates]:
        print_ratio(f"{count} workers against one", rates[count], rates[1])
    if 2 in rates:
        print_ratio("two workers against two processes apart", rates[2], limits)


def print_ratio(what: str, some: Sequence[float], others: Sequence[float]) -> None:
    """Round by round."""
    pairs = sorted(a / b for a, b in zip(some, others, strict=True))
    print(f"{what}: {median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})")


if __name__ == "__main__":
    main()
