"""What one example costs, and the batch size that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

CPU_BYTES = 4 << 20
CUDA_BYTES = 256 << 20
_CPU_SIZES = (8, 256)
_CUDA_SIZES = (32, 4096)


@dataclass(frozen=True)
class Cost:
    """Of one example.

    Attributes
    ----------
    flops
        Of convolutions and matrix products, two per multiply-add, in a forward pass.
    largest
        Bytes of the largest tensor that an operation makes.
    """

    flops: float
    largest: float


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the largest tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return result


def measure(run: Callable[[], object], examples: int) -> Cost:
    """Cost per example of `run`, which works on `examples` of them."""
    with _Largest() as largest, FlopCounterMode(display=False) as counter:
        run()
    return Cost(counter.get_total_flops() / examples, largest.bytes / examples)


def choose_batch_size(cost: Cost, device: torch.device) -> int:
    """A power of two whose largest activation just fits a fixed budget; a function of the network alone.

    Not of timings: an interrupted run goes on with the same batches and so with the same bits. On a CPU the
    budget is a core's share of the cache, on a GPU what fills the device.
    """
    cuda = device.type == "cuda"
    smallest, greatest = _CUDA_SIZES if cuda else _CPU_SIZES
    fitting = int((CUDA_BYTES if cuda else CPU_BYTES) // max(cost.largest, 1.0))
    return max(smallest, min(greatest, 1 << max(fitting, 1).bit_length() - 1))
