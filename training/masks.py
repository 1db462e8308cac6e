"""Masks over the prunable weights: a dict of bool tensors, True = kept.

Prunable are the weights of all convolutions and linear layers, the first and the last included; biases and
normalization layers never are. Sparsity is the pruned share of the prunable weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

Mask = dict[str, Tensor]

_PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The prunable weights by name, in the order of ``model.named_parameters()``."""
    names = {
        f"{prefix}.weight" if prefix else "weight"
        for prefix, module in model.named_modules()
        if isinstance(module, _PRUNABLE)
    }
    return {name: parameter for name, parameter in model.named_parameters() if name in names}


def kept(mask: Mapping[str, Tensor]) -> int:
    """Number of kept weights."""
    return sum(int(part.sum()) for part in mask.values())


def sparsity(mask: Mapping[str, Tensor]) -> float:
    """Pruned share of the masked tensors' weights; 0 for an empty mask."""
    total = sum(part.numel() for part in mask.values())
    return 1 - kept(mask) / total if total else 0.0


def check(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the mask is bool, fits the model and touches prunable weights only."""
    weights = prunable(model)
    for name, part in mask.items():
        if name not in weights:
            raise ValueError(f"mask of {name}: not a prunable weight of this model")
        if part.dtype != torch.bool or part.shape != weights[name].shape:
            raise ValueError(
                f"mask of {name}: {part.dtype} {tuple(part.shape)}, expected bool of the weight's shape"
            )


@torch.no_grad()
def apply_to_weights(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Set every pruned weight to exactly +0, NaN and infinities included."""
    weights = dict(model.named_parameters())
    for name, part in mask.items():
        weights[name].masked_fill_(~part, 0)


@torch.no_grad()
def apply_to_gradients(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Set the gradient of every pruned weight to exactly 0."""
    weights = dict(model.named_parameters())
    for name, part in mask.items():
        gradient = weights[name].grad
        if gradient is not None:
            gradient.masked_fill_(~part, 0)


@torch.no_grad()
def apply_to_state(optimizer: torch.optim.Optimizer, model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Zero the pruned positions of every per-weight state of the optimizer, momentum for one.

    A weight that is dropped and grown again later then starts without history.
    """
    weights = dict(model.named_parameters())
    for name, part in mask.items():
        for value in _tensors(optimizer.state.get(weights[name], {}).values()):
            if value.shape == part.shape:
                value.masked_fill_(~part, 0)


def _tensors(values: Iterable[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]
