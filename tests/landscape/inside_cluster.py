"""A Dask cluster whose scheduler and workers are threads of this process: its ways without its seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from landscape.workers import there
from landscape.workers.cluster import Cluster, closed
from landscape.workers.local import HERE, QUIET


@contextmanager
def served(protocol: str, workers: int = 2) -> Iterator[Any]:
    """The cluster as Dask has it."""
    import dask
    import distributed

    there._works.clear()
    there._parts.clear()
    shared = {"host": HERE, "dashboard": False, "dashboard_address": f"{HERE}:0"}
    if protocol == "inproc":
        shared.pop("host")
    own = {"nthreads": 1, "memory_limit": 0}
    worker = {"cls": distributed.Worker, "options": shared | own | {"protocol": f"{protocol}://"}}
    scheduler = {"cls": distributed.Scheduler, "options": shared | {"protocol": f"{protocol}://"}}
    with (
        dask.config.set(QUIET),
        distributed.SpecCluster(
            workers=dict.fromkeys(range(workers), worker),
            scheduler=scheduler,
            silence_logs=logging.CRITICAL,
        ) as found,
    ):
        yield found


@contextmanager
def inside_cluster(workers: int = 2, at_once: int | None = None) -> Iterator[Cluster]:
    """The same as commands get one."""
    import distributed

    with (
        served("inproc", workers) as inside,
        distributed.Client(inside, set_as_default=False) as client,
        closed(client, "here", at_once) as found,
    ):
        yield found
