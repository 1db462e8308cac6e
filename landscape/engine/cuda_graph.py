"""One CUDA graph for a whole point, and the numeric settings that hold while a GPU computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from landscape.engine.modes import own_modes

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
        with torch.cuda.device(device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = run()

    def __call__(self) -> Result:
        """Replay; the same result object each time, with new numbers in it."""
        self._graph.replay()
        return self._result


@contextmanager
def numerics(device: torch.device, tf32: bool) -> Iterator[None]:
    """Deterministic cuDNN algorithms, TF32 only where asked for; the caller's settings return afterwards."""
    if device.type != "cuda":
        with own_modes(device):
            yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    try:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = tf32, tf32, False, True
        with own_modes(device):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
