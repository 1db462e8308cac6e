"""Asks the worker process for what a file holds."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock

from landscape.errors import UserError
from landscape.files import check_regular
from landscape.hdf5.tree import MalformedError, Tree, unpack

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from landscape.hdf5.worker import main; main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])  # first: a folder of the user's may be called landscape too
_CHUNK = 1 << 24
_BROKEN_ANSWER = (EOFError, BrokenPipeError, ValueError, KeyError, TypeError)


def read_tree(path: str | os.PathLike[str], kind: str, program: str) -> tuple[Tree, bool]:
    """What an HDF5 file holds, and whether its digest vouches for it.

    Parameters
    ----------
    path
        The file.
    kind, program
        What it should be and what writes such files, for messages: "surface file", "landscape.surface".

    Raises
    ------
    UserError
        When there is no such file, or it can't be read.
    """
    expected = f"expected a {kind} written by {program}"
    try:
        check_regular(path)
        target = os.path.realpath(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except (OSError, ValueError) as error:  # a name longer than the system takes, or with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {reason}; {expected}") from error
    try:
        return _reader().ask(target)
    except MalformedError as error:
        raise UserError(f"{path}: not a readable {kind} ({error})") from error


class _Reader:
    """The worker process of this process; started when first needed, and again after it ended."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str) -> tuple[Tree, bool]:
        """What that file holds.

        Raises
        ------
        MalformedError
            When it can't be told, with the reason.
        """
        with self._lock:
            process = self._started()
            if process is None:
                return _read_here(path)
            try:
                return self._exchange(process, path)
            except MalformedError:
                raise
            except _BROKEN_ANSWER as error:
                raise MalformedError(_last_words(self._end())) from error
            except BaseException:  # Ctrl-C: the rest of the answer must not meet the next request
                self._end()
                raise

    def close(self) -> None:
        """End the process, if it is this one's."""
        if self.owner == os.getpid():
            self._end()

    def _started(self) -> subprocess.Popen[bytes] | None:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _start()
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], path: str) -> tuple[Tree, bool]:
        if process.stdin is None or process.stdout is None:
            raise EOFError
        source = process.stdout

        def take(size: int) -> bytes:
            found = bytearray()
            while len(found) < size:
                piece = source.read(min(size - len(found), _CHUNK))
                if not piece:
                    raise EOFError
                found += piece
            return bytes(found)

        process.stdin.write(json.dumps({"path": path}).encode("ascii") + b"\n")
        process.stdin.flush()
        answer = json.loads(source.readline() or b"{")
        if "error" in answer:
            raise MalformedError(str(answer["error"]))
        return unpack(take(answer["header"]), take), bool(answer["sealed"])

    def _end(self) -> int | None:
        """End the process; gives how it ended."""
        process, self._process = self._process, None
        return None if process is None else _ended(process)


def _start() -> subprocess.Popen[bytes] | None:
    """A new worker; None where none can be had: no interpreter to start, or no more processes."""
    if not sys.executable:
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps([_ROOT, *sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C on the terminal isn't for it
        )
    except OSError:
        return None
    if process.stdout is not None and process.stdout.readline():
        return process
    _ended(process)
    return None


def _ended(process: subprocess.Popen[bytes]) -> int:
    """End a worker, if it doesn't by itself; gives how it ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        return process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _read_here(path: str) -> tuple[Tree, bool]:
    """In this process, where no other can be had: as strict, though not proof against HDF5's own faults."""
    from landscape.hdf5.worker import take_apart

    try:
        with open(path, "rb") as file:
            return take_apart(file)
    except MalformedError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise MalformedError(f"HDF5: {error}") from error


def _last_words(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the HDF5 library can't read it and stops (signal {-code}): damaged, or made to do so"
    return "the HDF5 library can't read it and stops: damaged, or made to do so"


_READERS: list[_Reader] = []


def _reader() -> _Reader:
    """The reader of this process: a fork must not talk to its parent's."""
    if not _READERS or _READERS[0].owner != os.getpid():
        _READERS[:] = [_Reader()]
        atexit.register(_READERS[0].close)
    return _READERS[0]
