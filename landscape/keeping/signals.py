"""Ctrl-C, and the signals by which terminals and batch systems end a process: alike in every command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# SIGHUP: the terminal went away; SIGBREAK: how Windows asks a process to stop. Each system has its own.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """Raised where a signal came in; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def name_of(error: KeyboardInterrupt) -> str:
    """What stopped the process: "SIGTERM", or "Ctrl-C"."""
    number = error.number if isinstance(error, Interrupted) else signal.SIGINT
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exit_code(error: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells say it: 130 for Ctrl-C."""
    return 128 + (error.number if isinstance(error, Interrupted) else int(signal.SIGINT))


def speaks() -> bool:
    """Whether this process is the one that prints, of those that train together."""
    size, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "0")
    several = size.isdecimal() and int(size) > 1
    return not (several and rank.isdecimal() and int(rank) > 0)


def stop_at_once(text: str) -> None:
    """Until `raised_signals` takes over, while modules are loaded: one line, then the end."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        error = Interrupted(number)
        if speaks():
            os.write(2, f"\nstopped by {name_of(error)}; {text}\n".encode())
        os._exit(exit_code(error))  # an exception inside an import comes out as another one, or not at all

    for number in listened_to():
        signal.signal(number, leave)
    if hasattr(signal, "pthread_sigmask"):  # what came while a process started itself anew has waited
        signal.pthread_sigmask(signal.SIG_UNBLOCK, listened_to())


@contextmanager
def raised_signals() -> Iterator[None]:
    """Inside, signals that end a process raise `Interrupted`; those that are ignored stay so (nohup).

    Only in the main thread, where Python handles signals; elsewhere the block changes nothing.
    """
    with _handled(listened_to()):
        yield


def listened_to() -> list[int]:
    """Signals that may be handled here, without those that this process was told to ignore."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def stopping() -> int:
    """The signal by which this process asks one that it started to stop: Ctrl-C's, where that is heard.

    What a shell starts in the background (``&``, nohup) ignores Ctrl-C, and so does all that it starts.
    """
    usual = signal.SIGTERM if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else signal.SIGINT
    return int(getattr(signal, "CTRL_BREAK_EVENT", usual))


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes inside is raised at the end of the block: what is half done would be no state.

    Outside of `raised_signals` only Ctrl-C waits, and only where nobody else handles it.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _handled([number for number in listened_to() if usual and number == signal.SIGINT]):
        _held.depth += 1
        try:
            yield
        except BaseException:
            _held.number = None if _held.depth == 1 else _held.number  # that ends the work as well
            raise
        finally:
            _held.depth -= 1
        _raise_held()


@contextmanager
def let_through() -> Iterator[None]:
    """The long part of a `held_back` block, at whose beginning everything is whole."""
    depth, _held.depth = _held.depth, 0
    try:
        _raise_held()
        yield
    finally:
        _held.depth = depth


class _Held(threading.local):
    """How many blocks hold signals back, and which one came; other threads get none."""

    depth = 0
    number: int | None = None


_held = _Held()


def _raise_held() -> None:
    number = _held.number
    if number is not None and _held.depth == 0:
        _held.number = None
        raise Interrupted(number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _held.depth:
        raise Interrupted(number)
    _held.number = number


def _send(number: int) -> None:
    """To the main thread, out of a wait as well, where the system can."""
    if hasattr(signal, "pthread_kill") and (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


@contextmanager
def _handled(numbers: list[int]) -> Iterator[None]:
    """Python ignores what is raised in finalizers and callbacks of C: a signal there comes again."""
    if not numbers:
        yield
        return
    before, usual = {number: signal.signal(number, _interrupt) for number in numbers}, sys.unraisablehook

    def again(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, Interrupted):
            later = threading.Timer(0.01, _send, [found.exc_value.number])
            later.daemon = True
            later.start()
        else:
            usual(found)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = usual
        for number, handler in before.items():
            signal.signal(number, handler)
