"""Whose a job is: whoever has locked its log, whether whoever started it still lives or was killed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from landscape.errors import UserError

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


def claim(log: Path) -> int | None:
    """Take a job: the descriptor of its locked, empty log; None while another process is at it."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}; choose another --output") from error
    if _lock(descriptor):
        os.ftruncate(descriptor, 0)
        return descriptor
    os.close(descriptor)
    return None


def locked(log: Path) -> int | None:
    """The descriptor of a claimed job's log, whose content stays; None while another process has it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if _lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
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
