"""The mean loss of a network as a function of its kept weights, with the spread over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.hessian.space import WeightSpace
from landscape.compute import Data, as_examples, choose_device
from landscape.engine import own_copy
from landscape.engine.cost import choose_batch_size, measure
from landscape.engine.cuda_graph import numerics
from landscape.engine.precision import in_precision
from landscape.engine.totals import BatchValues, Totals, batch_values, total
from landscape.errors import UserError
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice

DTYPES = {"float32": torch.float32, "float64": torch.float64}
BLOCKS = 20  # of examples, for the jackknife
_PROBED = 16


class Objective:
    """L(w + ε) in evaluation mode, where ε moves kept weights only.

    Every example counts the same, however they are cut into batches, and every point sees the same examples
    in the same order. The caller's model is never touched.

    Parameters
    ----------
    model
        Any module.
    data
        Tensors ``(inputs, targets)``, an iterable of batches (used as they come), or an `Examples`.
    loss
        See `landscape.losses.Loss`. Differentiated by the weights, so it must run with gradients enabled.
    mask
        Bool tensors by parameter name, True = kept; what it doesn't name is wholly kept. None keeps all.
    params
        Which parameters are w; see `analysis.hessian.HessianOperator`.
    batch_size
        By default chosen from the size of the activations.
    device, dtype
        "auto", "cpu", "cuda", …; "float32" or "float64".

    Attributes
    ----------
    weights
        The kept weights w, ``[n]``, on the device.
    space
        Where they belong.
    center
        Loss at w.
    passes
        Passes over the examples so far, in forward passes: a gradient counts 3.

    Raises
    ------
    UserError
        For a mask, dtype, device, batch size or loss that can't be used, no examples, or a loss that isn't
        finite at w.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        *,
        loss: Loss = classification,
        mask: Mapping[str, Tensor] | None = None,
        params: ParamsChoice = TRAINABLE,
        batch_size: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch size must be at least 1, got {batch_size}")
        self.device, self.dtype, self.loss, self.mask = torch.device(choose_device(device)), dtype, loss, mask
        kind = DTYPES[dtype]
        self.space = WeightSpace(model, mask, params).to(self.device)
        self.module = in_precision(own_copy(model), self.device, kind).eval()
        every, moving = dict(self.module.named_parameters()), set(self.space.names)
        for name, one in every.items():
            one.requires_grad_(name in moving)
        self._params = [every[name] for name in self.space.names]
        self._start = [one.detach().clone() for one in self._params]
        self.weights = self.space.restrict(self._start).clone()
        self.examples = as_examples(data).to(self.device, kind)
        self.batch_size = batch_size or self._suitable_batch_size()
        self._batches = self.examples.batches(self.batch_size)
        self.passes = 0
        self.listener: Callable[[int], None] | None = None
        self.remembered: dict[str, Any] = {}
        self.center = self.evaluate()
        if not self.center.sums["loss"].sum() < float("inf"):
            raise UserError(
                "the loss isn't finite at the weights themselves, so nothing can be measured; "
                "check the data's normalization, or try dtype float64"
            )

    @property
    def size(self) -> int:
        """Number n of kept weights."""
        return self.space.size

    def evaluate(self, shift: Tensor | None = None) -> Totals:
        """Sums of the loss over blocks of examples at ``w + shift``, shift of shape ``[n]``."""
        with self._at(shift), torch.no_grad():
            found = [batch_values(self.loss(self.module, batch)) for batch in self._batches]
        self.count(1)
        return total(found, BLOCKS)

    def gradient(self, shift: Tensor | None = None) -> tuple[Totals, Tensor]:
        """As `evaluate`, and the gradient of the mean loss there, ``[n]``."""
        found, summed = [], [torch.zeros_like(one) for one in self._params]
        with self._at(shift), torch.enable_grad():
            for batch in self._batches:
                result = self.loss(self.module, batch)
                found.append(batch_values(result))
                parts = torch.autograd.grad(result[0].sum(), self._params, materialize_grads=True)
                summed = [one + part for one, part in zip(summed, parts, strict=True)]
        self.count(3)
        totals = total(found, BLOCKS)
        return totals, self.space.restrict(summed) / totals.examples

    def along(self, direction: Tensor, order: int) -> list[Tensor]:
        """Derivative of each example's loss at w along a direction, one tensor ``[count]`` per batch.

        ``⟨∇ℓ_i, v⟩`` for order 1, ``vᵀ ∇²ℓ_i v`` for order 2. Products of the Jacobian with v come from two
        backward passes: the first is linear in the weights u of the examples, and the second differentiates
        it by u. So any network can do it that can be differentiated twice (order 2: four times).

        Raises
        ------
        UserError
            When the loss gives sums over batches instead of a value per example.
        """
        tangents = self.space.expand(direction)
        result = []
        with self._at(None), torch.enable_grad():
            for batch in self._batches:
                values, count = self.loss(self.module, batch)[:2]
                if values.shape != (count,):
                    raise UserError(
                        "the loss returns a sum over the batch; this measure needs one value per example"
                    )
                for _ in range(order):
                    values = self._differentiate(values, tangents)
                result.append(values.detach())
        self.count(4 if order == 1 else 12)
        return result

    def totals_of(self, values: list[Tensor]) -> Totals:
        """Sums over the blocks of examples of one value per example, as `along` gives them."""
        return total([BatchValues(len(one), {"loss": one}) for one in values], BLOCKS)

    def generator(self, *place: int) -> torch.Generator:
        """Randomness that depends only on the seed and what it is for, not on what was drawn before."""
        import numpy as np

        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator().manual_seed(seed)

    def normal(self, *place: int) -> Tensor:
        """Standard normal numbers, ``[n]``: the same on every device and in every dtype, up to rounding."""
        drawn = torch.randn(self.size, generator=self.generator(*place), dtype=torch.float64)
        return drawn.to(self.weights)

    def count(self, passes: int) -> None:
        """Note passes over the examples, and tell the listener."""
        self.passes += passes
        if self.listener is not None:
            self.listener(passes)

    def _differentiate(self, values: Tensor, tangents: list[Tensor]) -> Tensor:
        shares = torch.zeros_like(values, requires_grad=True)
        pulled = torch.autograd.grad(values, self._params, shares, create_graph=True, materialize_grads=True)
        along = sum((one * tangent).sum() for one, tangent in zip(pulled, tangents, strict=True))
        if not (isinstance(along, Tensor) and along.requires_grad):
            return torch.zeros_like(values)
        (found,) = torch.autograd.grad(along, shares, create_graph=True, materialize_grads=True)
        if not found.requires_grad:  # a loss that is linear in the weights has no second derivative
            found = found + 0 * self._params[0].sum()
        return found

    @contextmanager
    def _at(self, shift: Tensor | None) -> Iterator[None]:
        """The weights moved by `shift`, from w afresh each time; fused attention has no second derivative."""
        moves = self._start if shift is None else self.space.expand(shift)
        with torch.no_grad():
            for one, start, move in zip(self._params, self._start, moves, strict=True):
                one.copy_(start if shift is None else start + move)
        with numerics(self.device, False), sdpa_kernel(SDPBackend.MATH):
            yield

    def _suitable_batch_size(self) -> int:
        head = self.examples.head(_PROBED).batches(_PROBED)[0]
        with torch.no_grad(), numerics(self.device, False):
            count = max(batch_values(self.loss(self.module, head)).count, 1)
            cost = measure(lambda: self.loss(self.module, head), self.module, count)
        return choose_batch_size(cost, self.device)
