"""Operations in a form whose second derivative is fast.

The Hessian product differentiates the gradient. PyTorch's own second derivative of a convolution computes the
weight's part by a convolution whose kernel is as large as the image, for which CPU libraries have no fast
code; and that of a batch norm in evaluation mode takes a dozen passes over the activations, although it is
an affine map per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS: Mapping[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class FastTwice(TorchFunctionMode):
    """While active in a thread, convolutions and fixed batch norms are computed by the functions below."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call of a torch function."""
        if func in _CONVOLUTIONS:
            return convolution(*args, dims=_CONVOLUTIONS[func], function=func, **(kwargs or {}))
        if func is F.batch_norm:
            return batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm; with fixed statistics as the affine map ``x · scale + shift`` that it is."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x * scale.view(shape) + shift.view(shape)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    dims: int,
    function: Callable[..., Tensor],
) -> Tensor:
    """Convolution with a first derivative that differentiates itself by ordinary convolutions."""
    if isinstance(padding, str) or x.dim() != dims + 2:
        return function(x, weight, bias, stride, padding, dilation, groups)
    settings = (_per_axis(stride, dims), _per_axis(padding, dims), _per_axis(dilation, dims), groups)
    result: Tensor = _Convolution.apply(x, weight, bias, settings)
    return result


_Settings = tuple[list[int], list[int], list[int], int]


def _per_axis(value: Any, dims: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
    stride, padding, dilation, groups = settings
    result: Tensor = torch.ops.aten.convolution(
        x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )
    return result


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, settings: _Settings, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Derivatives by input, weight and bias, None where not wanted."""
    stride, padding, dilation, groups = settings
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        [weight.shape[0]],
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        groups,
        list(wanted),
    )
    return found


class _Convolution(torch.autograd.Function):
    """``y = x * w + b``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.has_bias = settings, bias is not None
        return _convolve(x, weight, bias, settings)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        wanted = (*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2])
        x, weight = ctx.saved_tensors
        return (*_Gradient.apply(grad, x, weight, ctx.settings, wanted), None)


class _Gradient(torch.autograd.Function):
    """Its derivatives ``(convT(g, w), corr(x, g), Σ g)``, each bilinear in two of g, x and w."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, settings: _Settings, wanted: Sequence[bool]
    ) -> Any:
        ctx.save_for_backward(grad, x, weight)
        ctx.set_materialize_grads(False)
        ctx.settings = settings
        return _backward(grad, x, weight, settings, wanted)

    @staticmethod
    def backward(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None) -> Any:
        grad, x, weight = ctx.saved_tensors
        settings = ctx.settings
        need_grad, need_x, need_weight = ctx.needs_input_grad[:3]
        for_grad = for_x = for_weight = None
        if need_grad:
            if by_weight is not None:
                for_grad = _convolve(x, by_weight, by_bias, settings)
            elif by_bias is not None:
                for_grad = by_bias.view(1, -1, *[1] * (grad.dim() - 2)).expand_as(grad)
            if by_x is not None:
                more = _convolve(by_x, weight, None, settings)
                for_grad = more if for_grad is None else for_grad + more
        if need_x and by_weight is not None:
            for_x = _backward(grad, x, by_weight, settings, (True, False, False))[0]
        if need_weight and by_x is not None:
            for_weight = _backward(grad, by_x, weight, settings, (False, True, False))[1]
        return for_grad, for_x, for_weight, None, None
