"""How every command ends when a signal stops it: one line, and 128 and the signal's number as exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from landscape.commandline.console import note
from landscape.keeping.signals import exit_code, name_of, raised_signals


def leave(error: KeyboardInterrupt, text: str) -> NoReturn:
    """Say what stopped the command and what `text` adds; end it."""
    note(f"stopped by {name_of(error)}{text}", urgent=True)
    raise SystemExit(exit_code(error)) from None


@contextmanager
def stoppable() -> Iterator[None]:
    """Around a whole command: Ctrl-C and its like end it in one line, wherever nothing more is said."""
    try:
        with raised_signals():
            yield
    except KeyboardInterrupt as error:
        leave(error, "; give the same command to go on")
