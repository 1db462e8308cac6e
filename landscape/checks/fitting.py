"""Whether one of the losses that ship fits the data, and which form of it; a look at all targets, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import (
    IGNORED,
    Loss,
    binary_classification,
    classification,
    counted_classification,
    labels_of,
    pair,
    plain_classification,
)

_SMALL = (torch.uint8, torch.bool)


def fitting_loss(loss: Loss, data: Iterable[Examples]) -> Loss:
    """The loss as it is to be called for these data: one form of it for all batches of all splits.

    Where any label is to be ignored, `classification` counts positions, in every batch alike. Losses of a
    user's own are returned as they are.

    Raises
    ------
    UserError
        For targets that a loss that ships can't be meant for.
    """
    module = type(loss).__module__ if isinstance(loss, nn.Module) else getattr(loss, "__module__", None)
    if not callable(loss) or str(module).startswith("torch.nn."):
        name = getattr(loss, "__name__", type(loss).__name__)
        raise UserError(
            f"the loss is {name}; expected a function of (model, batch) that returns one value per example "
            "and their number, such as landscape.classification, binary_classification or regression"
        )
    if loss is binary_classification:
        for targets in _targets(data, "binary_classification"):
            low, high = _range(targets)
            if not (low >= 0 and high <= 1):
                raise UserError(
                    f"the targets lie between {low:.6g} and {high:.6g}; the loss binary_classification takes "
                    "0 and 1 (for values, landscape.regression; for class labels, landscape.classification)"
                )
    if loss is not classification:
        return loss
    ignoring = counted = False
    for targets in _targets(data, "classification"):
        if targets.is_floating_point() or targets.is_complex():
            continue  # the loss itself says what to do
        if targets.dtype in _SMALL:  # which hold no label below 0, and may be large: masks
            counted = counted or bool(targets.numel())
            continue
        labels = labels_of(targets)
        if targets.dtype == torch.uint64 and bool((labels < 0).any()):
            largest = int(labels[labels < 0][0]) + 2**64
            raise UserError(f"a label is {largest}; expected labels from 0 to the number of classes - 1")
        kept = labels[labels != IGNORED]
        ignoring = ignoring or len(kept) < targets.numel()
        counted = counted or bool(len(kept))
        if len(kept) and int(kept.min()) < 0:
            raise UserError(
                f"the smallest label is {int(kept.min())}; expected labels from 0, "
                f"or {IGNORED} for what doesn't count"
            )
    if ignoring and not counted:
        raise UserError(f"every label is {IGNORED}, which doesn't count; no example has a target")
    return counted_classification if ignoring else plain_classification


def check_labels(loss: Loss, model: Callable[..., Any], batch: Any, data: Iterable[Examples]) -> None:
    """Refuse class labels that the network has no score for; a GPU would stop with all that it holds.

    Parameters
    ----------
    loss
        From `fitting_loss`; nothing is done for others than `classification`.
    model, batch
        A network, and a few examples to see how many scores it gives.
    data
        All examples.
    """
    if loss not in (plain_classification, counted_classification):
        return
    try:
        with torch.no_grad():
            found = model(pair(batch, "classification")[0])
        scores = getattr(found, "logits", found)
        classes, axes = scores.shape[1], scores.dim() - 1
    except Exception:
        return  # the loss itself says what is wrong
    for targets in _targets(data, "classification"):
        labels = targets if targets.dtype in _SMALL else labels_of(targets)
        fitting = labels.numel() and labels.dtype in (torch.int64, torch.uint8) and labels.dim() == axes
        largest = int(labels.max()) if fitting else -1
        if largest >= classes > 1:
            raise UserError(
                f"the largest label is {largest}, and the network has {classes} classes; "
                f"expected labels from 0 to {classes - 1}, or {IGNORED} for what doesn't count"
            )


def _targets(data: Iterable[Examples], name: str) -> Iterable[Tensor]:
    for one in data:
        if one.pictures is not None:
            yield one.tensors[0]
            continue
        for batch in one.given or (one.tensors,):
            yield pair(batch, name)[1]


def _range(values: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(values.to(torch.float64)) if values.numel() else (torch.zeros(()),) * 2
    return float(low), float(high)
