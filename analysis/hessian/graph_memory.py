"""How much memory graphs of Hessian products may take, and smaller batches where a GPU hasn't as much."""

from __future__ import annotations

from collections.abc import Callable

import torch

from landscape.devices import free_bytes
from landscape.errors import UserError

ON_CPU = 4 << 30
BATCH = 2 << 30  # bytes of a batch's graph on a GPU; no share of what is free: a run goes on with its batches
_KEPT_SHARE = 0.5  # of what is free: a product needs about as much again as its batch's graph


def default_memory(device: torch.device) -> float:
    """Bytes that kept graphs may take: half of what is free on a GPU now, 4 GiB on a CPU."""
    return _KEPT_SHARE * free_bytes(device) if device.type == "cuda" else ON_CPU


def graph_fits(size: int, bytes_per_example: float) -> int:
    """A batch size, halved until the graph of a batch takes `BATCH` at most."""
    while size > 1 and size * bytes_per_example > BATCH:
        size //= 2
    return size


def largest_that_runs(trial: Callable[[int], object], size: int) -> int:
    """The first of `size`, its half, … with which a trial doesn't run out of a GPU's memory.

    Raises
    ------
    UserError
        When a single example does.
    """
    while not _runs(trial, size):
        torch.cuda.empty_cache()
        if size == 1:
            raise UserError(
                "a Hessian product of a single example doesn't fit the GPU's free memory; end what else "
                "computes there, or use --device cpu"
            )
        size //= 2
    return size


def _runs(trial: Callable[[int], object], size: int) -> bool:
    try:
        trial(size)
    except torch.OutOfMemoryError:  # whose traceback holds what was computed: it is freed on return
        return False
    return True


def too_large(batch_size: int) -> UserError:
    """For products that don't fit although nothing is kept."""
    return UserError(
        f"a Hessian product in batches of {batch_size} doesn't fit the GPU's free memory; give a smaller "
        "batch size (--batch-size), or end what else computes there"
    )
