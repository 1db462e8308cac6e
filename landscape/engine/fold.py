"""Batch norm folded into the convolutions before it, anew at every point.

In evaluation mode batch norm is an affine map per channel, so ``norm(conv(x))`` is one convolution with other
weights (Jacob et al., "Quantization and training of neural networks", 2018, section 3.2). The network is
traced with `torch.fx`; every convolution becomes a function of two tensors that `FoldedNet.refresh` computes
from the module's present parameters, which a direction may move all together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.engine.tracing import trace

FUNCTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


class CannotFold(Exception):  # noqa: N818
    """The network has to be evaluated as it is; the text says why."""


@dataclass
class FoldedConv:
    """One convolution of the folded graph.

    Attributes
    ----------
    conv, norm
        The modules whose present parameters it is computed from; `norm` is None where none follows.
    weight, bias
        Names of its tensors in the graph module.
    node
        The call in the graph.
    pack
        What is done to weight and bias before they are stored, where a backend wants its own layout.
    """

    conv: nn.Conv2d
    norm: _BatchNorm | None
    weight: str
    bias: str | None
    node: fx.Node
    pack: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]] | None = None

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the one convolution that does the work of both."""
        weight, bias = self.conv.weight.detach(), self.conv.bias
        norm = self.norm
        if norm is None:
            return weight, None if bias is None else bias.detach()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        shift = -norm.running_mean if bias is None else bias.detach() - norm.running_mean
        shift = shift * scale
        if norm.bias is not None:
            shift = shift + norm.bias.detach()
        return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift


class FoldedNet:
    """A traced network whose convolutions hold folded weights.

    Attributes
    ----------
    module
        The graph module; it shares all other submodules with the network it came from.
    convolutions
        In the order of the graph.
    """

    def __init__(self, module: fx.GraphModule, convolutions: list[FoldedConv]) -> None:
        self.module = module
        self.convolutions = convolutions

    @property
    def norms(self) -> int:
        """How many batch norms are folded."""
        return sum(conv.norm is not None for conv in self.convolutions)

    def __call__(self, x: Tensor) -> Any:
        """The network's output, without the overhead of hooks."""
        return self.module.forward(x)

    def refresh(self) -> None:
        """Recompute the convolutions from the parameters that the network has now."""
        for conv in self.convolutions:
            weight, bias = conv.parameters()
            packed = (weight, bias) if conv.pack is None else conv.pack(weight, bias)
            for name, value in zip((conv.weight, conv.bias), packed, strict=True):
                if name is None or value is None:
                    continue
                if conv.pack is None:
                    self._tensor(name).copy_(value)
                else:
                    setattr(self.module, name, value)

    def _tensor(self, name: str) -> Tensor:
        tensor = getattr(self.module, name)
        assert isinstance(tensor, Tensor)
        return tensor


def fold(network: nn.Module, source: nn.Module) -> FoldedNet:
    """Trace `network` and fold its batch norms.

    Parameters
    ----------
    network
        In evaluation mode; stays as it is, and shares its other submodules with the result.
    source
        A module of the same structure whose parameters are folded: `network` itself, or its counterpart in
        higher precision.

    Raises
    ------
    CannotFold
        When it can't be traced, takes more than one input, or holds no convolution that could be replaced.
    """
    try:
        module = trace(network, to_run=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotFold(f"it can't be traced: {lines[0][:200]}") from error
    if sum(node.op == "placeholder" for node in module.graph.nodes) != 1:
        raise CannotFold("it takes more than one input")
    convolutions = [
        _replace(module, node, source) for node in list(module.graph.nodes) if _is_plain_conv(module, node)
    ]
    if not convolutions:
        raise CannotFold("it holds no plain convolution")
    module.graph.lint()
    module.recompile()
    return FoldedNet(module, convolutions)


def _is_plain_conv(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node does nothing but convolve: no subclass, no hooks, zeros as padding."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return False
    conv = module.get_submodule(str(node.target))
    return type(conv) in FUNCTIONS and conv.padding_mode == "zeros" and not _has_hooks(conv)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _replace(module: fx.GraphModule, node: fx.Node, source: nn.Module) -> FoldedConv:
    """Put a function call with its own tensors in the place of a convolution and the batch norm after it."""
    conv = source.get_submodule(str(node.target))
    present = module.get_submodule(str(node.target))
    assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    norm_node = _norm_after(module, node)
    norm = None if norm_node is None else source.get_submodule(str(norm_node.target))
    assert norm is None or isinstance(norm, _BatchNorm)
    name = f"_folded_{node.name}"
    layout = torch.channels_last if conv.weight.dim() == 4 else torch.contiguous_format
    like = present.weight
    assert isinstance(like, Tensor)
    module.register_buffer(f"{name}_weight", torch.zeros_like(like, memory_format=layout))
    has_bias = norm is not None or conv.bias is not None
    if has_bias:
        module.register_buffer(f"{name}_bias", like.new_zeros(conv.out_channels))
    graph = module.graph
    with graph.inserting_before(node):
        weight = graph.get_attr(f"{name}_weight")
        bias = graph.get_attr(f"{name}_bias") if has_bias else None
        settings = (conv.stride, conv.padding, conv.dilation, conv.groups)
        call = graph.call_function(FUNCTIONS[type(conv)], (node.args[0], weight, bias, *settings))
    for replaced in (norm_node, node):
        if replaced is not None:
            replaced.replace_all_uses_with(call)
            graph.erase_node(replaced)
    return FoldedConv(conv, norm, f"{name}_weight", f"{name}_bias" if has_bias else None, call)  # type: ignore[arg-type]


def _norm_after(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The batch norm that alone reads this node's output, if its running statistics are fixed."""
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module" or users[0].args != (node,) or users[0].kwargs:
        return None
    norm = module.get_submodule(str(users[0].target))
    fixed = isinstance(norm, _BatchNorm) and norm.running_mean is not None and not norm.training
    return users[0] if fixed and not _has_hooks(norm) else None
