"""Which item is named when workers die: all that a dead worker had are suspected, one of them did it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from threading import Timer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.engine.executors import point_name
from landscape.errors import UserError
from landscape.workers.crew import Crew, Parcel
from landscape.workers.evaluator import Workers
from landscape.workers.there import LostPartError

POINTS = [(float(i), float(j)) for i in range(3) for j in range(2)]


class DiedError(Exception):
    """As Dask's `KilledWorker`."""


class Mortal:
    """Two workers that die with all that they have, again and again, of some items.

    Parameters
    ----------
    deadly
        Of these.
    anew
        Whether a worker that was started anew lacks what it needs, or is counted as dead right away.
    dies
        So many workers die of each; for ever with None.
    """

    def __init__(self, deadly: Sequence[Any], anew: bool, dies: int | None = None) -> None:
        self.deadly, self.anew, self.dies = list(deadly), anew, dies
        self.have, self.numbers, self.deaths = list[tuple[Any, Future[list[Any]]]](), count(), 0
        self.names = frozenset({"first"})

    def there(self, now: bool = False) -> frozenset[str]:
        """Those that live."""
        return self.names

    def width(self) -> int:
        """Two items each."""
        return 2

    def several(self, parcel: Parcel, items: Sequence[Any]) -> Future[list[Any]]:
        """Have one done; what is under way at that time meets the same fate, the earlier first."""
        future: Future[list[Any]] = Future()
        self.have.append((items[0], future))
        if len(self.have) == 1:
            Timer(0.002, self._work).start()
        return future

    def _work(self) -> None:
        have, self.have = self.have, []
        if not (fatal := [item for item, future in have if item in self.deadly and not future.cancelled()]):
            for item, future in have:
                if future.set_running_or_notify_cancel():
                    future.set_result([sum(item)])
            return
        self.deaths += 1
        if self.deaths == self.dies:
            self.deadly.remove(fatal[0])
        self.names = frozenset({f"worker {next(self.numbers)}"})
        for _, future in have:
            if future.set_running_or_notify_cancel():
                future.set_exception(LostPartError("anew") if self.anew else DiedError())

    def send_again(self, parcel: Parcel, error: LostPartError) -> None:
        """It has it by now."""

    def replaced(self, tasks: Collection[Future[Any]], seconds: float) -> Mapping[Future[Any], bool]:
        """Nobody stands by."""
        return {}

    def check(self) -> None:
        """There is always another worker."""

    def blames(self, error: BaseException) -> bool:
        """See `landscape.workers.crew.Crew.blames`."""
        return isinstance(error, DiedError)

    def explained(self, error: BaseException, what: str) -> UserError | None:
        """See `landscape.workers.crew.Crew.explained`."""
        return UserError(f"workers died while they had {what}") if self.blames(error) else None


def of(crew: Any) -> Workers[Any, Any]:
    held: Crew = crew
    return Workers(held, Parcel("file", (), ()), point_name)


@pytest.mark.parametrize("anew", [False, True])
@settings(max_examples=25)
@given(st.sampled_from(POINTS), st.permutations(POINTS))
def test_the_one_that_did_it_is_named(anew: bool, deadly: Any, points: Sequence[Any]) -> None:
    found = dict[int, float]()
    with pytest.raises(UserError, match=r"workers died .*while they had the point") as told:
        found.update(of(Mortal([deadly], anew)).evaluate_many(points))
    assert point_name(deadly) in str(told.value)
    assert all(found[number] == sum(points[number]) for number in found)


@pytest.mark.parametrize(("anew", "dies"), [(False, 1), (True, 3)])
def test_who_was_only_there_comes(anew: bool, dies: int) -> None:
    crew = Mortal([POINTS[1]], anew, dies)
    assert dict(of(crew).evaluate_many(POINTS)) == {number: sum(one) for number, one in enumerate(POINTS)}
    assert crew.deaths == dies


@pytest.mark.parametrize("anew", [False, True])
def test_what_was_computed_ahead_is_blamed_when_it_is_asked_for(anew: bool) -> None:
    far = (9.0, 9.0)
    many = of(Mortal([far], anew))

    def ahead(_: int) -> Iterator[Any]:
        return iter([far])

    assert dict(many.evaluate_many(POINTS, ahead)) == {number: sum(one) for number, one in enumerate(POINTS)}
    with pytest.raises(UserError, match=r"while they had the point \(9, 9\)"):
        dict(many.evaluate_many([POINTS[0], far]))
