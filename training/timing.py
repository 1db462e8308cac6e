"""How long making the batches takes, of an epoch's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor


class Clock(Protocol):
    """Marks moments, and says afterwards what lay between two of them."""

    def mark(self) -> Any:
        """Remember the present moment."""

    def seconds(self, start: Any, end: Any) -> float:
        """Time from one mark to a later one."""


class HostClock:
    """The processor's time of day; right where operations are done when their calls return."""

    def mark(self) -> float:
        """Remember the present moment."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Time from one mark to a later one."""
        return end - start


class StreamClock:
    """The time of a GPU's stream of work.

    A mark is an event that the GPU reaches after all that was given to it before, so the time between two is
    that of the work given in between, and of waiting for it to be given. Marking waits for nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> torch.cuda.Event:
        """Put an event into the device's current stream."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Time from one mark to a later one; waits until the GPU has reached it."""
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock by which work on `device` takes its time."""
    return StreamClock(device) if device.type == "cuda" else HostClock()


class TimedBatches:
    """Passes batches on, and knows the seconds that making them took: drawing, copying, augmenting."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]], clock: Clock) -> None:
        self.batches, self.clock = batches, clock
        self._marks: list[tuple[Any, Any]] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            start = self.clock.mark()
            batch = next(self.batches, None)
            self._marks.append((start, self.clock.mark()))
            if batch is None:
                return
            yield batch

    @property
    def seconds(self) -> float:
        """Of all batches so far."""
        return sum(self.clock.seconds(start, end) for start, end in self._marks)
