"""Training the middle point of a quadratic Bézier curve between two networks.

Garipov et al. ("Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", 2018): with
``φ(t) = (1−t)² a + 2t(1−t) θ + t² b`` minimise ``E L(φ(t))`` over θ, t uniform in [0, 1], by SGD with one t
a step. The gradient in θ is ``2t(1−t) ∇L(φ(t))``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.connectivity.ends import Ends
from analysis.connectivity.recipe import Training
from landscape.engine import own_copy
from landscape.engine.cuda_graph import numerics
from landscape.engine.failing import in_one_line
from landscape.engine.precision import in_precision
from landscape.engine.streams import keep_freed_memory
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.signals import held_back
from landscape.losses import Loss
from landscape.planes.directions import Params

_CHECK_EVERY = 50  # steps between looks at the loss: each look makes a GPU wait


class BendTraining:
    """A training in progress; `advance` makes one step.

    Parameters
    ----------
    ends
        The two networks. With ``batch_norm="recalibrate"`` batch norm uses each batch's own statistics, as
        at any point of the curve; everything else is in evaluation mode.
    examples
        To train on.
    loss
        See `landscape.losses.Loss`.
    training
        How.
    device, dtype
        "cpu", "cuda", …; ``torch.float32`` or ``float64``.

    Attributes
    ----------
    step
        Steps made.
    whole
        False only within a step's last, short part, in which the state changes.
    """

    def __init__(
        self,
        ends: Ends,
        examples: Examples,
        loss: Loss,
        training: Training,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.training, self.loss, self.step, self.whole = training, loss, 0, True
        self._ends, self._device, self._dtype = ends, torch.device(device), dtype
        self._module = in_precision(own_copy(ends.module), self._device, dtype).eval()
        self._params = dict(self._module.named_parameters())
        self._trained = [name for name in ends.start if name not in ends.statistics]
        self._start, self._end, middle = (self._flat(one) for one in (ends.start, ends.end, ends.middle))
        self._kept = self._flat(
            {name: kept.to(dtype) for name, kept in (ends.kept or {}).items()}, missing=1.0
        )
        self.bend, self.velocity = middle, torch.zeros_like(middle)
        keep_freed_memory()
        self._batches = _Batches(examples, training, self._device, dtype)
        for name, one in self._params.items():
            one.requires_grad_(name in self._trained)
        for norm in self._module.modules():
            if isinstance(norm, _BatchNorm) and ends.batch_norm == "recalibrate":
                norm.train()

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self.training.steps

    def advance(self) -> None:
        """One step of SGD.

        Raises
        ------
        UserError
            When the loss isn't finite any more.
        """
        t = float(np.random.default_rng([self.training.seed, 1, self.step]).uniform())
        gradient = self._gradient(t, self._batches.at(self.step))
        gradient = 2 * t * (1 - t) * gradient
        gradient.add_(self.bend, alpha=self.training.weight_decay)
        factor = (1 + math.cos(math.pi * self.step / self.training.steps)) / 2
        with held_back():
            self.whole = False
            self.velocity.mul_(self.training.momentum).add_(gradient.mul_(self._kept))
            self.bend.sub_(self.velocity, alpha=self.training.lr * factor)
            self.step += 1
            self.whole = True

    def weights(self) -> Params:
        """The bend θ by parameter name, on the CPU; UserError where it isn't finite."""
        if not bool(torch.isfinite(self.bend).all()):
            raise UserError(f"the bend isn't finite after step {self.step}; choose a lower --lr")
        parts = torch.split(self.bend.cpu(), [self._params[name].numel() for name in self._trained])
        return {
            name: part.reshape(self._params[name].shape).clone()
            for name, part in zip(self._trained, parts, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """What going on needs."""
        return {"step": self.step, "bend": self.bend.cpu(), "velocity": self.velocity.cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state; raises UserError for one that isn't of this training."""
        step: Any = state.get("step")
        bend: Any = state.get("bend")
        velocity: Any = state.get("velocity")
        if type(step) is not int or not 1 <= step <= self.training.steps:
            raise UserError(f"its step is {step!r:.40}, expected 1 to {self.training.steps}")
        for name, value, own in (("bend", bend, self.bend), ("velocity", velocity, self.velocity)):
            if not isinstance(value, Tensor) or value.dtype != own.dtype or value.shape != own.shape:
                raise UserError(f"its {name} doesn't fit a network of {own.numel()} weights")
            if not bool(value.isfinite().all()):
                raise UserError(f"its {name} isn't finite")
        self.step = step
        self.bend.copy_(bend)
        self.velocity.copy_(velocity)

    def _gradient(self, t: float, batch: Any) -> Tensor:
        """Of the batch's mean loss at φ(t), ``[P]``."""
        now = (1 - t) ** 2 * self._start + 2 * t * (1 - t) * self.bend + t**2 * self._end
        places = [self._params[name] for name in self._trained]
        with torch.no_grad():
            for one, part in zip(places, torch.split(now, [one.numel() for one in places]), strict=True):
                one.copy_(part.view(one.shape))
            for name in self._ends.statistics:
                start, end = self._ends.start[name], self._ends.end[name]
                self._params[name].copy_(start + t * (end - start))
        where = f"the loss, or its gradient, fails on the curve at t = {t:.3g}, in step {self.step}"
        with in_one_line(where), torch.enable_grad(), numerics(self._device, False):
            values, count = self._loss_of(batch)
            if not count:  # every label is padding, say
                return torch.zeros_like(self.bend)
            mean = values.sum() / count
            parts = torch.autograd.grad(mean, places, materialize_grads=True)
        if self._device.type == "cpu" or self.step % _CHECK_EVERY == 0:
            self._check(float(mean.detach()))
        return torch.cat([(part.to_dense() if part.is_sparse else part).reshape(-1) for part in parts])

    def _loss_of(self, batch: Any) -> tuple[Tensor, int]:
        try:
            return self.loss(self._module, batch)[:2]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm
                raise
            raise UserError(
                "batch norm has no statistics of a single example; choose larger batches with "
                "--train-batch-size, or --batch-norm interpolate"
            ) from error

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(f"the loss on the curve became {loss} at step {self.step}; choose a lower --lr")

    def _flat(self, tensors: Params, missing: float = 0.0) -> Tensor:
        parts = [
            tensors[name].to(self._device, self._dtype).reshape(-1)
            if name in tensors
            else torch.full((self._params[name].numel(),), missing, device=self._device, dtype=self._dtype)
            for name in self._trained
        ]
        return torch.cat(parts).detach()


class _Batches:
    """Which examples belong to a step: a new order for each pass, a function of seed and step alone."""

    def __init__(
        self, examples: Examples, training: Training, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._seed, self._device, self._dtype = training.seed, device, dtype
        self._examples = (
            replace(examples, tensors=tuple(one.to(device) for one in examples.tensors))
            if examples.rebatchable
            else examples.to(device, dtype)
        )
        self._total = len(examples.tensors[0] if examples.rebatchable else examples.given)
        self._size = min(training.batch_size, self._total) if examples.rebatchable else 1
        self._order: tuple[int, Tensor] = (-1, torch.zeros(0))

    def at(self, step: int) -> Any:
        epoch, number = divmod(step, self._total // self._size)
        if epoch != self._order[0]:
            order = np.random.default_rng([self._seed, 0, epoch]).permutation(self._total)
            self._order = epoch, torch.from_numpy(order)
        chosen = self._order[1][number * self._size : (number + 1) * self._size]
        if not self._examples.rebatchable:
            return self._examples.given[int(chosen)]
        return self._examples.pick(chosen).to(self._device, self._dtype).batches(self._size)[0]


def trained_module(ends: Ends, bend: Params) -> nn.Module:
    """A module with the bend's weights, and running statistics half-way between the ends'."""
    module = in_precision(own_copy(ends.module), "cpu", next(iter(bend.values())).dtype)
    params = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in {**ends.middle, **bend}.items():
            params[name].copy_(value)
    return module
