"""Convolution, bias, residual addition and ReLU as one oneDNN operation each, for a folded network on a CPU.

The operations are the ones that PyTorch's own compiler calls (``torch.ops.mkldnn``), here without needing a
C++ compiler. Weights are brought into oneDNN's layout once per point. A residual sum is written into the
shortcut's memory where nothing else reads it any more, which saves a pass through the cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx

from landscape.engine import narrow_cpu
from landscape.engine.fold import FoldedConv, FoldedNet
from landscape.engine.fuse_chains import Chain, fuse_chains, shape_of


def available(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch on this machine has the operations for `dtype`."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        _operations()
        return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:
        return False


@cache
def _operations() -> tuple[Any, Any, Any, Any]:
    """Plain, added out of place, added in place, and the one that lays out weights."""
    ops = torch.ops.mkldnn
    plain = ops._convolution_pointwise
    return (
        plain.default,
        plain.binary,
        ops._convolution_pointwise_.binary,
        ops._reorder_convolution_weight.default,
    )


def fuse(net: FoldedNet, example: Tensor, batch_size: int) -> int:
    """Fuse what can be fused, in place; return the number of fused convolutions.

    Parameters
    ----------
    net, example
        See `landscape.engine.fuse_chains.fuse_chains`.
    batch_size
        The usual one, for which the weights' layout is chosen.
    """

    def call(graph: fx.Graph, conv: FoldedConv, chain: Chain) -> fx.Node:
        shape = shape_of(chain.first.args[0])[1:]
        narrow = narrow_cpu.applies(conv.conv, shape, example.dtype)
        conv.pack = _packing(conv, example.dtype, [batch_size, *shape], narrow)
        return _call(graph, chain, narrow)

    return fuse_chains(net, example, call)


def _call(graph: fx.Graph, chain: Chain, narrow: bool) -> fx.Node:
    x, weight, bias, stride, padding, dilation, groups = chain.first.args
    settings = (weight, bias, padding, (1, 2) if narrow else stride, dilation, groups)
    plain, added, added_in_place = _steps(narrow)
    other, relu = chain.other, chain.relu is not None
    if other is None:
        return graph.call_function(plain, (x, *settings, "relu" if relu else "none", [], ""))
    tail: tuple[Any, ...] = (*settings, "add", None, "relu" if relu else None, [], None)
    if _may_overwrite(other, chain.first, chain.end):
        return graph.call_function(added_in_place, (other, x, *tail))
    return graph.call_function(added, (x, other, *tail))


def _steps(narrow: bool) -> tuple[Any, Any, Any]:
    return (_narrow, _narrow_added, _narrow_added_in_place) if narrow else _operations()[:3]


def _narrow(x: Tensor, *settings: Any) -> Tensor:
    if x.shape[-1] % 2:  # batches needn't all be of the first one's size
        return narrow_cpu.without_column(_narrow(narrow_cpu.with_column(x), *settings))
    return narrow_cpu.apart(_operations()[0](x, *settings))


def _narrow_added(x: Tensor, other: Tensor, *settings: Any) -> Tensor:
    if x.shape[-1] % 2:
        even = _narrow_added(narrow_cpu.with_column(x), narrow_cpu.with_column(other), *settings)
        return narrow_cpu.without_column(even)
    return narrow_cpu.apart(_operations()[1](x, narrow_cpu.in_pairs(other), *settings))


def _narrow_added_in_place(other: Tensor, x: Tensor, *settings: Any) -> Tensor:
    if x.shape[-1] % 2:
        return _narrow_added(x, other, *settings)
    return narrow_cpu.apart(_operations()[2](narrow_cpu.in_pairs(other), x, *settings))


def _packing(conv: FoldedConv, dtype: torch.dtype, input_size: list[int], narrow: bool) -> Any:
    one, reorder = conv.conv, _operations()[3]
    stride = (1, 2) if narrow else one.stride

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if narrow:
            weight, bias = narrow_cpu.widened(weight, bias)
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        packed = reorder(weight, one.padding, stride, one.dilation, one.groups, input_size)
        return packed, None if bias is None else bias.to(dtype)

    return pack


def _may_overwrite(other: fx.Node, first: fx.Node, end: fx.Node) -> bool:
    """Whether the sum may be written into the memory of its other operand.

    That memory must have been made by an operation of ours or by padding (never an input, never a view), and
    all its other readers must be convolutions, which keep no view of it, that ran before.
    """
    convolutions = (F.conv2d, *_steps(False), *_steps(True))
    if other.target not in (*convolutions, F.pad) or other is first.args[0]:
        return False
    place = {node: number for number, node in enumerate(end.graph.nodes)}
    others = [user for user in other.users if user not in (end, *first.users)]
    return all(user.target in convolutions and place[user] < place[end] for user in others)
