"""Convolution, bias, residual addition and ReLU as one oneDNN operation each, for a folded network on a CPU.

The operations are the ones that PyTorch's own compiler calls (``torch.ops.mkldnn``), here without needing a
C++ compiler. Weights are brought into oneDNN's layout once per point. A residual sum is written into the
shortcut's memory where nothing else reads it any more, which saves a pass through the cache.
"""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from landscape.engine import narrow_cpu
from landscape.engine.fold import FoldedConv, FoldedNet

_ADD = (operator.add, operator.iadd, torch.add)
_RELU = (F.relu, torch.relu, torch.relu_)


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
    net
        Folded; its weights must hold numbers (one `refresh`), for shapes are found by running it.
    example
        A batch of inputs, channels-last.
    batch_size
        The usual one, for which the weights' layout is chosen.
    """
    with torch.no_grad():
        _Forms(net.module).run(example)
    fused = sum(_fuse(net.module, conv, example.dtype, batch_size) for conv in net.convolutions)
    net.module.graph.lint()
    net.module.recompile()
    return fused


def _fuse(module: fx.GraphModule, conv: FoldedConv, dtype: torch.dtype, batch_size: int) -> bool:
    first = conv.node
    if first.target is not F.conv2d or isinstance(conv.conv.padding, str):
        return False
    addition, other = _addition_after(first)
    relu = _relu_after(module, addition or first)
    end = relu or addition or first
    shape = _input_shape(first)
    narrow = narrow_cpu.applies(conv.conv, shape, dtype)
    conv.pack = _packing(conv, dtype, [batch_size, *shape], narrow)
    with module.graph.inserting_before(end):
        conv.node = _call(module.graph, first, other, end, relu is not None, narrow)
    conv.node.meta = dict(end.meta)
    end.replace_all_uses_with(conv.node)
    for node in (relu, addition, first):
        if node is not None:
            module.graph.erase_node(node)
    return True


def _call(
    graph: fx.Graph, first: fx.Node, other: fx.Node | None, end: fx.Node, relu: bool, narrow: bool
) -> fx.Node:
    x, weight, bias, stride, padding, dilation, groups = first.args
    settings = (weight, bias, padding, (1, 2) if narrow else stride, dilation, groups)
    plain, added, added_in_place = _steps(narrow)
    if other is None:
        return graph.call_function(plain, (x, *settings, "relu" if relu else "none", [], ""))
    tail: tuple[Any, ...] = (*settings, "add", None, "relu" if relu else None, [], None)
    if _may_overwrite(other, first, end):
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


def _addition_after(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The sum that alone reads `node`, and its other operand, if both have one shape and type."""
    user = _only_user(node)
    if user is None or user.kwargs or len(user.args) != 2:
        return None, None
    if user.target not in _ADD and not (user.op == "call_method" and user.target in ("add", "add_")):
        return None, None
    other = user.args[1] if user.args[0] is node else user.args[0]
    if not isinstance(other, fx.Node) or other is node or not _same(other, node):
        return None, None
    return user, other


def _relu_after(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The ReLU that alone reads `node`."""
    user = _only_user(node)
    if user is None or not user.args or user.args[0] is not node:
        return None
    if user.op == "call_module":
        return user if type(module.get_submodule(str(user.target))) is nn.ReLU else None
    return user if user.target in _RELU or user.target in ("relu", "relu_") else None


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


def _input_shape(conv: fx.Node) -> tuple[int, ...]:
    x = conv.args[0]
    assert isinstance(x, fx.Node)
    return tuple(x.meta["form"][0][1:])


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _same(a: fx.Node, b: fx.Node) -> bool:
    return "form" in a.meta and a.meta["form"] == b.meta.get("form")


class _Forms(fx.Interpreter):
    """Notes the shape and type of every tensor; PyTorch's ShapeProp does so too, but imports sympy."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["form"] = (tuple(result.shape), result.dtype)
        return result
