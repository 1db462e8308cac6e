"""Whether a batch gives what its examples give apart, so that it doesn't matter how batches are cut.

Neither an example's value nor a sum may depend on what else is in the batch where the engine cuts them: a
number of examples at a time that suits the cache would decide the result. Batches of the user's own are
taken at their word (contrastive losses need all of one), but for what is added once per batch: a mean over
all examples would hold it by the number of batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from landscape.engine.probe import Mode
from landscape.engine.totals import BatchValues, batch_values
from landscape.errors import UserError
from landscape.examples.structure import cut
from landscape.losses import Loss

_DEPENDS, _DEPENDS_LOW = 1e-3, 1e-1  # relative; rounding in float32, and in bfloat16, is far below
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}  # of sums of few numbers
_ROUNDING_LOW = 1e-2
_SUMS = 10.0  # times that: other kernels for other numbers of examples
_EQUAL = 1e-2  # relative, of what two batches give too much


def check_apart(loss: Loss, module: nn.Module, batch: Any, mode: Mode) -> None:
    """Refuse values and sums that depend on how batches are cut, where the engine cuts them.

    Batch norm without running statistics does so, and a network or loss that calls ``train()``; of sums
    weighted means times the count, and penalties that are added once.

    Raises
    ------
    UserError
        With by how much, and what to do.
    """
    found = _whole_and_halves(loss, module, batch, mode)
    if found is None:
        return
    whole, one, two = found
    low = any(value.dtype == torch.bfloat16 for value in module.parameters())
    bound = _DEPENDS_LOW if low else _DEPENDS
    if one.count + two.count != whole.count:
        return
    for name, value in whole.values.items():
        if name not in one.values or name not in two.values:
            continue
        if value.dim():
            _check_value(name, value, torch.cat([one.values[name], two.values[name]]), bound)
        else:
            first, second, third = (float(part.values[name]) for part in found)
            _check_sum(name, first, second, third, _SUMS * _rounding(module, value))


def _check_value(name: str, whole: Tensor, apart: Tensor, bound: float) -> None:
    difference = _apart(whole.double(), apart.double())
    if name == "loss" and difference > bound:
        raise UserError(
            f"an example's loss depends on the others in its batch (by {difference:.1g} of its size: batch "
            "norm in training mode, or without running statistics?), so it matters how batches are cut; "
            "give batches of your own, or batch_size"
        )


def _check_sum(name: str, whole: float, one: float, two: float, bound: float) -> None:
    if abs(whole - (one + two)) > bound * max(abs(whole), abs(one), abs(two)):
        raise UserError(
            f"the loss returned {whole:.6g} as {name!r} for a batch and {one:.6g} and {two:.6g} for its "
            "halves, so it is no sum over examples (a weighted mean? labels left out? a penalty?) and it "
            "matters how batches are cut; return one value per example (reduction='none') and how many "
            "count, or give batches of your own"
        )


def check_once_per_batch(loss: Loss, module: nn.Module, batch: Any, mode: Mode) -> None:
    """Refuse sums to which something is added once per batch, whatever its size (weight decay, say).

    What the whole has less than both halves is compared for a batch and for its half, down to few examples,
    whose sum is small beside it.

    Raises
    ------
    UserError
        With the number that is added.
    """
    excess: dict[str, float] = {}
    for found in _halvings(loss, module, batch, mode):
        sums = {name: value for name, value in found[0].values.items() if not value.dim()}
        now = {name: _excess(name, *found, _rounding(module, value)) for name, value in sums.items()}
        for name, more in now.items():
            known = excess.get(name, 0.0)
            if more and abs(more - known) <= _EQUAL * max(abs(more), abs(known)):
                raise UserError(
                    f"the loss adds {more:.4g} to {name!r} once per batch, whatever its size (a penalty on "
                    "the weights?), so the mean over examples would hold it by the number of batches; add it "
                    "times the count, or to each example's value"
                )
        excess = now


def _rounding(module: nn.Module, value: Tensor) -> float:
    """Of a sum, relative: the network's precision, or that of the value where it is lower."""
    kinds = [value.dtype, *(one.dtype for one in module.parameters() if one.is_floating_point())]
    return max(_ROUNDING.get(kind, _ROUNDING_LOW) for kind in kinds)


def _excess(name: str, whole: BatchValues, one: BatchValues, two: BatchValues, rounding: float) -> float:
    """What both halves have more than the whole; 0 where that is rounding."""
    if name not in one.values or name not in two.values:
        return 0.0
    numbers = [float(part.values[name]) for part in (whole, one, two)]
    more = numbers[1] + numbers[2] - numbers[0]
    return more if abs(more) > rounding * max(map(abs, numbers)) else 0.0


def _halvings(
    loss: Loss, module: nn.Module, batch: Any, mode: Mode
) -> Iterator[tuple[BatchValues, BatchValues, BatchValues]]:
    while (halves := cut(batch)) is not None:
        found = _whole_and_halves(loss, module, batch, mode)
        if found is None or found[1].count >= found[0].count:
            return
        yield found
        batch = halves[0]


def _whole_and_halves(
    loss: Loss, module: nn.Module, batch: Any, mode: Mode
) -> tuple[BatchValues, BatchValues, BatchValues] | None:
    """What the loss gives for them; None where half a batch is none here."""
    halves = cut(batch)
    if halves is None:
        return None
    try:
        with mode():
            whole, one, two = (batch_values(loss(module, part)) for part in (batch, *halves))
    except Exception:
        return None
    return whole, one, two


def _apart(one: Tensor, two: Tensor) -> float:
    finite = one.isfinite() & two.isfinite()
    if not bool(finite.any()):
        return 0.0
    scale = torch.maximum(one[finite].abs().max(), two[finite].abs().max()).clamp_min(1e-300)
    return float((one - two)[finite].abs().max() / scale)
