"""What a process still has after commands in it have failed: files, threads and processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from file_faults import fault
from forking import command
from operation_faults import FAULTS


def held() -> dict[str, list[str]]:
    """Open files, threads and children; the worker that reads HDF5 lasts as long as the process."""
    for one in threading.enumerate():
        if one.name == "lock":  # told to end when the lock was given back
            one.join(20.0)
    return {
        "files": sorted(name for name in _open_files() if not name.startswith(("pipe:", "/dev/pts"))),
        "pipes": [str(sum(name.startswith("pipe:") for name in _open_files()))],
        "threads": sorted(one.name for one in threading.enumerate()),
        "processes": [str(len(_children()))],
    }


def _open_files() -> list[str]:
    found = []
    for one in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{one}"))
    return found


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def after_failures(module: str, words: Sequence[str], kind: str, places: Sequence[int]) -> dict[str, object]:
    """Run a command in this process with a fault at each place; what is held more than before, by kind."""
    command(module, words)
    before = held()
    for at in places:
        with fault(at, FAULTS[kind].act, FAULTS[kind].onwards):
            command(module, words)
    now = held()
    return {key: (before[key], now[key]) for key in before if before[key] != now[key]}
