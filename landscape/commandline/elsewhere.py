"""Commands in the workers of a cluster, which see the same folders: what a process here is, there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.commandline.claims import INHERITED, locked
from landscape.keeping.signals import stopping

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

POLL_SECONDS = 0.25
LOST = 1  # the code of a command of which nothing comes any more


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
        self._cluster, self._stop = cluster, log.with_name(f".{log.name}.stop")
        self._stop.unlink(missing_ok=True)
        words = ["" if word == sys.executable else word for word in command]
        self._future = cluster.submit(run_there, words, str(log.resolve()), os.getcwd(), prints)

    def poll(self) -> int | None:
        """Its exit code; None while it waits or runs."""
        if self.returncode is None:
            if self._future.done():
                self._end()
            elif self._cluster.client.status in ("closed", "closing"):
                self.returncode, self.told = LOST, f"the scheduler {self._cluster.name} is gone"
        if self.returncode is not None:
            self._stop.unlink(missing_ok=True)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Ask it to stop: the worker looks for a file beside the log, and asks with its own signal."""
        with suppress(OSError):
            self._stop.touch()

    def kill(self) -> None:
        """Wait for it no longer."""
        self._future.cancel()
        self.returncode = self.returncode or -signal.SIGKILL

    def wait(self) -> int | None:
        """Nothing is left to wait for after `kill`."""
        return self.returncode

    def _end(self) -> None:
        error = None if self._future.cancelled() else self._future.exception()
        if error is None and not self._future.cancelled():
            self.returncode = self._future.result()
            return
        told = self._cluster.explained(error, "it") if error is not None else None
        self.returncode, self.told = LOST, str(told or error or "it got lost")


def run_there(words: Sequence[str], log: str, folder: str, prints: bool) -> int:
    """What a worker does: run a command to its end, or ask it to stop; gives its exit code."""
    stop = Path(log).with_name(f".{Path(log).name}.stop")
    while (descriptor := locked(Path(log))) is None:  # a process of a worker that died may still be at it
        if stop.exists():
            return 128 + signal.SIGINT
        time.sleep(POLL_SECONDS)
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
    asked = False
    while (code := process.poll()) is None:
        if stop.exists() and not asked:
            process.send_signal(stopping())
            asked = True
        time.sleep(POLL_SECONDS)
    if not INHERITED:
        os.close(descriptor)
    return code


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
