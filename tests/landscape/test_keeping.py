"""When to save, and what signals do meanwhile."""
# ruff: noqa: PT012  (at which statement it is raised is what is tested)

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from landscape.keeping import pace
from landscape.keeping.keeper import Keeper
from landscape.keeping.pace import Pace
from landscape.keeping.signals import Interrupted, held_back, let_through, raised_signals


class Clock:
    """Stands still unless it is moved."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pace, "time", found)
    return found


@pytest.mark.parametrize(
    ("took", "pause"),
    [(0.0, 2.0), (0.1, 2.0), (0.5, 10.0), (1.5, 30.0), (20.0, 30.0), (90.0, 90.0)],
    ids=["nothing", "a little", "5 %", "half a minute", "at most that", "as long as it took"],
)
def test_slow_saving_takes_a_small_share_and_little_is_lost(clock: Clock, took: float, pause: float) -> None:
    saves = Pace()
    assert not saves.due
    clock.now += 2.0
    assert saves.due
    with saves.saving():
        clock.now += took
    clock.now += pause * 0.999
    assert not saves.due
    clock.now += pause * 0.002
    assert saves.due


def hit(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_while_they_are_held_back(number: signal.Signals) -> None:
    seen = list[str]()
    with raised_signals():
        with pytest.raises(Interrupted) as error, held_back():
            with held_back():
                hit(number)
                hit(number)
                seen.append("inner")
            seen.append("outer")
        assert (error.value.number, seen) == (number, ["inner", "outer"])
        with pytest.raises(Interrupted), held_back():
            with let_through():
                hit(number)
            seen.append("never")
        with pytest.raises(Interrupted), held_back():
            hit(number)
            with let_through():
                seen.append("never")
        with pytest.raises(ZeroDivisionError), held_back():
            hit(number)
            _ = 1 / 0
        with held_back():  # nothing is left of what the failure came before
            pass
    assert seen == ["inner", "outer"]


def test_ctrl_c_waits_in_any_program_and_its_own_handlers_stay() -> None:
    usual = signal.getsignal(signal.SIGINT)
    done = list[int]()
    with pytest.raises(KeyboardInterrupt):
        with held_back():
            hit(signal.SIGINT)
            done.append(1)
        done.append(2)
    assert signal.getsignal(signal.SIGINT) is usual
    signal.signal(signal.SIGINT, lambda number, frame: done.append(number))
    try:
        with held_back():
            hit(signal.SIGINT)
        assert done == [1, signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, usual)


def test_other_threads_hold_nothing_back() -> None:
    inside, end = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with held_back():
            inside.set()
            end.wait(10)

    thread = threading.Thread(target=elsewhere)
    with raised_signals():
        thread.start()
        inside.wait(10)
        with pytest.raises(Interrupted):
            hit(signal.SIGTERM)
    end.set()
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["finalizer", "weak reference"])
def test_a_signal_that_comes_where_python_ignores_exceptions_isnt_lost(
    number: signal.Signals, where: str
) -> None:
    class Leaving:
        def __del__(self) -> None:
            if where == "finalizer":
                hit(number)

    with raised_signals(), pytest.raises(Interrupted) as error:
        leaving = Leaving()
        seen = weakref.ref(leaving, lambda _: hit(number) if where != "finalizer" else None)
        del leaving
        assert seen() is None
        threading.Event().wait(10)
    assert error.value.number == number


def test_whatever_stops_the_work_is_raised_when_it_is_saved(tmp_path: Path) -> None:
    saved = list[Path]()

    def stopped(act: Callable[[], object], kind: type[BaseException]) -> int:
        saved.clear()
        with raised_signals(), pytest.raises(kind), Keeper(tmp_path / "x").keeping(saved.append) as sometimes:
            sometimes()  # it isn't time yet
            act()
        return len(saved)

    assert stopped(lambda: hit(signal.SIGTERM), Interrupted) == 1
    assert stopped(lambda: [].pop(), IndexError) == 1
    with Keeper(tmp_path / "x").keeping(saved.append):
        pass
    assert len(saved) == 1  # work that comes to its end says itself what to keep
    with pytest.raises(IndexError), Keeper(None).keeping(saved.append) as sometimes:
        sometimes()
        [].pop()
    assert len(saved) == 1
