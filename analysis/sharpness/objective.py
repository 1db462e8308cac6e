"""The mean loss of a network as a function of its kept weights, with the spread over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.hessian.counted import counter, first_counted
from analysis.hessian.derivatives import CHECKED, beside, checked_gradient, off_kinks
from analysis.hessian.shifted import NO_GRADIENT, Shifted
from analysis.hessian.space import WeightSpace
from landscape.checks.arguments import whole
from landscape.checks.fitting import check_labels, fitting_loss
from landscape.compute import Data, as_examples
from landscape.devices import choose_device
from landscape.engine import left_alone, own_copy
from landscape.engine.contract import check_contract, cut_batch, first_batches
from landscape.engine.cost import choose_batch_size, measure
from landscape.engine.cuda_graph import numerics
from landscape.engine.failing import in_one_line
from landscape.engine.following import Source
from landscape.engine.modes import own_modes
from landscape.engine.original import restored
from landscape.engine.precision import in_precision
from landscape.engine.probe import probe
from landscape.engine.totals import BatchValues, Totals, batch_values, total
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice
from landscape.progress import passed
from landscape.threads import one_thread

DTYPES = {"float32": torch.float32, "float64": torch.float64}
BLOCKS = 20  # of examples, for the jackknife
_PROBED = 16
_AGREED = 0.01  # of the largest slope; float32 and kinks explain less, wrong derivatives are off by more
_STEP, _COARSE = 1e-6, 1e-3  # of a central difference, relative to the weights, in float64 and below


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

    @own_modes()
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
        if batch_size is not None:
            whole("batch size", batch_size)
        self._given = as_examples(data)
        self.device, self.dtype, self.mask = torch.device(choose_device(device)), dtype, mask
        self.loss = fitting_loss(loss, [self._given])
        kind = DTYPES[dtype]
        self._given = left_alone(self._given, model, self.loss, self.device, kind)
        self.space = WeightSpace(model, mask, params).to(self.device)
        self.module = in_precision(own_copy(model), self.device, kind).eval()
        every, moving = dict(self.module.named_parameters()), set(self.space.names)
        for name, one in every.items():
            one.requires_grad_(name in moving)
        self._params = [every[name] for name in self.space.names]
        self._start = [one.detach().clone() for one in self._params]
        self.weights = self.space.restrict(self._start).clone()
        self.examples = self._given.to(self.device, kind)
        self._gradient_is_right = False
        self._check_contract(model, kind, batch_size)
        self._mode = self._needed_mode()
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
        with in_one_line(self._fails(shift)), self._at(shift), self._mode():
            found = [_counted(batch_values(self.loss(self.module, batch))) for batch in self._batches]
        self.count(1)
        return total(found, BLOCKS)

    def gradient(self, shift: Tensor | None = None) -> tuple[Totals, Tensor]:
        """As `evaluate`, and the gradient of the mean loss there, ``[n]``."""
        found, summed = [], [torch.zeros_like(one) for one in self._params]
        self._check_gradient()
        with in_one_line(self._fails(shift)), self._at(shift), torch.enable_grad():
            for batch in self._batches:
                result = self.loss(self.module, batch)
                found.append(_counted(batch_values(result)))
                if not result[0].requires_grad:
                    if not found[-1].count:  # nothing in this batch
                        continue
                    raise UserError(NO_GRADIENT)
                parts = torch.autograd.grad(result[0].sum(), self._params, materialize_grads=True)
                summed = [
                    one + (part.to_dense() if part.is_sparse else part)
                    for one, part in zip(summed, parts, strict=True)
                ]
        self.count(3)
        totals = total(found, BLOCKS)
        return totals, self.space.restrict(summed) / totals.examples

    def along(self, direction: Tensor) -> list[Tensor]:
        """Derivative ``⟨∇ℓ_i, v⟩`` of each example's loss at w along a direction v, ``[count]`` per batch.

        A product of the Jacobian with v comes from two backward passes: the first is linear in the weights u
        of the examples, and the second differentiates it by u. Where torch can't, or is wrong, it is a
        central difference of the losses, in float64 where the network runs in it.

        Raises
        ------
        UserError
            When the loss gives sums over batches instead of a value per example.
        """
        differences = self._differences(direction)
        self.count(4)
        try:
            exact = self._slopes(direction)
        except UserError:
            raise
        except Exception:  # torch's, where it has no second derivative, or a custom backward's own
            return differences
        one, two = torch.cat(exact), torch.cat(differences)
        off, size = float((one - two).abs().max()), float(two.abs().max())
        return exact if off <= _AGREED * size else differences

    def _slopes(self, direction: Tensor) -> list[Tensor]:
        """By automatic differentiation, float64."""
        tangents, result = self.space.expand(direction), []
        with self._at(None), torch.enable_grad():
            for batch in self._batches:
                values = self.loss(self.module, batch)[0]
                shares = torch.zeros_like(values, requires_grad=True)
                pulled = torch.autograd.grad(
                    values, self._params, shares, create_graph=True, materialize_grads=True
                )
                along = torch.stack(
                    [(one * way).sum() for one, way in zip(pulled, tangents, strict=True)]
                ).sum()
                if not along.requires_grad:
                    result.append(torch.zeros_like(values, dtype=torch.float64))
                    continue
                (found,) = torch.autograd.grad(along, shares, materialize_grads=True)
                result.append(found.detach().double())
        return result

    def _differences(self, direction: Tensor) -> list[Tensor]:
        """By differences of the losses, float64."""
        length = float(direction.double().norm())
        if not length:
            return [torch.zeros_like(one) for one in self._values(None)]
        size = float(self.weights.double().norm()) or 1.0
        try:
            module, batches = self._exactly()
            step = _STEP * size / length
            ends = [self._values(sign * step * direction.double(), module, batches) for sign in (1, -1)]
        except UserError:
            raise
        except Exception:  # a network with a precision of its own inside
            step = _COARSE * size / length
            with in_one_line(self._fails(step * direction)):
                ends = [self._values(sign * step * direction) for sign in (1, -1)]
        return [(above - below) / (2 * step) for above, below in zip(*ends, strict=True)]

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
        drawn = torch.randn(self.size, generator=self.generator(*place), dtype=torch.float64, device="cpu")
        return drawn.to(self.weights)

    def count(self, passes: int) -> None:
        """Note passes over the examples, and tell the listener."""
        self.passes += passes
        if self.listener is not None:
            self.listener(passes)

    def _values(
        self, shift: Tensor | None, module: nn.Module | None = None, batches: Sequence[Any] | None = None
    ) -> list[Tensor]:
        """The loss of each example at ``w + shift``, float64 ``[count]`` per batch."""
        chosen = self.module if module is None else module
        params = dict(chosen.named_parameters())
        places = [params[name] for name in self.space.names]
        found = []
        with self._at(shift, places), self._mode():
            for batch in self._batches if batches is None else batches:
                values, count = self.loss(chosen, batch)[:2]
                if values.shape != (count,):
                    raise UserError(
                        "the loss returns a sum over the batch; this measure needs one value per example"
                    )
                found.append(values.detach().double())
        return found

    def _exactly(
        self, few: Examples | None = None, dtype: torch.dtype = torch.float64
    ) -> tuple[nn.Module, Any]:
        """A copy of the network at w in a precision, and batches of all examples or a batch of a few."""
        with self._at(None):
            module = in_precision(own_copy(self.module), self.device, dtype)
        examples = self._given if few is None else few
        return module, examples.to(self.device, dtype).batches(self.batch_size if few is None else CHECKED)

    def _check_gradient(self) -> None:
        """Once, against differences of the loss; see `analysis.hessian.derivatives`."""
        if self._gradient_is_right:
            return

        with self._at(None), self._mode():
            counted = counter(self.loss, self.module, self.device, DTYPES[self.dtype])
            few = first_counted(self._given, CHECKED, counted)

        def check(moved: bool) -> None:
            def shifted(dtype: torch.dtype) -> Shifted:
                module, batches = self._exactly(few, dtype)
                return Shifted(
                    beside(module, self.space) if moved else module, self.space, self.loss, batches
                )

            checked_gradient(shifted, self.space, finite=moved)

        with numerics(self.device, False), sdpa_kernel(SDPBackend.MATH):
            off_kinks(check)
        self._gradient_is_right = True

    @staticmethod
    def _fails(shift: Tensor | None) -> str:
        """What a message says of a failure at ``w + shift``."""
        if shift is None:
            return "the loss, or its gradient, fails at the weights themselves"
        return f"the loss, or its gradient, fails at weights moved by {float(shift.double().norm()):.3g}"

    @contextmanager
    def _at(self, shift: Tensor | None, places: Sequence[Tensor] | None = None) -> Iterator[None]:
        """The weights moved by `shift`, from w afresh each time; fused attention has no second derivative."""
        moves = self._start if shift is None else self.space.expand(shift)
        with torch.no_grad():
            for one, start, move in zip(places or self._params, self._start, moves, strict=True):
                one.copy_(start if shift is None else start + move)
        with numerics(self.device, False), sdpa_kernel(SDPBackend.MATH):
            yield

    def _check_contract(self, model: nn.Module, kind: torch.dtype, batch_size: int | None) -> None:
        """Refuse a loss that is no function of the weights."""
        few = first_batches(self._given, self.device, kind)
        with numerics(self.device, False), one_thread(), restored(model) as original:
            source = Source(model, own_copy, self.device, kind, self.space.names, original)
            module = source.fresh()
            check_labels(self.loss, module, few[0], [self._given])
            chosen, seen = (
                cut_batch([self._given], self.device, kind, batch_size),
                probe(module, self.loss, few[0]),
            )
            check_contract(self.loss, module, few, seen, source, self._given.given, chosen=chosen)

    def _needed_mode(self) -> Callable[[], AbstractContextManager[Any]]:
        """The gradient mode of evaluations: enabled for losses that differentiate by their inputs."""
        head = self.examples.head(1).batches(1)[0]
        try:
            with torch.no_grad(), numerics(self.device, False):
                self.loss(self.module, head)
        except RuntimeError:  # also where something else is wrong; then that is raised with gradients, too
            return torch.enable_grad
        return torch.no_grad

    def _suitable_batch_size(self) -> int:
        head = self.examples.head(_PROBED).batches(_PROBED)[0]
        with self._mode(), numerics(self.device, False):
            count = max(batch_values(self.loss(self.module, head)).count, 1)
            cost = measure(lambda: self.loss(self.module, head), self.module, count)
        return choose_batch_size(cost, self.device)


def _counted(found: BatchValues) -> BatchValues:
    """Tell whoever shows progress."""
    passed(found.count)
    return found
