"""Several computations of one process at a time, each of which waits for workers now and then."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import TypeVar

Found = TypeVar("Found")
Steps = Generator[None, None, Found]
"""A computation that yields wherever it would wait, and returns what it has found."""

POLL_SECONDS = 0.02


def side_by_side(works: Iterable[Steps[Found]], at_a_time: int) -> list[Found]:
    """What all of them return, in order; so many are begun at a time.

    What stops one stops all: each gets the exception where it waits, so that it keeps what it has.
    """
    begun: dict[int, Steps[Found]] = {}
    found: dict[int, Found] = {}
    coming = enumerate(works)
    more = True
    try:
        while more or begun:
            while more and len(begun) < at_a_time:
                number, work = next(coming, (-1, None))
                more = work is not None
                if work is not None:
                    begun[number] = work
            for number, work in list(begun.items()):
                try:
                    next(work)
                except StopIteration as end:
                    found[number] = end.value
                    del begun[number]
            time.sleep(POLL_SECONDS if len(begun) >= at_a_time or not more else 0)
    except BaseException as error:
        answers = [_stopped(work, error) for work in begun.values()]
        raise next((one for one in answers if one is not None), error) from None
    return [found[number] for number in sorted(found)]


def _stopped(work: Steps[Found], error: BaseException) -> SystemExit | None:
    """Throw into a computation what ends all; the end of a command, where it answers with one."""
    try:
        work.throw(error)
    except SystemExit as answer:
        return answer
    except BaseException:
        return None
    finally:
        work.close()
    return None
