"""Commands in the workers of a cluster, which see the same folders: what a process here is, there."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from landscape.commandline.claims import INHERITED, locked
from landscape.keeping.signals import stopping

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

POLL_SECONDS = 0.25
LOST = 1  # the code of a command of which nothing comes any more
KILL = "kill"  # in the file beside the log; an empty one asks to stop
STALE_SECONDS = 3600.0  # nobody reads such a file any more

_WATCH = """
import os, signal, sys
sys.stdin.read()
getattr(os, "killpg", os.kill)(int(sys.argv[1]), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


class Elsewhere:
    """As `subprocess.Popen`, as far as `landscape.commandline.jobs` needs it.

    Parameters
    ----------
    cluster
        Where to.
    command
        This Python becomes the worker's.
    log
        Gets standard error, and standard output where `prints`. The command holds its lock.

    Attributes
    ----------
    returncode
        None while it runs.
    told
        Why nothing comes from it any more, in a line.
    """

    def __init__(self, cluster: Cluster, command: Sequence[str], log: Path, prints: bool) -> None:
        self.returncode: int | None = None
        self.told = ""
        self._cluster = cluster
        self._stop = stop_file(log, uuid4().hex)  # another command's process may wait for the same log
        _tidy(log)
        words = ["" if word == sys.executable else word for word in command]
        self._future = cluster.submit(
            run_there, words, str(self._stop.resolve()), str(log.resolve()), os.getcwd(), prints
        )

    def poll(self) -> int | None:
        """Its exit code; None while it waits or runs."""
        if self.returncode is None:
            if self._future.done():
                self._end()
            elif self._cluster.client.status in ("closed", "closing"):
                self.returncode, self.told = LOST, f"the scheduler {self._cluster.name} is gone"
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Ask it to stop: the worker looks for a file beside the log, and asks with its own signal."""
        with suppress(OSError):
            self._stop.touch()

    def kill(self) -> None:
        """Wait for it no longer: its worker ends it when it reads that, or ends itself.

        The file stays, since a worker may look for it later, or on a folder that shows it later.
        """
        if self.poll() is None:
            with suppress(OSError):
                self._stop.write_text(KILL)
            self._future.cancel()
            self.returncode = -signal.SIGKILL

    def wait(self) -> int | None:
        """Nothing is left to wait for after `kill`."""
        return self.returncode

    def _end(self) -> None:
        error = None if self._future.cancelled() else self._future.exception()
        if error is None and not self._future.cancelled():
            self.returncode = self._future.result()
            self._stop.unlink(missing_ok=True)  # it may have been asked as it ended
            return
        told = self._cluster.explained(error, "it") if error is not None else None
        self.returncode, self.told = LOST, str(told or error or "it got lost")


def stop_file(log: Path, name: str) -> Path:
    """Where it is said that one of those who want a log's command is to stop."""
    return log.with_name(f".{log.name}.{name}.stop")


def _tidy(log: Path) -> None:
    """Remove what no worker came to read."""
    for file in log.parent.glob(f".{glob.escape(log.name)}.*.stop"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()


def run_there(words: Sequence[str], stop: str, log: str, folder: str, prints: bool) -> int:
    """What a worker does: run a command to its end, or end it when a file says so; gives its exit code.

    No command outlives its worker: nobody would hear of it, and another worker would wait for its log.
    """
    asks = Path(stop)
    while (descriptor := locked(Path(log))) is None:  # a process of a worker that died may still be at it
        if _told(asks) is not None:
            asks.unlink(missing_ok=True)
            return 128 + signal.SIGINT
        _check_worker()
        time.sleep(POLL_SECONDS)
    try:
        if _told(asks) == KILL:
            asks.unlink(missing_ok=True)
            return -signal.SIGKILL
        with _hearing():
            process = subprocess.Popen(
                [word or sys.executable for word in words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=descriptor if prints else subprocess.DEVNULL,
                stderr=descriptor,
                start_new_session=True,
            )
        if INHERITED:
            os.close(descriptor)
            descriptor = -1
        with _ends_with_us(process):
            code = _ended(process, asks)
        asks.unlink(missing_ok=True)  # where it hasn't ended, another worker is to read it
        return code
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _ended(process: subprocess.Popen[bytes], stop: Path) -> int:
    """The exit code of a command, once it has ended."""
    asked = False
    while (code := process.poll()) is None:
        told = _told(stop)
        if told == KILL:
            _kill(process)
        else:
            _check_worker()
        if told is not None and not asked:
            process.send_signal(stopping())
            asked = True
        time.sleep(POLL_SECONDS)
    return code


def _told(stop: Path) -> str | None:
    """What is in the file that asks a command to stop; None while nobody does."""
    try:
        return stop.read_text()
    except OSError:
        return None


def _check_worker() -> None:
    """Dask's `Reschedule` when this worker is about to end: another one is to go on with what is saved."""
    try:
        from distributed import Reschedule, get_worker

        status = get_worker().status.name
    except (ImportError, ValueError):  # no worker, but whoever calls `run_there`
        return
    if status in ("closing", "closed", "failed"):
        raise Reschedule


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started, such as readers of data."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


@contextmanager
def _ends_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that leaves the block early, or whose starter is killed inside, is killed with its group.

    A second one sees to the latter: it waits for the end of a pipe that this process alone holds. Linux could
    do so by itself, but for one process, not for a group, and when the thread that started it ends.
    """
    try:
        words = [sys.executable, "-I", "-S", "-c", _WATCH, str(process.pid)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as watch:
            try:
                yield
            finally:
                watch.kill()  # before its pipe ends
    finally:
        if process.poll() is None:
            _kill(process)
            process.wait()


@contextmanager
def _hearing() -> Iterator[None]:
    """What is started inside hears Ctrl-C's signal, which a worker itself may not."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
