"""Many items at a time, in workers: as few as keep them busy, those to come ahead, and stragglers twice."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

from landscape.keeping.points import Ahead, nothing_ahead
from landscape.workers.cluster import Cluster
from landscape.workers.crew import Crew, OfExecutor, Parcel, sent
from landscape.workers.there import LostPartError

EACH = 2  # items that a worker has at a time: one, and the next
LOOK_SECONDS = 1.0
STRAGGLER_SECONDS = 30.0  # at least, and …
STRAGGLER_TIMES = 10.0  # … so many times as long as items take: then an idle worker gets it as well
AGAIN = 5  # that an item may get lost on its way, as where a scheduler was started anew

Item = TypeVar("Item", bound=Sequence[Any])
Found = TypeVar("Found")


@dataclass(eq=False)
class _Begun:
    """An item that workers have, once or twice."""

    item: Any
    ahead: bool
    since: float
    futures: list[Future[Any]] = field(default_factory=list)
    again: int = 0

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class Workers(Generic[Item, Found]):
    """Evaluates in workers.

    What is computed ahead (`landscape.keeping.points.Ahead`) fills workers that would be idle at the end of a
    batch; it is used when it is asked for, and never otherwise.

    Parameters
    ----------
    crew
        The workers.
    parcel
        What they need.
    name
        What messages call an item.
    """

    def __init__(self, crew: Crew, parcel: Parcel, name: Callable[[Any], str]) -> None:
        self._crew, self._parcel, self._name = crew, parcel, name
        self._begun: dict[Hashable, _Begun] = {}
        self._came: queue.SimpleQueue[tuple[Hashable, Future[Any]]] = queue.SimpleQueue()
        self._seconds: deque[float] = deque(maxlen=50)

    def evaluate_many(
        self, items: Sequence[Item], ahead: Ahead[Item] = nothing_ahead
    ) -> Generator[tuple[int, Found], None, None]:
        """As `landscape.keeping.points.Evaluator.evaluate_many`."""
        with closing(self.coming(items, ahead, LOOK_SECONDS)) as results:
            yield from (found for found in results if found is not None)

    def coming(
        self, items: Sequence[Item], ahead: Ahead[Item], patience: float
    ) -> Generator[tuple[int, Found] | None, None, None]:
        """The same, and None after `patience` seconds in which nothing has come."""
        numbers = {_key(item): number for number, item in enumerate(items)}
        waiting = deque(item for item in items if _key(item) not in self._begun)
        for key in self._begun.keys() & numbers:
            for future in self._begun[key].futures:
                if future.done():  # and nobody wanted it when it came
                    self._came.put((key, future))
        left, whole = set(numbers), False
        try:
            while left:
                self._fill(waiting, left, ahead)
                came = self._next(left, patience)
                if came is None:
                    yield None
                    continue
                left.remove(came[0])
                yield numbers[came[0]], came[1]
            whole = True
        finally:
            if not whole:
                self.close()

    def close(self) -> None:
        """Give up what isn't there yet."""
        for begun in self._begun.values():
            begun.cancel()
        self._begun.clear()

    def _fill(self, waiting: deque[Item], left: set[Hashable], ahead: Ahead[Item]) -> None:
        """Give workers something to do: what is asked for, stragglers again, what may be asked for next."""
        for begun in [one for one in self._begun.values() if not one.futures]:
            self._submit(begun)
        width, running = self._crew.width(), self._running()
        while waiting and (width is None or running < EACH * width):
            self._begin(waiting.popleft())
            running += 1
        if width is None or waiting:
            return
        for late in [self._begun[key] for key in left if self._is_late(self._begun[key])][: width - running]:
            self._submit(late)
            running += 1
        for item in ahead(width - running) if running < width else ():
            if _key(item) not in self._begun:
                self._begin(item, ahead=True)

    def _begin(self, item: Item, *, ahead: bool = False) -> None:
        begun = self._begun[_key(item)] = _Begun(item, ahead, time.monotonic())
        self._submit(begun)

    def _begin_again(self, begun: _Begun) -> None:
        begun.cancel()
        begun.futures.clear()
        self._submit(begun)

    def _submit(self, begun: _Begun) -> None:
        future, key = self._crew.item(self._parcel, begun.item), _key(begun.item)
        begun.futures.append(future)
        future.add_done_callback(lambda done: self._came.put((key, done)))

    def _running(self) -> int:
        return sum(not future.done() for begun in self._begun.values() for future in begun.futures)

    def _is_late(self, begun: _Begun) -> bool:
        usual = max(STRAGGLER_SECONDS, STRAGGLER_TIMES * median(self._seconds or [0.0]))
        return len(begun.futures) == 1 and time.monotonic() - begun.since > usual

    def _next(self, left: set[Hashable], patience: float) -> tuple[Hashable, Found] | None:
        """What comes next of `left`; None where that takes long, or was something else."""
        try:
            key, future = self._came.get(timeout=patience)
        except queue.Empty:
            self._crew.check()
            return None
        begun = self._begun.get(key)
        if begun is None or key not in left or future not in begun.futures:
            return None
        try:
            found: Found = future.result()
        except LostPartError as error:
            self._crew.send_again(self._parcel, error)
            begun.futures.clear()  # until it may be there; see `_fill`
            return None
        except (Exception, CancelledError) as error:
            if isinstance(error, CancelledError) and begun.again < AGAIN:
                self._crew.check()  # the scheduler may be gone
                begun.again += 1
                self._begin_again(begun)
                return None
            raise self._crew.explained(error, self._name(begun.item)) or error from error
        if not begun.ahead:
            self._seconds.append(time.monotonic() - begun.since)
        begun.cancel()
        del self._begun[key]
        return key, found


@contextmanager
def workers(
    executor: Executor, parts: Sequence[object], beside: Path | None, name: Callable[[Any], str]
) -> Iterator[Workers[Any, Any]]:
    """Workers that have some parts, the last of them a `landscape.workers.there.Work`.

    Raises
    ------
    UserError
        When a part can't be sent to another process, or a file for it can't be written beside an output.
    """
    crew: Crew = executor if isinstance(executor, Cluster) else OfExecutor(executor, beside)
    with sent(crew, parts) as parcel:
        found = Workers[Any, Any](crew, parcel, name)
        try:
            yield found
        finally:
            found.close()


def _key(item: Any) -> Hashable:
    return item if isinstance(item, str) else tuple(item)
