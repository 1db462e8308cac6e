"""What one example costs, and the batch size that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CPU_BYTES = 4 << 20
CUDA_BYTES = 256 << 20
_CPU_SIZES = (8, 256)
_CUDA_SIZES = (1, 4096)
_UNKNOWN_LARGEST = 1 << 16  # where no layer could be observed: 64 KiB, as a narrow residual network on CIFAR


@dataclass
class Cost:
    """Of a forward pass.

    Attributes
    ----------
    flops
        Of convolutions and linear layers, two per multiply-add; 0 where none was seen.
    largest
        Bytes of the largest output of a layer; 0 where none was seen.
    """

    flops: float = 0.0
    largest: float = 0.0

    def _see(self, layer: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        self.largest = max(self.largest, output.numel() * output.element_size())
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            self.flops += 2.0 * output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            self.flops += 2.0 * output.numel() * layer.in_features


def measure(run: Callable[[], object], module: nn.Module, examples: int) -> Cost:
    """Cost per example of `run`, which calls `module` on `examples` of them."""
    cost = Cost()
    # Hooks, not a dispatch mode: PyTorch's flop counter imports its compiler, which takes seconds.
    layers = [] if isinstance(module, torch.jit.ScriptModule) else list(module.modules())
    handles = [layer.register_forward_hook(cost._see) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return Cost(cost.flops / examples, cost.largest / examples)


def choose_batch_size(cost: Cost, device: torch.device) -> int:
    """A power of two whose largest activation just fits a fixed budget; a function of the network alone.

    Not of timings: an interrupted run goes on with the same batches and so with the same bits. On a CPU the
    budget is a core's share of the cache, on a GPU what fills the device.
    """
    cuda = device.type == "cuda"
    smallest, greatest = _CUDA_SIZES if cuda else _CPU_SIZES
    fitting = int((CUDA_BYTES if cuda else CPU_BYTES) // (cost.largest or _UNKNOWN_LARGEST))
    return max(smallest, min(greatest, 1 << max(fitting, 1).bit_length() - 1))
