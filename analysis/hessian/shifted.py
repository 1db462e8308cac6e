"""Loss and gradient beside the weights, and Hessian products as differences of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis.hessian.counted import NOTHING_COUNTS
from analysis.hessian.space import WeightSpace
from landscape.engine.totals import batch_values
from landscape.errors import UserError
from landscape.losses import Loss
from landscape.progress import passed

STEP = 1e-6  # of the weights' norm; in float64 neither rounding nor the third derivative is seen then

NO_GRADIENT = (
    "the loss gives no gradient by the weights: it is computed under torch.no_grad or from detached values, "
    "or doesn't depend on them; return it with its history, or use measures without derivatives"
)


class Shifted:
    """The summed loss and its gradient at ``w + ε``, batch by batch.

    Parameters
    ----------
    module
        A copy of the caller's own, in evaluation mode, whose parameters may be moved.
    space
        The kept weights w.
    loss, batches
        Of which.
    """

    def __init__(self, module: nn.Module, space: WeightSpace, loss: Loss, batches: Sequence[Any]) -> None:
        params = dict(module.named_parameters())
        for name, one in params.items():
            one.requires_grad_(name in set(space.names))
        self._module, self._space, self._loss, self._batches = module, space, loss, batches
        self._params = [params[name] for name in space.names]
        self._start = [one.detach().clone() for one in self._params]

    @property
    def weights(self) -> Tensor:
        """w, ``[n]``."""
        return self._space.restrict(self._start)

    def each(
        self, shift: Tensor | None = None, batches: Sequence[Any] | None = None
    ) -> Iterator[tuple[float, int, Tensor]]:
        """Summed loss, count and gradient ``[n]`` of every batch, at w moved by `shift` ``[n]``.

        Raises
        ------
        UserError
            When the loss has no gradient by the weights.
        """
        self._move(shift)
        try:
            for batch in self._batches if batches is None else batches:
                found = self._one(batch)
                passed(found[1])
                yield found
        finally:
            self._move(None)

    def mean(self, shift: Tensor | None = None) -> tuple[float, Tensor, int]:
        """Mean loss and gradient ``[n]`` over all examples, and their number; UserError where none counts."""
        losses, count, gradient = [], 0, torch.zeros_like(self.weights)
        for loss, number, one in self.each(shift):
            losses.append(loss)
            count += number
            gradient += one
        if not count:
            raise UserError(NOTHING_COUNTS)
        return math.fsum(losses) / count, gradient / count, count

    def step(self, vector: Tensor) -> float:
        """By how much a vector is followed, in units of the vector; 0 for one without length."""
        length = float(vector.double().norm())
        return STEP * (float(self.weights.double().norm()) or 1.0) / length if length else 0.0

    def multiply(self, vector: Tensor) -> Tensor:
        """``H v`` of the mean loss from two gradients beside the weights, ``[n]``."""
        step = self.step(vector)
        if not step:
            return torch.zeros_like(vector)
        return (self.mean(step * vector)[1] - self.mean(-step * vector)[1]) / (2 * step)

    def slopes(
        self, vectors: Sequence[Tensor], batches: Sequence[Any] | None = None
    ) -> tuple[list[int], list[list[float]]]:
        """Counts ``[batches]`` and ``vᵀ H_b v`` of every batch's summed loss, ``[batches][k]``."""
        counts: list[int] = []
        columns = []
        for vector in vectors:
            step = self.step(vector) or 1.0  # a vector without length moves nothing
            above, below = (list(self.each(sign * step * vector, batches)) for sign in (1, -1))
            counts = [count for _, count, _ in above]
            ends = zip(above, below, strict=True)
            columns.append([float((one[2] - two[2]) @ vector) / (2 * step) for one, two in ends])
        return counts, [list(row) for row in zip(*columns, strict=True)]

    def _one(self, batch: Any) -> tuple[float, int, Tensor]:
        with torch.enable_grad():
            result = self._loss(self._module, batch)
            count = batch_values(result).count
            summed = result[0].sum()
            if not summed.requires_grad:
                if not count:  # nothing in this batch
                    return float(summed), 0, torch.zeros_like(self.weights)
                raise UserError(NO_GRADIENT)
            parts = torch.autograd.grad(summed, self._params, materialize_grads=True)
        dense = [one.to_dense() if one.is_sparse else one for one in parts]  # of embeddings
        return float(summed.detach()), count, self._space.restrict(dense).detach()

    def _move(self, shift: Tensor | None) -> None:
        moves = self._start if shift is None else self._space.expand(shift)
        with torch.no_grad():
            for one, start, move in zip(self._params, self._start, moves, strict=True):
                one.copy_(start if shift is None else start + move)
