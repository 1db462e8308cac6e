"""How each operation passes labels of channels on; channels that meet an unknown one must stay."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from landscape.channels.labels import Labels
from landscape.channels.walk import Walk, describe

_EACH = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softsign, nn.LogSigmoid),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.LPPool2d, nn.Upsample),
    *(nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d),
)
"""Modules that treat every channel alike and apart."""

_EACH_NAMES = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "sigmoid_", "tanh", "tanh_", "clamp", "clamp_"),
    *("neg", "abs", "sqrt", "exp", "square", "dropout", "dropout2d", "dropout3d", "stochastic_depth"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_avg_pool3d", "interpolate", "contiguous", "clone", "float", "to", "detach"),
    *("add", "add_", "iadd", "sub", "sub_", "isub", "mul", "mul_", "imul", "multiply"),
    *("truediv", "div", "div_", "maximum", "minimum"),
)
_OVER_NAMES = ("mean", "sum", "amax", "amin")
_FACTS = ("dtype", "device", "layout", "ndim", "is_cuda", "requires_grad")
"""Attributes of a tensor that say nothing of its channels."""
_OWN = ("torch", "_operator", "torchvision")
"""Whose functions mean what their names say."""


def labels_after(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """The labels of a node's result; None where it has no channels or they aren't known."""
    rule = _module_rule(at, node) if node.op == "call_module" else _function_rule(node)
    if rule is None:
        return _unknown(at, node)
    return rule(at, node, result)


Rule = Callable[[Walk, fx.Node, Any], Labels | None]


def _unknown(at: Walk, node: fx.Node, why: str = "") -> Labels | None:
    """No labels come out, and what comes in must stay."""
    for one in node.all_input_nodes:
        at.hold(one, f"they go into {describe(node, at.module)}{why}")
    return None


def _module_rule(at: Walk, node: fx.Node) -> Rule | None:
    module = at.module.get_submodule(str(node.target))
    own = dict(module.named_parameters(recurse=False))
    if any(isinstance(getattr(module, key, None), Tensor) and key not in own for key in ("weight", "bias")):
        return None  # computed at every call, from tensors of other sizes
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return _depthwise if 1 < module.groups == module.in_channels == module.out_channels else _layer
    if isinstance(module, nn.Linear):
        return _layer
    if isinstance(module, _BatchNorm):
        return _norm
    if isinstance(module, nn.Flatten):
        return _flat
    return _each if isinstance(module, _EACH) else None


def _function_rule(node: fx.Node) -> Rule | None:
    target = node.target
    if node.op == "call_function":
        home = str(getattr(target, "__module__", "")).partition(".")[0]
        if target is getattr:
            return _attribute
        if target in _DISPATCHED:  # pools, whose own name says nothing
            return _each
        if home not in _OWN:
            return None
    name = str(getattr(target, "__name__", target))
    return _NAMED.get(name)


def _layer(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """A convolution or linear layer reads the channels that come in and makes its own."""
    name, module = str(node.target), at.module.get_submodule(str(node.target))
    source, grouped = _source(at, node), getattr(module, "groups", 1) > 1
    labels = at.of(source)
    assert isinstance(module.weight, Tensor)
    if labels is None or grouped or at.env[source].dim() != module.weight.dim():
        return _unknown(at, node, ", a grouped convolution" if grouped else "")
    made = at.found.atoms.new(result.shape[1])
    at.found.touch(name, module, labels, weight=("input", 1))
    at.found.touch(name, module, made, weight=("filter", 0), bias=("bias", 0))
    return made


def _depthwise(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    return _along(at, node, weight=("depthwise", 0), bias=("bias", 0))


def _norm(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    return _along(
        at,
        node,
        weight=("scale", 0),
        bias=("bias", 0),
        running_mean=("statistic", 0),
        running_var=("statistic", 0),
    )


def _along(at: Walk, node: fx.Node, **roles: Any) -> Labels | None:
    """The layer has a place for every channel and lets it pass."""
    labels, module = at.of(_source(at, node)), at.module.get_submodule(str(node.target))
    if labels is not None:
        at.found.touch(str(node.target), module, labels, **roles)
    return labels


def _each(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """Position by position: channels of several tensors belong together; a number changes nothing."""
    sides = at.tensors(node)
    labels = [at.of(one) for one in sides if at.env[one].dim()]
    fit = [one for one in labels if one is not None and _has(result, one)]
    alike = bool(fit) and all(at.env[one].dim() in (0, result.dim()) for one in sides)
    own = any(one.op == "get_attr" for one in sides)
    draws = node.kwargs.get("training") is True  # dropout in evaluation, too: numbers for so many channels
    if not alike or len(fit) < len(labels) or own or draws:
        return _unknown(at, node)
    for one, other in itertools.pairwise(fit):
        at.found.atoms.join(one, other)
    return fit[0]


def _over(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """A mean or the like over positions, not over channels or images."""
    source, dims = _source(at, node), _given(node, 1, "dim")
    labels = at.of(source)
    if labels is None or dims is None:
        return _unknown(at, node)
    axes = {one % at.env[source].dim() for one in ([dims] if isinstance(dims, int) else dims)}
    return labels if not axes & {0, 1} and _has(result, labels) else _unknown(at, node)


def _flat(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """(N, C, …) to (N, C·…): each channel becomes a run of positions."""
    source = _source(at, node)
    labels = at.of(source)
    runs = isinstance(result, Tensor) and result.dim() == 2
    if labels is None or not runs or len(result) != len(at.env[source]) or not _free(node):
        return _unknown(at, node)
    return np.repeat(labels, result.shape[1] // len(labels))


def _free(node: fx.Node) -> bool:
    """Whether a view names no number of channels, which would be wrong once there are fewer."""
    if node.op == "call_module" or str(getattr(node.target, "__name__", node.target)) == "flatten":
        return True
    sizes: Any = node.args[1:]
    sizes = sizes[0] if sizes and isinstance(sizes[0], tuple | list) else sizes
    return len(sizes) == 2 and type(sizes[1]) is int and sizes[1] == -1


def _cat(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    dim = _given(node, 1, "dim", 0)
    labels = [at.of(one) for one in _given(node, 0, "tensors")]
    if dim not in (1, 1 - result.dim()) or any(one is None for one in labels):
        return _unknown(at, node)
    return np.concatenate([one for one in labels if one is not None])


def _part(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """``x[:, :, ::2, ::2]`` leaves channels alone; an element of a list of sizes has none."""
    whole, index = at.tensors(node), node.args[1]
    if not whole:
        return None
    labels = at.of(_source(at, node))
    alone = isinstance(index, tuple) and index[:2] == (slice(None), slice(None))
    return labels if alone and _has(result, labels) else _unknown(at, node)


def _pad(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    labels = at.of(_source(at, node))
    return labels if _has(result, labels) else _unknown(at, node, " over channels")


def _attribute(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """``x.shape`` and the like; others (``x.data``, ``x.mT``) hand channels on, no rule says how."""
    if node.args[1] == "shape":
        return _sizes(at, node, result)
    return None if node.args[1] in _FACTS else _unknown(at, node)


def _sizes(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """Channels whose number the network uses must stay; other sizes may be picked without it."""
    source = _source(at, node)
    every = range(at.env[source].dim())
    if isinstance(result, int):
        picks = [(node, _given(node, 1, "dim"))]
    else:
        picks = [(one, one.args[1] if one.target is operator.getitem else None) for one in node.users]
    for one, index in picks:
        picked = every[index] if isinstance(index, int | slice) else every
        if (one.users or one.op == "output") and 1 in (picked if isinstance(picked, range) else (picked,)):
            at.hold(source, "the network computes with their number")
    return None


def _nothing(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """Nothing of channels."""
    return None


def _source(at: Walk, node: fx.Node) -> Any:
    """The node of the only tensor that goes in, by position or by keyword; None where there are several."""
    tensors = at.tensors(node)
    return tensors[0] if len(tensors) == 1 else None


def _given(node: fx.Node, place: int, key: str, default: Any = None) -> Any:
    """What a function was called with."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(key, default)


def _has(result: Any, labels: Labels | None) -> bool:
    """Whether a result has as many channels as there are labels."""
    return (
        isinstance(result, Tensor)
        and result.dim() >= 2
        and labels is not None
        and len(labels) == result.shape[1]
    )


_DISPATCHED = {F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool2d}
_NAMED: dict[str, Rule] = {
    **dict.fromkeys(_EACH_NAMES, _each),
    **dict.fromkeys(_OVER_NAMES, _over),
    **dict.fromkeys(("flatten", "view", "reshape"), _flat),
    "size": _sizes,
    "dim": _nothing,
    "cat": _cat,
    "concat": _cat,
    "getitem": _part,
    "pad": _pad,
    "_pad": _pad,
}
