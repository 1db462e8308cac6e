"""cuDNN's fused convolutions as the pretended GPU has them: the same sums on the CPU, the same refusals.

As in PyTorch's `ConvShared.cpp`: sums and ReLU are computed in float32 and rounded once, the result is new
memory in the layout of input or weight, and nothing follows `torch.backends.cudnn.deterministic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

ANSWERS: dict[str, Callable[[], Any]] = {"is_available": lambda: True, "version": lambda: 90000}
_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """``relu(conv(x) + bias)``."""
    return _computed(x, weight, None, bias, *settings)


def convolution_add_relu(
    x: Tensor, weight: Tensor, z: Tensor, alpha: float | None, bias: Tensor | None, *settings: Any
) -> Tensor:
    """``relu(conv(x) + alpha z + bias)``."""
    return _computed(x, weight, z.float() * (1.0 if alpha is None else alpha), bias, *settings, added=z)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "cudnn_convolution_relu": convolution_relu,
    "cudnn_convolution_add_relu": convolution_add_relu,
}


def _computed(
    x: Tensor,
    weight: Tensor,
    scaled: Tensor | None,
    bias: Tensor | None,
    *settings: Any,
    added: Tensor | None = None,
) -> Tensor:
    stride, padding, dilation, groups = settings
    _check_one_type(x, weight, bias, added)
    _check_settings(x, weight, bias, stride, padding, dilation)
    total = F.conv2d(
        x.float(), weight.float(), None if bias is None else bias.float(), stride, padding, dilation, groups
    )
    if added is not None and scaled is not None:
        if added.shape != total.shape:
            raise RuntimeError(f"cuDNN: z is {list(added.shape)}, the output {list(total.shape)}")
        total = total + scaled
    last = any(one.is_contiguous(memory_format=torch.channels_last) for one in (x, weight))
    layout = torch.channels_last if last else torch.contiguous_format
    return F.relu(total).to(x.dtype).contiguous(memory_format=layout)


def _check_one_type(*tensors: Tensor | None) -> None:
    types = {one.dtype for one in tensors if one is not None}
    if len(types) != 1 or not types <= set(_TYPES):
        raise RuntimeError(f"cuDNN: no engine for {sorted(map(str, types))}")


def _check_settings(x: Tensor, weight: Tensor, bias: Tensor | None, *pairs: Sequence[int]) -> None:
    if x.dim() != 4 or weight.dim() != 4:
        raise RuntimeError(f"cuDNN: input and weight of {x.dim()} and {weight.dim()} dimensions, not 4")
    if any(isinstance(one, str) or len(one) != 2 for one in pairs):
        raise RuntimeError(f"cuDNN: two numbers each for stride, padding and dilation, not {pairs}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"cuDNN: bias is {list(bias.shape)}, for {weight.shape[0]} channels")
