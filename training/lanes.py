"""Several runs that take turns in one process, so that a GPU always has the next step of one of them.

A sparse network's step is small: whoever trains one alone lets most of a GPU stand still. Processes don't
help, as a GPU computes for one of them at a time. Here each run has a stream of its own, in which its CUDA
graph (`training.captured`) and its memory live; the GPU computes what is in all streams side by side, and
the host, which only starts graphs, goes round. One thread does that: steps of different runs are never
half done at the same time, so each run gives the bits that it gives alone.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from landscape.errors import UserError

Order = TypeVar("Order")
Steps = Generator[None, None, Any]
FULL = "the GPU's memory is full; end what else computes there, or choose a larger --accumulate"
_SAID_FULL = ("error: out of memory", "ALLOC_FAILED")  # by CUDA and its libraries, whose memory isn't torch's


@dataclass(frozen=True)
class Begun:
    """A run as its lane needs it: steps that are made `within` something, such as numeric settings."""

    steps: Steps
    within: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Ended(Generic[Order]):
    """A run that is over, well where `error` is empty; `trace` is of errors that aren't the user's."""

    order: Order
    error: str = ""
    trace: str = ""


def in_a_line(error: Exception) -> str:
    """An error that no user has made."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


@dataclass
class _Lane(Generic[Order]):
    order: Order
    stream: AbstractContextManager[Any] = field(default_factory=nullcontext)
    begun: Begun | None = None


class Lanes(Generic[Order]):
    """Runs in turn, one step of each.

    Parameters
    ----------
    device
        Whose memory and streams they share; on a CPU, they only take turns.
    at_a_time
        How many; one fewer whenever the memory was full.
    begin
        Makes a run of an order, in its lane's stream. An order whose lane ran out of memory is begun again.
    """

    def __init__(self, device: torch.device, at_a_time: int, begin: Callable[[Order], Begun]) -> None:
        self.device, self.at_a_time, self._begin = device, at_a_time, begin
        self.waiting: list[Order] = []
        self._lanes: list[_Lane[Order]] = []
        # Of lanes that are over. Torch has 32 streams; who always takes another one gets a busy one some day.
        self._streams: list[AbstractContextManager[Any]] = []

    @property
    def orders(self) -> list[Order]:
        """All that aren't over: running ones first."""
        return [lane.order for lane in self._lanes] + self.waiting

    def round(self) -> list[Ended[Order]]:
        """Start what there is room for and make a step of each; those that are over now."""
        while self.waiting and len(self._lanes) < self.at_a_time:
            stream = self._streams.pop() if self._streams else self._stream()
            self._lanes.append(_Lane(self.waiting.pop(0), stream))
        return [end for lane in list(self._lanes) if (end := self._step(lane)) is not None]

    def close(self) -> None:
        """Leave all runs where they are; what they have saved is kept."""
        for lane in self._lanes:
            if lane.begun is not None:
                lane.begun.steps.close()
        self._lanes.clear()

    def _stream(self) -> AbstractContextManager[Any]:
        if self.device.type != "cuda":
            return nullcontext()
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(stream)

    def _settle(self) -> None:
        """Wait for all streams, and give memory back that no lane uses."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            gc.collect()  # runs that are over are circles of references, with their graphs
            torch.cuda.empty_cache()

    def _step(self, lane: _Lane[Order]) -> Ended[Order] | None:
        try:
            with lane.stream:
                if lane.begun is None:
                    lane.begun = self._begin(lane.order)
                    self._settle()  # images may be other lanes', too
                with lane.begun.within():
                    next(lane.begun.steps)
            return None
        except StopIteration:
            end = Ended(lane.order)
        except UserError as error:
            end = Ended(lane.order, str(error))
        except OSError as error:
            about = f"{error.filename}: " if error.filename else ""
            end = Ended(lane.order, f"{about}{error.strerror or error}")
        except Exception as error:  # a fault of ours, or a GPU that is lost
            end = Ended(lane.order, in_a_line(error), traceback.format_exc())
            if _is_full(error):
                end = Ended(lane.order, FULL)
        lane.begun = None
        self._settle()  # raises where the GPU is lost: nobody can go on, and this one isn't over either
        self._lanes.remove(lane)
        self._streams.append(lane.stream)
        if end.error == FULL and self._lanes:  # together they need too much; alone it may fit
            self.at_a_time = len(self._lanes)
            self.waiting.append(lane.order)
            return None
        return end


def _is_full(error: Exception) -> bool:
    full = isinstance(error, torch.cuda.OutOfMemoryError)
    return full or (isinstance(error, RuntimeError) and any(one in str(error) for one in _SAID_FULL))
