"""Tensors of another size in a network's layers, and the layers' own numbers made to agree with them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


def set_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace parameters and buffers by others of any size, in place; parameters stay parameters."""
    for name, value in tensors.items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        before = getattr(module, key)
        if isinstance(before, nn.Parameter):
            value = nn.Parameter(value, requires_grad=before.requires_grad)
        setattr(module, key, value)
    for owner in {name.rpartition(".")[0] for name in tensors}:
        _agree(model.get_submodule(owner))


def resize(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give tensors of a network other shapes, in place; their values are to be loaded."""
    state = model.state_dict()
    set_tensors(model, {name: state[name].new_empty(shape) for name, shape in shapes.items()})


def _agree(module: nn.Module) -> None:
    """Set what a layer says of its size by its weight, or by its statistics where it has none."""
    if isinstance(module, _ConvNd):
        depthwise = 1 < module.groups == module.in_channels == module.out_channels
        module.out_channels = len(module.weight)
        if depthwise:
            module.groups = len(module.weight)
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm):
        sized = module.weight if module.affine else module.running_mean
        module.num_features = module.num_features if sized is None else len(sized)
