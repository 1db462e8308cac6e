"""CPU batches side by side: one single-threaded stream per core instead of many threads per operation.

Each stream works on a batch of its own in its own cache and never waits for the others at the end of an
operation; small convolutions lose much of their time there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

from landscape.threads import one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Streams:
    """As many streams as `torch.get_num_threads` says when this is made.

    Results come in the order of the items. Whatever ends a run early (an exception in the work,
    KeyboardInterrupt), no work is left running and the number of threads is as before.
    """

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        keep_freed_memory()

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``[work(item) for item in items]``, in streams where there is something for each."""
        if self.count == 1 or len(items) < self.count:
            return [work(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "evaluate", _set_up)
        futures: list[Future[Result]] = []
        with one_thread():
            try:
                # By number: a batch of pictures is made where it is worked on, not all of them beforehand.
                futures.extend(
                    self._pool.submit(lambda number: work(items[number]), number)
                    for number in range(len(items))
                )
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()
                wait(futures)


def _set_up() -> None:
    # OpenMP's count belongs to the thread, so the caller's setting doesn't reach a new one.
    torch.set_num_threads(1)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed activations instead of returning it after each operation.

    glibc returns blocks above a threshold to the system at once, and the next activation then costs a page
    fault per 4 KiB: measured, up to 40 % of the time of a small convolution. The threshold follows the
    largest block freed so far, up to 32 MiB, so freeing one such block is enough. Harmless elsewhere.
    """
    torch.empty((32 << 20) - (1 << 16), dtype=torch.uint8, device="cpu")
