"""Work that consists of points: asked for many at a time, taken and kept as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from landscape.keeping.keeper import Keeper
from landscape.keeping.signals import held_back
from landscape.progress import Listener, Progress

Index = tuple[int, int]
Point = Sequence[float]
Found = TypeVar("Found")
Given = TypeVar("Given", covariant=True)
Taken = TypeVar("Taken", contravariant=True)
Item = TypeVar("Item")

Ahead = Callable[[int], Iterable[Item]]
"""Up to so many more items that will probably be asked for next."""


def point_name(point: Point) -> str:
    """What messages call a point."""
    return f"the point ({', '.join(f'{one:g}' for one in point)})"


def nothing_ahead(count: int) -> Iterable[Any]:
    """Nobody knows."""
    return ()


class Evaluator(Protocol[Given]):
    """What gives something at points: in this process, in others, on a cluster."""

    def evaluate_many(
        self, points: Sequence[Point], ahead: Ahead[Point] = nothing_ahead
    ) -> Generator[tuple[int, Given], None, None]:
        """Number and result of every point, in any order, as they come.

        What a point gives depends on it alone. Closing the generator gives up what isn't there yet. Whoever
        has idle workers may compute points of `ahead`, and have them when they are asked for.
        """
        ...


@dataclass(frozen=True)
class OneByOne(Generic[Found]):
    """Evaluates in this process, in the order in which points are asked for."""

    evaluate: Callable[[Point], Found]

    def evaluate_many(
        self, points: Sequence[Point], ahead: Ahead[Point] = nothing_ahead
    ) -> Generator[tuple[int, Found], None, None]:
        """As `Evaluator.evaluate_many`."""
        for number, point in enumerate(points):
            yield number, self.evaluate(point)


class PointRecord(Protocol[Taken]):
    """What is known of one plane."""

    def __contains__(self, index: Index, /) -> bool:
        """Whether a point is known."""
        ...

    def __len__(self) -> int:
        """How many are."""
        ...

    def add(self, index: Index, found: Taken, /) -> None:
        """Enter one point; nothing of it is known before the end of this."""
        ...


class Chooser(Protocol):
    """What is told of a sampler; see `landscape.sampling.Sampler`."""

    relative_error: float
    expected: int

    def ahead(self, count: int) -> Sequence[Index]:
        """Up to so many points that may be in the next batches, the likeliest first."""
        ...


@dataclass(frozen=True)
class Asked:
    """One plane's questions: a sampler, the batches of points that it asks for, and where a point lies."""

    sampler: Chooser
    batches: Iterator[list[Index]]
    place: Callable[[Index], Point]


class PointRun:
    """Plane after plane, point after point; whatever stops it, what came is kept.

    Parameters
    ----------
    path
        The output, or None.
    planes
        How many planes there will be.
    listener
        Called after every point, or None.

    Attributes
    ----------
    seconds, points
        What this run's own points took, and how many they are.
    """

    def __init__(self, path: Path | None, planes: int, listener: Listener | None) -> None:
        self.keeper = Keeper(path)
        self.seconds, self.points = 0.0, 0
        self._planes, self._listener = planes, listener
        self._finished = self._before = 0

    def plane(
        self,
        asked: Asked,
        evaluator: Evaluator[Found],
        record: PointRecord[Found],
        save: Callable[[Path], object],
        close: Callable[[], object],
    ) -> None:
        """Every point that the sampler asks for and the record lacks.

        Parameters
        ----------
        asked
            The questions.
        evaluator, record
            Who answers, and where answers go.
        save
            Writes what is known; not called before anything is.
        close
            Called at the end of the plane; signals wait until it is done.
        """

        def save_some(path: Path) -> None:
            if len(record):
                save(path)

        with self.keeper.keeping(save_some) as sometimes:
            for index, found in self._answers(asked, evaluator, record):
                record.add(index, found)
                self.points += 1
                self._tell(asked.sampler, len(record))
                sometimes()
            with held_back():
                close()
        self._finished += 1
        self._before += len(record)

    def _answers(
        self, asked: Asked, evaluator: Evaluator[Found], known: PointRecord[Found]
    ) -> Iterator[tuple[Index, Found]]:
        def ahead(count: int) -> Iterator[Point]:
            return (asked.place(index) for index in asked.sampler.ahead(count) if index not in known)

        for batch in asked.batches:
            left = [index for index in batch if index not in known]
            began = time.perf_counter()
            with closing(evaluator.evaluate_many([asked.place(index) for index in left], ahead)) as results:
                for number, found in results:
                    self.seconds += time.perf_counter() - began
                    yield left[number], found
                    began = time.perf_counter()

    def _tell(self, sampler: Chooser, here: int) -> None:
        if self._listener is None:
            return
        left = self._planes - self._finished
        self._listener(
            Progress(
                done=self._before + here,
                expected=self._before + left * max(here, sampler.expected),
                plane=self._finished + 1,
                planes=self._planes,
                error=sampler.relative_error,
                seconds_per_point=self.seconds / self.points,
            )
        )
