"""What differs between systems where one process starts others: locks on files, and how it stops them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

_PLACE = 1 << 30  # bytes from the beginning: Windows keeps others from what is locked, and logs are read


def _module(name: str) -> Any:
    """A module that not every system has; None where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")

INHERITED = _fcntl is not None
"""Whether a lock lasts as long as a child has the descriptor, however early the process that took it ends."""


def lock(descriptor: int) -> bool:
    """Lock an open file; False while another process has it. True too where the system has no such locks."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            os.lseek(descriptor, _PLACE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def start_apart(command: Sequence[str], errors: int) -> subprocess.Popen[bytes]:
    """Start a process that the terminal's Ctrl-C doesn't reach; `errors` is its standard error."""
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows' way; the session is the others'
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=not group,
        creationflags=group,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process that was started apart to end, as Ctrl-C does."""
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
