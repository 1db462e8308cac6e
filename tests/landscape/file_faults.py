"""File operations that fail, or at which the process dies, one after the other."""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

CHANGING = ("open", "write", "replace", "unlink", "mkdir", "fsync", "utime")
"""What of `os` is counted, beside files that are opened for writing, and each write into them."""


class Operations:
    """Counts file operations; at number `at` (from 1) it calls `act`, of a write when half of it is done.

    With `onwards` at all that follow as well. Processes that are forked inside have none of this.
    """

    def __init__(self, at: int, act: Callable[[], object], onwards: bool = False) -> None:
        self.at, self.act, self.onwards, self.count = at, act, onwards, 0
        self._process = os.getpid()

    def step(self) -> bool:
        """Whether this is the one."""
        if os.getpid() != self._process:
            return False
        self.count += 1
        return self.count == self.at or (self.onwards and self.count > self.at)

    def counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The operation, which `act` comes before."""

        def operation(*arguments: Any, **options: Any) -> Any:
            if self.step():
                self.act()
            return original(*arguments, **options)

        return operation

    def opened(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`io.open`; files for writing count their writes."""

        def opening(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            writes = any(sign in mode for sign in "wxa+")
            if writes and self.step():
                self.act()
            found = original(file, mode, *arguments, **options)
            return _Writing(found, self) if writes else found

        return opening


class _Writing:
    def __init__(self, file: Any, operations: Operations) -> None:
        self._file, self._operations = file, operations

    def write(self, data: Any) -> Any:
        if self._operations.step():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._operations.act()
            return self._file.write(data[len(data) // 2 :])
        return self._file.write(data)

    def __enter__(self) -> _Writing:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def fault(at: int, act: Callable[[], object] = lambda: None, onwards: bool = False) -> Iterator[Operations]:
    """Inside, `act` is called at file operation number `at`; see `Operations`."""
    operations = Operations(at, act, onwards)
    patches = [patch.object(os, name, operations.counted(getattr(os, name))) for name in CHANGING]
    patches += [patch.object(one, "open", operations.opened(io.open)) for one in (io, builtins)]
    for one in patches:
        one.start()
    try:
        yield operations
    finally:
        for one in patches:
            one.stop()


def failing(number: int) -> Callable[[], object]:
    """An operation's failure with this number of the system's."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def die() -> None:
    """The process is ended by force."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(at: int, work: Callable[[], object]) -> bool:
    """Do the work in a process of its own that dies at file operation `at`; whether it did die."""
    child = os.fork()
    if child == 0:
        try:
            with fault(at, die):
                work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
