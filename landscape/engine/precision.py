"""A module in another precision, complex tensors included."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
_COMPLEX = {torch.float64: torch.complex128, torch.float16: torch.complex32}


def in_precision(module: Module, device: torch.device | str, dtype: torch.dtype) -> Module:
    """Move a module, in place: real tensors in `dtype`, complex ones in the complex type of its precision.

    ``module.to(dtype)`` would drop the imaginary part of complex buffers, such as rotary embeddings'.
    """

    def move(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(device, _COMPLEX.get(dtype, torch.complex64))
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    module._apply(move)  # type: ignore[no-untyped-call]
    return module
