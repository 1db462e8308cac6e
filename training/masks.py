"""Masks over the prunable weights: a dict of bool tensors, True = kept.

Prunable are the weights of all convolutions and linear layers, the first and the last included; biases and
normalization layers never are. Sparsity is the pruned share of the prunable weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from landscape.errors import UserError

Mask = dict[str, Tensor]
Layer = Literal["published", "none", "first", "last", "shortcut"]

_PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def chosen_layers(layers: Collection[Layer]) -> tuple[Layer, ...]:
    """Each once, in the order first, last, shortcut; "none" stands for no layer.

    Raises
    ------
    UserError
        When "none", or "published", which is nobody's layer, stands beside others.

    >>> chosen_layers(["shortcut", "first", "first"]), chosen_layers(["none"])
    (('first', 'shortcut'), ())
    """
    for alone in ("none", "published"):
        if alone in layers and set(layers) != {alone}:
            raise UserError(f"keep-dense {' '.join(layers)}: {alone} goes with no other layer; leave it out")
    return tuple(layer for layer in get_args(Layer) if layer in layers and layer not in ("none", "published"))


def prunable(model: nn.Module, but: Collection[Layer] = ()) -> dict[str, nn.Parameter]:
    """The prunable weights by name, in the order of ``model.named_parameters()``.

    Parameters
    ----------
    but
        Layers to leave out: the "first" one, the "last" one, and those on a "shortcut" (a module with that
        name, or ``downsample`` as torchvision calls it).
    """
    names = {
        f"{prefix}.weight" if prefix else "weight"
        for prefix, module in model.named_modules()
        if isinstance(module, _PRUNABLE)
    }
    found = {name: parameter for name, parameter in model.named_parameters() if name in names}
    order = list(found)
    left_out = {name for name in order[:1] if "first" in but} | {name for name in order[-1:] if "last" in but}
    if "shortcut" in but:
        left_out |= {name for name in order if {"shortcut", "downsample"} & set(name.split("."))}
    return {name: parameter for name, parameter in found.items() if name not in left_out}


def kept(mask: Mapping[str, Tensor]) -> int:
    """Number of kept weights."""
    return sum(int(part.sum()) for part in mask.values())


def sparsity(mask: Mapping[str, Tensor]) -> float:
    """Pruned share of the masked tensors' weights; 0 for an empty mask."""
    total = sum(part.numel() for part in mask.values())
    return 1 - kept(mask) / total if total else 0.0


def empty_layers(mask: Mapping[str, Tensor]) -> list[str]:
    """Names of the masked tensors in which no weight is kept."""
    return [name for name, part in mask.items() if not bool(part.any())]


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


class AppliedMask:
    """A mask bound to a model's weights: what runs in every step, without looking anything up again.

    `beside` is the same of parameters that have no mask of their own, such as batch norm's of lost channels.
    """

    def __init__(
        self, model: nn.Module, mask: Mapping[str, Tensor], beside: Mapping[str, Tensor] | None = None
    ) -> None:
        self.mask, self.beside = dict(mask), dict(beside or {})
        self._pruned = [(model.get_parameter(name), ~part) for name, part in self.whole.items()]

    @property
    def whole(self) -> Mask:
        """The mask and what stands beside it."""
        return self.mask | self.beside

    @torch.no_grad()
    def to_weights(self) -> None:
        """Set every pruned weight to exactly +0, NaN and infinities included."""
        for weight, pruned in self._pruned:
            weight.masked_fill_(pruned, 0)

    @torch.no_grad()
    def to_gradients(self) -> None:
        """Set the gradient of every pruned weight to exactly 0."""
        for weight, pruned in self._pruned:
            if weight.grad is not None:
                weight.grad.masked_fill_(pruned, 0)


def apply_to_weights(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """`AppliedMask.to_weights`, once."""
    AppliedMask(model, mask).to_weights()


@torch.no_grad()
def apply_to_state(optimizer: torch.optim.Optimizer, model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Zero the pruned positions of every per-weight state: momentum, and what a wrapped optimizer adds.

    A weight that is dropped and grown again later then starts without history.
    """
    weights = dict(model.named_parameters())
    for one in _chain(optimizer):
        for name, part in mask.items():
            for value in _tensors(one.state.get(weights[name], {}).values()):
                if value.shape == part.shape:
                    value.masked_fill_(~part, 0)


def _chain(optimizer: torch.optim.Optimizer) -> Iterable[torch.optim.Optimizer]:
    """The optimizer and those that it wraps, each as the ``base`` of the one before."""
    one: object = optimizer
    while isinstance(one, torch.optim.Optimizer):
        yield one
        one = getattr(one, "base", None)


def _tensors(values: Iterable[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]
