"""The gradient of each batch as a graph that can be differentiated again, kept where memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from analysis.hessian.network_function import Reparametrized
from analysis.hessian.shifted import NO_GRADIENT
from analysis.hessian.twice import FastTwice
from landscape.engine.totals import batch_values
from landscape.errors import UserError
from landscape.losses import Loss


@dataclass
class BatchGraph:
    """A batch's summed loss, and its gradient by the leaves with the history of its computation."""

    loss: float
    count: int
    leaves: Sequence[Tensor]
    gradient: Sequence[Tensor]

    def values(self) -> list[Tensor]:
        """The gradient alone."""
        return [one.detach() for one in self.gradient]

    def multiply(self, tangent: Sequence[Tensor]) -> list[Tensor]:
        """The Hessian of the summed loss by the leaves, times one vector: a second backward pass."""
        pairs = [(g, v) for g, v in zip(self.gradient, tangent, strict=True) if g.requires_grad]
        if not pairs:  # a loss that is linear in its weights
            return [torch.zeros_like(one) for one in self.leaves]
        outputs, vectors = zip(*pairs, strict=True)
        return list(
            torch.autograd.grad(outputs, self.leaves, vectors, retain_graph=True, materialize_grads=True)
        )


def differentiate(network: Reparametrized, loss: Loss, batch: Any) -> BatchGraph:
    """The gradient of one batch's summed loss, ready to be differentiated again."""
    with torch.enable_grad(), FastTwice():
        result = loss(network.call, batch)
        count = batch_values(result).count
        summed = result[0].sum()
        if not summed.requires_grad:
            if not count:  # nothing in this batch
                nothing = [torch.zeros_like(one) for one in network.leaves]
                return BatchGraph(float(summed), 0, network.leaves, nothing)
            raise UserError(NO_GRADIENT)
        gradient = torch.autograd.grad(summed, network.leaves, create_graph=True, materialize_grads=True)
    return BatchGraph(float(summed.detach()), count, network.leaves, gradient)


def graph_bytes(network: Reparametrized, loss: Loss, batch: Any) -> float:
    """Bytes per example that such a graph keeps, not counting the weights."""
    seen: dict[int, int] = {}
    leaves = {one.untyped_storage().data_ptr() for one in network.leaves}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in leaves:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = differentiate(network, loss, batch)
    return sum(seen.values()) / max(graph.count, 1)


def kept_batches(batches: Sequence[Any], bytes_per_example: float, limit: float) -> int:
    """How many batches' graphs, from the first on, fit the limit together."""
    used = 0.0
    for number, batch in enumerate(batches):
        used += bytes_per_example * batch_length(batch)
        if used > limit:
            return number
    return len(batches)


def batch_length(batch: Any) -> int:
    """Examples of a batch of any structure: the longest of its tensors."""
    lengths = [len(one) for one in pytree.tree_leaves(batch) if isinstance(one, Tensor) and one.dim()]
    return max(lengths, default=1)


def add(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Element by element, in place of the first."""
    return [one.add_(other) for one, other in zip(first, second, strict=True)]


def plus(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Element by element, as new tensors."""
    return [one + other for one, other in zip(first, second, strict=True)]


def refuse_infinite(loss: float, gradient: Sequence[Tensor]) -> None:
    """UserError where the loss or any derivative is no number."""
    if not (math.isfinite(loss) and all(bool(torch.isfinite(one).all()) for one in gradient)):
        raise UserError(
            "the loss or its gradient isn't finite at the weights, so there is no Hessian; "
            "check the data's normalization, or try dtype float64"
        )
