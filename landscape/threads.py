"""How many threads an operation of PyTorch takes on a CPU.

Its threads go on looking for work for some milliseconds after an operation (OpenMP's habit), and so take a
core from whatever else the process computes on: streams of the engine, sparse kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Operations split themselves over so many; the caller's setting returns afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations don't split themselves over threads; the caller's setting returns afterwards.

    For small work this is faster, by orders of magnitude where other processes keep the cores busy: the
    threads of one operation wait for each other until each was given its turn.
    """
    with threads(1):
        yield
