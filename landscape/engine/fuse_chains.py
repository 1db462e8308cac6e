"""A convolution with the sum and the ReLU that follow it, found in a folded network and replaced by one call.

What the call is, and which of these chains it can do, is the device's matter: see `fuse_cpu` and `fuse_cuda`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from landscape.engine.fold import FoldedConv, FoldedNet

_ADD = (operator.add, operator.iadd, torch.add)
_RELU = (F.relu, torch.relu, torch.relu_)


@dataclass(frozen=True)
class Chain:
    """``relu(convolution + other)``, or as much of it as is there; nothing else reads what is in between.

    Attributes
    ----------
    first
        The call of the convolution.
    addition, other
        The sum, and the operand that isn't the convolution, of its shape and type.
    relu
        The ReLU of the sum, or of the convolution where there is none.
    """

    first: fx.Node
    addition: fx.Node | None
    other: fx.Node | None
    relu: fx.Node | None

    @property
    def end(self) -> fx.Node:
        """The node whose result is the chain's."""
        return self.relu or self.addition or self.first


OneCall = Callable[[fx.Graph, FoldedConv, Chain], fx.Node | None]
"""Makes the one call for a chain; None, and no node, where the device has none for it."""


def fuse_chains(net: FoldedNet, example: Tensor, call: OneCall) -> int:
    """Replace what can be replaced, in place; return the number of fused convolutions.

    Parameters
    ----------
    net
        Folded; its weights must hold numbers (one `refresh`), for shapes are found by running it.
    example
        A batch of inputs, channels-last.
    call
        What the device makes of a chain.
    """
    with torch.no_grad():
        _Forms(net.module).run(example)
    fused = sum(_fuse(net.module, conv, call) for conv in net.convolutions)
    net.module.graph.lint()
    net.module.recompile()
    return fused


def shape_of(node: Any) -> tuple[int, ...]:
    """Of a tensor of the graph, as it was for the example."""
    assert isinstance(node, fx.Node)
    return tuple(node.meta["form"][0])


def _fuse(module: fx.GraphModule, conv: FoldedConv, call: OneCall) -> bool:
    first = conv.node
    if first.target is not F.conv2d or isinstance(conv.conv.padding, str):
        return False
    addition, other = _addition_after(first)
    chain = Chain(first, addition, other, _relu_after(module, addition or first))
    with module.graph.inserting_before(chain.end):
        fused = call(module.graph, conv, chain)
    if fused is None:
        return False
    conv.node = fused
    fused.meta = dict(chain.end.meta)
    chain.end.replace_all_uses_with(fused)
    for node in (chain.relu, addition, first):
        if node is not None:
            module.graph.erase_node(node)
    return True


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
