"""How each operation passes labels of channels on; channels that meet an unknown one must stay."""

from __future__ import annotations

import itertools
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
)
_PAIR_NAMES = (
    *("add", "add_", "iadd", "sub", "sub_", "isub", "mul", "mul_", "imul", "multiply"),
    *("truediv", "div", "div_", "maximum", "minimum"),
)
_OVER_NAMES = ("mean", "sum", "amax", "amin")
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
    if hasattr(module, "parametrizations"):
        return None
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
            return _nothing
        if target in _DISPATCHED:  # pools, whose own name says nothing
            return _each
        if home not in _OWN:
            return None
    name = str(getattr(target, "__name__", target))
    return _NAMED.get(name)


def _layer(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """A convolution or linear layer reads the channels that come in and makes its own."""
    name, module = str(node.target), at.module.get_submodule(str(node.target))
    source: Any = node.args[0] if node.args else None
    labels, grouped = at.of(source), getattr(module, "groups", 1) > 1
    flat = not isinstance(module, nn.Linear) or at.env[source].dim() == 2
    if labels is None or grouped or not flat:
        return _unknown(at, node, ", a grouped convolution" if grouped else "")
    found = at.found
    if name in found.made:  # called before: the same channels meet it again
        before, made = found.made[name]
        found.atoms.join(before, labels)
        return made
    made = found.atoms.new(result.shape[1])
    found.made[name] = labels, made
    found.touch(name, module, labels, weight=("input", 1))
    found.touch(name, module, made, weight=("filter", 0), bias=("bias", 0))
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
    labels, module = at.of(node.args[0]), at.module.get_submodule(str(node.target))
    if labels is not None:
        at.found.touch(str(node.target), module, labels, **roles)
    return labels


def _each(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    labels = at.of(node.args[0] if node.args else node.all_input_nodes[0])
    return labels if _has(result, labels) else _unknown(at, node)


def _pair(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """Two tensors position by position: their channels belong together; a number changes nothing."""
    sides = [one for one in node.args[:2] if isinstance(one, fx.Node) and isinstance(at.env[one], Tensor)]
    labels = [at.of(one) for one in sides if at.env[one].dim()]
    fit = [one for one in labels if one is not None and _has(result, one)]
    alike = all(at.env[one].dim() in (0, result.dim()) for one in sides)
    if not fit or not alike or len(fit) < len(labels) or any(one.op == "get_attr" for one in sides):
        return _unknown(at, node)
    for one, other in itertools.pairwise(fit):
        at.found.atoms.join(one, other)
    return fit[0]


def _over(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """A mean or the like over positions, not over channels or images."""
    source: Any = node.args[0]
    dims: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    labels = at.of(source)
    if labels is None or dims is None:
        return _unknown(at, node)
    axes = {one % at.env[source].dim() for one in ([dims] if isinstance(dims, int) else dims)}
    return labels if not axes & {0, 1} and _has(result, labels) else _unknown(at, node)


def _flat(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """(N, C, …) to (N, C·…): each channel becomes a run of positions."""
    source: Any = node.args[0]
    labels, value = at.of(source), at.env[source]
    fits = (
        labels is not None and isinstance(result, Tensor) and result.dim() == 2 and len(result) == len(value)
    )
    if not fits or not _free(node):
        return _unknown(at, node)
    assert labels is not None
    return np.repeat(labels, result.shape[1] // len(labels))


def _free(node: fx.Node) -> bool:
    """Whether a view names no number of channels, which would be wrong once there are fewer."""
    if node.op == "call_module" or str(getattr(node.target, "__name__", node.target)) == "flatten":
        return True
    sizes: Any = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
    return len(sizes) == 2 and type(sizes[1]) is int and sizes[1] == -1


def _cat(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    parts: Any = node.args[0]
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    labels = [at.of(one) for one in parts]
    if dim not in (1, 1 - result.dim()) or any(one is None for one in labels):
        return _unknown(at, node)
    return np.concatenate([one for one in labels if one is not None])


def _part(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """``x[:, :, ::2, ::2]`` leaves channels alone; an element of a list of sizes has none."""
    source, index = node.args
    if not isinstance(at.env.get(source), Tensor):  # type: ignore[arg-type]
        return None
    whole = isinstance(index, tuple) and index[:2] == (slice(None), slice(None))
    return at.of(source) if whole and _has(result, at.of(source)) else _unknown(at, node)


def _pad(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    labels = at.of(node.args[0])
    return labels if _has(result, labels) else _unknown(at, node, " over channels")


def _nothing(at: Walk, node: fx.Node, result: Any) -> Labels | None:
    """Sizes and the like: no channels."""
    return None


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
    **dict.fromkeys(_PAIR_NAMES, _pair),
    **dict.fromkeys(_OVER_NAMES, _over),
    **dict.fromkeys(("flatten", "view", "reshape"), _flat),
    **dict.fromkeys(("size", "dim"), _nothing),
    "cat": _cat,
    "concat": _cat,
    "getitem": _part,
    "pad": _pad,
    "_pad": _pad,
}
