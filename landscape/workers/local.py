"""Workers on this machine, for one command: processes of one thread, or one for each GPU, and a scheduler.

All of it listens on 127.0.0.1 only, and talks TLS with keys made for the occasion: other users of a machine
reach that address, too. No dashboard, no pages, no files left.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import sharpscape
from landscape.cores import cores
from landscape.errors import UserError
from landscape.workers.cluster import INSTALL, Cluster, closed, needed, unlogged

DEATHS = 3  # of workers on one item: then it is the item
START_SECONDS = 120.0  # until the first worker is there; others may come later
HERE = "127.0.0.1"
STEALING = "distributed.scheduler.work-stealing"
_BEFORE = "distributed.nanny.pre-spawn-environ"  # what a worker's process starts with

QUIET: dict[str, Any] = {
    "logging": {"distributed": "critical"},  # failures are told in one line, by who waits for results
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Tensors are no data of Dask's: a worker that pauses or spills would wait for memory that nobody frees.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # After 15 s Dask gives up a worker that is being started anew, which takes longer on a busy machine.
    "distributed.deploy.lost-worker-timeout": "1h",
    "distributed.comm.timeouts.connect": "120s",
    # Nobody reads them, and a hundred looks a second at each worker take a part of a small machine.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    # Ten looks a second at each worker's memory are a part of one core where there are many.
    "distributed.worker.memory.monitor-interval": "500ms",
}


@contextmanager
def local_cluster(
    workers: int, *, threads: int = 1, devices: Sequence[int] = (), memory: int | None = None
) -> Iterator[Cluster]:
    """So many worker processes on this machine, gone at the end of the block.

    Parameters
    ----------
    workers, threads
        Processes, and CPU threads of each. No more work at a time than the cores allow: the others stand by.
    devices
        The GPU that each of the workers sees, by number; all of them see what this process sees for none.
    memory
        Bytes that a worker may take; one that takes more is ended. By default its share of the machine, among
        those that work at a time.

    Raises
    ------
    UserError
        When `distributed` isn't installed, or no process can be started.
    """
    distributed = needed()
    import dask

    at_once = workers if devices else min(workers, max(1, cores() // threads))
    with (
        unlogged(),
        tempfile.TemporaryDirectory(prefix="sharpscape-", ignore_cleanup_errors=True) as folder,
        dask.config.set(
            QUIET
            # Stealing would give work to those who stand by.
            | {STEALING: at_once == workers, "temporary-directory": folder, _BEFORE: _threads(threads)}
        ),
        _own_packages(),
        _own_environment(),
    ):
        try:
            security = distributed.Security.temporary()
            shared = {"host": HERE, "protocol": "tls://", "security": security, "dashboard": False}
            with _deaf():
                cluster = distributed.SpecCluster(
                    workers=_workers(workers, devices, shared | _limits(memory, at_once, folder)),
                    scheduler=_scheduler(shared),
                    security=security,
                    silence_logs=logging.CRITICAL,
                )
        except ImportError as error:
            raise UserError(f"workers on this machine need the package cryptography; {INSTALL}") from error
        except (OSError, RuntimeError, TimeoutError) as error:
            raise UserError(f"can't start workers on this machine ({error})") from error
        try:
            client = distributed.Client(cluster, timeout=START_SECONDS, set_as_default=False)
            with closed(client, "on this machine", at_once if at_once < workers else None) as found:
                yield found
        finally:
            with suppress(Exception):
                cluster.close(timeout=10)


def _scheduler(shared: dict[str, Any]) -> dict[str, Any]:
    from distributed import Scheduler

    own = {"dashboard_address": f"{HERE}:0", "allowed_failures": DEATHS - 1}
    return {"cls": Scheduler, "options": shared | own}


def _threads(count: int) -> dict[str, str]:
    """For a worker's environment. Alone: Dask's default disables glibc's own rule for freed memory."""
    return {f"{name}_NUM_THREADS": str(count) for name in ("OMP", "MKL", "OPENBLAS")}


def _workers(count: int, devices: Sequence[int], shared: dict[str, Any]) -> dict[int, dict[str, Any]]:
    from distributed import Nanny

    found = {}
    for number in range(count):
        seen = {"CUDA_VISIBLE_DEVICES": _visible(devices[number])} if devices else {}
        own = {"nthreads": 1, "env": seen, "silence_logs": logging.CRITICAL}  # an item at a time
        found[number] = {"cls": Nanny, "options": shared | own}
    return found


def _visible(device: int) -> str:
    """What a worker is to see of this process's GPUs, of which a batch system may have given it some only."""
    names = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return names[device] if any(names) else str(device)


def _limits(memory: int | None, at_once: int, folder: str) -> dict[str, Any]:
    from distributed.system import MEMORY_LIMIT

    return {"memory_limit": memory or MEMORY_LIMIT // at_once, "local_directory": folder}


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started inside, threads and the processes that these start, doesn't hear the terminal.

    Ctrl-C reaches all processes of a terminal; the command alone answers it, and ends the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would unblock them when the first process starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _own_environment() -> Iterator[None]:
    """What Dask's keepers of workers write into this process's environment is gone at the end."""
    names = (*_threads(1), "PYTHONHASHSEED", "__DASK_PARENT_PID")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def _own_packages() -> Iterator[None]:
    """A command's workers find our packages as it does, whatever the current folder holds.

    They start with this process's path.
    """
    if sharpscape.running() is None:
        yield
        return
    root = str(sharpscape.ROOT)
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
