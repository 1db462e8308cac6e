"""The share of a run's time that making batches takes, on a CPU and on a GPU's own clock."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU, SMALL, fit
from torch import Tensor

from training.data import Images, load_splits
from training.timing import HostClock, StreamClock, TimedBatches, clock_of

BATCH = (torch.zeros(1), torch.zeros(1))


class Device:
    """A GPU's stream: work is queued at once and done later; an event is reached when its turn comes."""

    def __init__(self) -> None:
        self.queue: list[float | Event] = []

    def work(self, seconds: float) -> None:
        self.queue.append(seconds)

    def run(self) -> None:
        done = 0.0
        for item in self.queue:
            if isinstance(item, Event):
                item.at = done
            else:
                done += item


class Event:
    """Stands for ``torch.cuda.Event``."""

    device = Device()

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self, stream: Device) -> None:
        stream.queue.append(self)

    def synchronize(self) -> None:
        self.device.run()

    def elapsed_time(self, end: "Event") -> float:
        assert self.at is not None
        assert end.at is not None
        return 1000 * (end.at - self.at)


def test_on_a_gpu_the_work_counts_not_its_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Event.device = Device()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(3):
            device.work(0.25)
            yield BATCH

    timed = TimedBatches(batches(), StreamClock(torch.device("cuda")))
    for _ in timed:
        device.work(10.0)  # forward, backward and step
    assert timed.seconds == pytest.approx(0.75)


def test_on_a_cpu_calls_return_when_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.perf_counter()]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(2):
            now[0] += 0.25
            yield BATCH

    timed = TimedBatches(batches(), clock_of(CPU))
    for _ in timed:
        now[0] += 10.0
    assert isinstance(timed.clock, HostClock)
    assert timed.seconds == pytest.approx(0.5)


def test_a_cpus_clock_runs() -> None:
    clock = HostClock()
    start = clock.mark()
    time.sleep(0.01)
    assert clock.seconds(start, clock.mark()) >= 0.01


def test_the_log_has_the_share(tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)
    original = Images.shuffled

    def slow(self: Images, *rest: object, **more: object) -> Iterator[tuple[Tensor, Tensor]]:
        time.sleep(1.0)
        yield from original(self, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Images, "shuffled", slow)
    fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert 1.0 / line["seconds"] <= line["data_share"] < 1


@pytest.mark.gpu
def test_the_stream_clock_sees_what_the_gpu_does() -> None:
    device = torch.device("cuda")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(3):
            torch.cuda._sleep(100_000_000)  # cycles, 0.05 s and more; the call returns at once
            yield BATCH

    torch.zeros(1, device=device)
    timed, started = TimedBatches(batches(), clock_of(device)), time.perf_counter()
    for _ in timed:
        pass
    launched = time.perf_counter() - started
    assert timed.seconds > 0.1 > launched
