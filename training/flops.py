"""Floating-point operations: of an image through a network, dense or masked, and of steps of training.

Counted by torch's ``FlopCounterMode``: two for each multiplication with its addition in convolutions and
matrix products, nothing for biases, normalization, activations and pooling. A masked layer is charged for its
kept weights only, whatever computes them. A backward pass costs two forward ones, the gradients of the inputs
and of the weights, as Evci et al., "Rigging the Lottery" (2020), count training in their appendix.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.masks import prunable


@dataclass(frozen=True)
class ForwardFlops:
    """What one image costs in a forward pass.

    Attributes
    ----------
    layers
        Of the convolutions and linear layers, by the name of their weight, with all weights.
    weights
        Elements of those weights.
    other
        Of everything else, which no mask makes cheaper: attention, products of activations, and layers whose
        weight is used outside their own ``forward``.
    """

    layers: Mapping[str, int]
    weights: Mapping[str, int]
    other: int

    @property
    def dense(self) -> int:
        """With all weights."""
        return sum(self.layers.values()) + self.other

    def under(self, mask: Mapping[str, Tensor]) -> int:
        """With the kept weights only: every layer's times its density; layers without a mask are dense."""
        saved = 0
        for name, part in mask.items():
            pruned = self.weights[name] - int(part.sum())
            saved += self.layers[name] * pruned // self.weights[name]  # without a remainder: alike for all
        return self.dense - saved

    def step(self, mask: Mapping[str, Tensor], dense_gradient: bool = False) -> int:
        """Of a step's forward and backward pass.

        With `dense_gradient`, the gradient is taken of pruned weights too, as RigL does to grow some.
        """
        sparse = self.under(mask)
        return 2 * sparse + (self.dense if dense_gradient else sparse)


@torch.no_grad()
def forward_flops(model: nn.Module, image: Tensor) -> ForwardFlops:
    """Count one image (1, C, H, W) through a copy of the network in evaluation mode; meta tensors will do.

    A layer that is called several times costs as often.
    """
    copied = copy.deepcopy(model).eval()
    weights = prunable(copied)
    names = {id(weight): name for name, weight in weights.items()}
    layers = dict.fromkeys(weights, 0)
    counter = FlopCounterMode(display=False)
    before: list[int] = []

    def enter(module: nn.Module, given: object) -> None:
        before.append(counter.get_total_flops())

    def leave(module: nn.Module, given: object, result: object) -> None:
        layers[names[id(module.weight)]] += counter.get_total_flops() - before.pop()

    for module in copied.modules():
        if id(getattr(module, "weight", None)) in names:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
    with counter:
        copied(image)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    return ForwardFlops(layers, sizes, counter.get_total_flops() - sum(layers.values()))
