"""The process in which files are taken apart: one request and one answer at a time on its pipes.

A request is a JSON line with the file's ``path``. The answer is a JSON line with ``error``, or with the sizes
of the header and arrays of a packed `Tree` that follow. The process ends with its standard input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

import h5py

from landscape.hdf5.extract import BYTES_PER_BYTE, FREE_BYTES, extract
from landscape.hdf5.seal import check_seal
from landscape.hdf5.tree import MalformedError, Tree, pack

SECONDS = 5.0  # of computing for any file: a thousand times what one of ours takes
SECONDS_PER_BYTE = 1e-7
SLACK_BYTES = 256 << 20  # of memory beside the arrays and the file


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _send(answers, {})  # ready
    for line in requests:
        _answer(json.loads(line)["path"], answers)


def _answer(path: str, answers: BinaryIO) -> None:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            with _bounded(size):
                tree, sealed = take_apart(file)
    except OSError as error:
        _send(answers, {"error": error.strerror or f"HDF5: {error}", "errno": error.errno})
    except MalformedError as error:
        _send(answers, {"error": str(error)})
    except MemoryError:
        _send(answers, {"error": "it asks for more memory than such a file can justify"})
    except Exception as error:  # h5py has no exception of its own: damaged metadata shows as any
        _send(answers, {"error": f"HDF5: {error}"})
    else:
        header, arrays = pack(tree)
        _send(answers, {"sealed": sealed, "header": len(header)})
        answers.write(header)
        for values in arrays:
            answers.write(values.tobytes())
        answers.flush()


def take_apart(file: BinaryIO) -> tuple[Tree, bool]:
    """What an open file holds, and whether a digest vouches for it.

    The file is read through this one handle: no lock is asked of the file system, and a file that is replaced
    meanwhile is still read as it was.
    """
    sealed = check_seal(file)
    size = file.seek(0, os.SEEK_END)
    with h5py.File(file, "r") as opened:
        return extract(opened, size), sealed


@contextlib.contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Bounded time of computing and memory, for a file of that size; beyond them this process ends."""
    seconds = SECONDS + SECONDS_PER_BYTE * size
    _limit_memory(FREE_BYTES + (BYTES_PER_BYTE + 2) * size + SLACK_BYTES)
    if sys.platform == "win32":
        faulthandler.dump_traceback_later(10 * seconds, exit=True, file=sys.stderr)
    else:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        if sys.platform == "win32":
            faulthandler.cancel_dump_traceback_later()
        else:
            signal.setitimer(signal.ITIMER_PROF, 0.0)


def _limit_memory(more: int) -> None:
    """Let this process take that many bytes more than it has; where the system can't say, nothing is done."""
    if sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = now + more
        resource.setrlimit(
            resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _send(answers: BinaryIO, content: dict[str, object]) -> None:
    answers.write(json.dumps(content).encode("ascii") + b"\n")
    answers.flush()
