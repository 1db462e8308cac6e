"""Many items at a time, in workers: as few as keep them busy, those to come ahead, and stragglers twice."""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

from landscape.errors import UserError
from landscape.keeping.points import Ahead, nothing_ahead
from landscape.workers.cluster import Cluster
from landscape.workers.crew import Crew, OfExecutor, Parcel, check_executor, sent
from landscape.workers.there import LostPartError

EACH = 2  # items that a worker has at a time: one, and the next
LOOK_SECONDS = 1.0
TASK_SECONDS = 0.5  # that a task takes at least, where there are many items: Dask's own work is some ms
STRAGGLER_SECONDS = 30.0  # at least, and …
STRAGGLER_TIMES = 10.0  # … so many times as long as items take: then an idle worker gets it as well
LOST = 3  # times that an item's worker ends and another one lacks what it needs: then it is to blame
AGAIN = 5  # that an item may get lost on its way, as where a scheduler was started anew

Item = TypeVar("Item", bound=Sequence[Any])
Found = TypeVar("Found")


@dataclass(eq=False)
class _Begun:
    """An item that workers have, once or twice.

    `late` where a worker that was at it has been replaced: `aside` is what may come from that one yet.
    """

    item: Any
    ahead: bool
    since: float
    share: int = EACH
    futures: dict[Future[Any], Future[Any]] = field(default_factory=dict)  # with the task of each
    aside: list[Future[Any]] = field(default_factory=list)
    again: int = 0
    there: frozenset[str] = frozenset()
    lost: int = 0
    blamed: bool = False
    late: bool = False

    def cancel(self) -> None:
        for future in self.tries():
            future.cancel()

    def tries(self) -> list[Future[Any]]:
        return [*self.futures, *self.aside]

    def finished(self) -> bool:
        return any(one.done() and not one.cancelled() and one.exception() is None for one in self.tries())


class Workers(Generic[Item, Found]):
    """Evaluates in workers.

    What is computed ahead (`landscape.keeping.points.Ahead`) fills workers that would be idle at the end of a
    batch; it is used when it is asked for, and never otherwise.

    A worker has several items, and when it dies all of them are suspected. So one that workers died with
    again and again is tried alone, after what is under way, before it is named.

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
        self._each: deque[float] = deque(maxlen=50)

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
            for future in self._begun[key].tries():
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
        """Give workers something to do: what is asked for, stragglers again, what may be asked for next.

        Once an item is blamed nothing new is begun until it, alone, has come or has ended workers again.
        """
        width = self._crew.width()
        if width is not None:
            self._replace()
        for begun in [one for one in self._begun.values() if not one.futures and not one.blamed]:
            self._submit(begun)
        running = self._running()
        blamed = [one for one in self._begun.values() if one.blamed]
        if blamed and not running:
            if not blamed[0].futures:  # else what came of it is to be looked at first
                self._submit(blamed[0])
            return
        size = self._size(len(waiting), width)
        while waiting and not blamed and (width is None or running < EACH * width * size):
            chunk = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            self._begin(chunk)
            running += len(chunk)
        if width is None or (waiting and not blamed):
            return
        asked = [self._begun[key] for key in left & self._begun.keys()]
        free = width - running + self._overdue()
        for late in [one for one in asked if self._is_late(one)][: max(0, free)]:
            self._submit(late)
            running += 1
        for item in ahead(width - running) if running < width and not blamed else ():
            if _key(item) not in self._begun:
                self._begin([item], ahead=True)

    def _size(self, waiting: int, width: int | None) -> int:
        """How many items a task has, so that it takes long enough; few enough that all workers get some."""
        if width is None or not self._each:
            return 1
        return max(1, min(int(TASK_SECONDS / max(median(self._each), 1e-6)), waiting // (2 * EACH * width)))

    def _begin(self, items: Sequence[Item], *, ahead: bool = False) -> None:
        now = time.monotonic()
        for item in items:
            self._begun[_key(item)] = _Begun(item, ahead, now, EACH * len(items))
        self._submit(*(self._begun[_key(item)] for item in items))

    def _begin_again(self, begun: _Begun) -> None:
        begun.cancel()
        begun.futures.clear()
        begun.share = EACH
        self._submit(begun)

    def _lost_on_its_way(self, begun: _Begun, future: Future[Any], error: LostPartError) -> None:
        """Its worker lacks what it needs, or has gone; it is to come to another one.

        Dask counts deaths of a task's workers, but this will be another task. So where a worker has gone that
        was there when the item was given out, that counts: it may have died of it.
        """
        begun.lost += bool(begun.there - self._crew.there(now=True))
        if begun.lost == LOST and not self._blame(begun):
            raise UserError(
                f"workers died {LOST} times while they had {self._name(begun.item)}: out of memory, or does "
                "the network end its process there? What was computed is kept; the same command tries again"
            )
        self._crew.send_again(self._parcel, error)
        begun.share = EACH
        begun.futures.pop(future, None)  # until it may be there; see `_fill`

    def _blame(self, begun: _Begun) -> bool:
        """Have it tried alone; False where it has been, or workers can have died of nothing else."""
        if begun.blamed or all(one is begun or one.finished() for one in self._begun.values()):
            return False
        begun.cancel()
        begun.futures.clear()
        begun.blamed, begun.lost, begun.share = True, 0, EACH
        return True

    def _submit(self, *chunk: _Begun) -> None:
        """Have some items done in one task, each with a future of its own."""
        there = self._crew.there()
        for begun in chunk:
            begun.there = there
        task = self._crew.several(self._parcel, [begun.item for begun in chunk])
        own = [Future[Any]() for _ in chunk]

        def arrived(done: Future[list[Any]]) -> None:
            for number, future in enumerate(own):
                with suppress(InvalidStateError):  # cancelled meanwhile
                    _pass_on(done, number, len(own), future)

        def given_up(_: Future[Any]) -> None:
            if all(future.cancelled() for future in own):
                task.cancel()

        for begun, future in zip(chunk, own, strict=True):
            begun.futures[future] = task
            future.add_done_callback(partial(self._put, _key(begun.item)))
            future.add_done_callback(given_up)
        task.add_done_callback(arrived)

    def _put(self, key: Hashable, future: Future[Any]) -> None:
        self._came.put((key, future))

    def _replace(self) -> None:
        """What workers have that are replaced is begun anew.

        What its worker is late with, once only: it may be the item, with which others would be late, too.
        """
        tasks = {task for begun in self._begun.values() for task in begun.futures.values()}
        replaced = self._crew.replaced(tasks, self._usual() if self._seconds else math.inf)
        for begun in self._begun.values() if replaced else ():
            for future, task in list(begun.futures.items()):
                late = replaced.get(task)
                if late is None or future.done() or (late and begun.late):
                    continue
                del begun.futures[future]
                if late or not future.cancel():
                    begun.aside.append(future)  # the one that comes first counts
                begun.late = begun.late or late
                begun.since, begun.share = time.monotonic(), EACH

    def _running(self) -> int:
        return sum(not future.done() for begun in self._begun.values() for future in begun.futures)

    def _overdue(self) -> int:
        """How many late items' first workers may hang: where nothing else waits, the others are idle.

        Where they aren't, a second go waits behind what they do, and is given up when that comes.
        """
        every = self._begun.values() if self._seconds else ()
        return sum(
            self._takes_long(one) and not next(iter(one.futures)).done() for one in every if one.futures
        )

    def _is_late(self, begun: _Begun) -> bool:
        return len(begun.futures) == 1 and not begun.late and self._takes_long(begun)

    def _takes_long(self, begun: _Begun) -> bool:
        return time.monotonic() - begun.since > self._usual()

    def _usual(self) -> float:
        """Who takes longer is late."""
        return max(STRAGGLER_SECONDS, STRAGGLER_TIMES * median(self._seconds or [0.0]))

    def _next(self, left: set[Hashable], patience: float) -> tuple[Hashable, Found] | None:
        """What comes next of `left`; None where that takes long, or was something else."""
        try:
            key, future = self._came.get(timeout=patience)
        except queue.Empty:
            self._crew.check()
            return None
        begun = self._begun.get(key)
        if begun is None or key not in left or future not in begun.tries():
            return None
        if future in begun.aside and (future.cancelled() or future.exception() is not None):
            begun.aside.remove(future)  # another worker has it
            return None
        try:
            found: Found = future.result()
        except LostPartError as error:
            self._lost_on_its_way(begun, future, error)
            return None
        except (Exception, CancelledError) as error:
            if isinstance(error, CancelledError) and begun.again < AGAIN:
                self._crew.check()  # the scheduler may be gone
                begun.again += 1
                self._begin_again(begun)
                return None
            if self._crew.blames(error) and self._blame(begun):
                return None
            raise self._crew.explained(error, self._name(begun.item)) or error from error
        if not begun.ahead:
            self._seconds.append(time.monotonic() - begun.since)
            self._each.append(self._seconds[-1] / begun.share)
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
        When a part can't be sent to another process, or a file for it can't be written beside an output; for
        what is no executor.
    """
    check_executor(executor)
    crew: Crew = executor if isinstance(executor, Cluster) else OfExecutor(executor, beside)
    with sent(crew, parts) as parcel:
        found = Workers[Any, Any](crew, parcel, name)
        try:
            yield found
        finally:
            found.close()


def _key(item: Any) -> Hashable:
    return item if isinstance(item, str) else tuple(item)


def _pass_on(task: Future[list[Any]], number: int, of: int, future: Future[Any]) -> None:
    """What came of a task, to one of its items; where one of several ended workers, each is done alone."""
    if task.cancelled():
        future.set_exception(CancelledError())
        return
    error = task.exception()
    if error is None:
        future.set_result(task.result()[number])
    elif of == 1 or isinstance(error, UserError | LostPartError):
        future.set_exception(error)
    else:
        future.set_exception(CancelledError())
