"""One CUDA graph for a whole point, and the numeric settings that hold while a GPU computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from landscape.engine.modes import own_modes
from landscape.gpu_numerics import gpu_numerics

Result = TypeVar("Result")
_WARM_UPS = 3  # cuBLAS, cuDNN and the allocator set themselves up outside the capture


class CapturedRun(Generic[Result]):
    """A run without arguments that is captured once and replayed afterwards.

    The run must do the same operations on the same memory each time and never wait for the device; what
    varies (the coordinates) it reads from device memory. Its result lies in memory that each replay
    overwrites.

    Raises
    ------
    RuntimeError
        When the run can't be captured; it then has to be called as it is.
    """

    def __init__(self, run: Callable[[], Result], device: torch.device) -> None:
        # The caller's stream returns whatever happens: torch's own contexts leave another one behind where
        # a capture fails.
        here = torch.cuda.current_stream(device)
        with torch.cuda.device(device), torch.cuda.stream(here):
            torch.cuda.synchronize(device)
            # Where it is replayed, if it can be: cuBLAS's memory in a graph is that of the stream of its
            # capture, and whoever has that stream later uses it, too, or frees it.
            side = here
            if here == torch.cuda.default_stream(device):  # which can't be captured
                # One of this device: torch's own for captures is made once, on whichever device is first.
                side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(side), _never_waiting():
                for _ in range(_WARM_UPS):
                    run()
            torch.cuda.synchronize(device)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=side):
                self._result = run()

    def __call__(self) -> Result:
        """Replay; the same result object each time, with new numbers in it."""
        self._graph.replay()
        return self._result


@contextmanager
def _never_waiting() -> Iterator[None]:
    """Raises RuntimeError where the host would wait for the device: a capture fails of that.

    A capture that failed leaves the allocator of older PyTorch in a state in which it aborts later, so none
    is begun that must fail.
    """
    before = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is new and doesn't see everything
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def numerics(device: torch.device, tf32: bool) -> Iterator[None]:
    """Deterministic cuDNN algorithms, TF32 only where asked for; the caller's settings return afterwards."""
    if device.type != "cuda":
        with own_modes(device):
            yield
        return
    with gpu_numerics(tf32), own_modes(device):
        yield
