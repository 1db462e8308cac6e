"""The contract between a loss and the engine, and the losses that ship."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from landscape.errors import UserError

LossResult: TypeAlias = tuple[Tensor, int] | tuple[Tensor, int, Mapping[str, Tensor]]
Loss: TypeAlias = Callable[[Callable[..., Any], Any], LossResult]
"""``loss(model, batch) -> (loss, count)`` or ``(loss, count, {"metric": …})``.

`loss` and each metric are one value per example, shape ``[count]`` (preferred: gives standard errors), or
their sum over the batch, shape ``[]``; a mean times `count` is such a sum. `count` is the number of examples
in the batch. The function must depend on the model's weights and the batch alone, and be pure: it is called
several times for a batch and, on a CPU, from several threads at once.
"""

IGNORED = -100
"""The label of what doesn't count (padding, say), as in `torch.nn.functional.cross_entropy`."""


def classification(model: Callable[..., Any], batch: Any) -> LossResult:
    """Cross-entropy and accuracy of a classifier.

    Parameters
    ----------
    model
        Maps inputs to unnormalized scores ``[N, classes]`` or ``[N, classes, …]``, or to an object that has
        them as ``logits``.
    batch
        ``(inputs, targets)`` with integer targets ``[N]`` or ``[N, …]``; positions beyond the first axis
        are averaged within an example. Where a label is `IGNORED`, nothing is averaged: each position with
        another label counts as one example, so the mean is that of `torch.nn.functional.cross_entropy`.

    Returns
    -------
    loss, count, metrics
        Nats per example ``[N]``; N; ``{"accuracy": [N]}`` as a fraction.

    Raises
    ------
    UserError
        For other targets or scores. Nothing is guessed: see `regression` and `binary_classification`.

    >>> scores = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    >>> loss, count, more = classification(lambda x: x, (scores, torch.tensor([0, 1])))
    >>> count, more["accuracy"].tolist(), round(loss[0].item(), 4)
    (2, [1.0, 0.0], 0.6931)
    """
    _, targets = pair(batch, "classification")
    counted = bool((labels_of(targets) == IGNORED).any())
    return counted_classification(model, batch) if counted else plain_classification(model, batch)


def plain_classification(model: Callable[..., Any], batch: Any) -> LossResult:
    """`classification` of batches in which every label counts; never waits for the device to look."""
    loss, correct, targets = _entropies(model, batch)
    return _per_example(loss), len(targets), {"accuracy": _per_example(correct)}


def counted_classification(model: Callable[..., Any], batch: Any) -> LossResult:
    """`classification` with one value for each position whose label isn't `IGNORED`, and their number."""
    loss, correct, targets = _entropies(model, batch)
    counted = targets != IGNORED
    return loss[counted], int(counted.sum()), {"accuracy": correct[counted]}


def binary_classification(model: Callable[..., Any], batch: Any) -> LossResult:
    """Binary cross-entropy of logits and accuracy, averaged over the outputs of each example.

    Parameters
    ----------
    model
        Maps inputs to logits of the targets' shape, axes of length 1 aside, or to what has ``logits``.
    batch
        ``(inputs, targets)``, targets ``[N, …]`` of 0 and 1, or probabilities.

    Returns
    -------
    loss, count, metrics
        Nats per example ``[N]``; N; ``{"accuracy": [N]}``, the share of outputs on the right side of ½.

    >>> loss, count, more = binary_classification(lambda x: x, (torch.zeros(2, 1), torch.tensor([0.0, 1.0])))
    >>> loss.tolist(), more["accuracy"].tolist()
    ([0.6931..., 0.6931...], [1.0, 0.0])
    """
    inputs, targets = pair(batch, "binary_classification")
    logits = _fitting(_at_least_float32(_output(model(inputs))), targets, "binary_classification")
    goal = targets.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    correct = ((logits > 0) == (goal > 0.5)).to(logits.dtype)
    return _per_example(loss), len(targets), {"accuracy": _per_example(correct)}


def regression(model: Callable[..., Any], batch: Any) -> LossResult:
    """Mean squared error, averaged over the outputs of each example.

    Parameters
    ----------
    model
        Maps inputs to predictions of the shape of the targets, axes of length 1 aside.
    batch
        ``(inputs, targets)``, targets ``[N, …]``.

    Returns
    -------
    loss, count
        Mean squared error per example ``[N]``; N.

    Raises
    ------
    UserError
        When the shapes don't fit.

    >>> regression(lambda x: x, (torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)))
    (tensor([1., 9.]), 2)
    """
    inputs, targets = pair(batch, "regression")
    predictions = _fitting(_at_least_float32(_output(model(inputs))), targets, "regression")
    return _per_example((predictions - targets).square()), len(targets)


SHIPPED = (classification, binary_classification, regression)


def pair(batch: Any, name: str) -> tuple[Any, Tensor]:
    """Inputs and targets of a batch, arrays as tensors; UserError where it is no such pair."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        holds = f" with {', '.join(map(repr, list(batch)[:5]))}" if isinstance(batch, Mapping) else ""
        raise UserError(
            f"a batch is a {type(batch).__name__}{holds}; the loss {name} takes pairs (inputs, targets), "
            "so give these (a tuple, no list), or a loss of your own for such batches"
        )
    inputs, targets = (torch.as_tensor(one) if isinstance(one, np.ndarray) else one for one in batch)
    if not isinstance(targets, Tensor) or not targets.dim():
        raise UserError(
            f"the targets of a batch are a {type(targets).__name__}; the loss {name} takes a tensor [N, …]"
        )
    return inputs, targets


def labels_of(targets: Tensor) -> Tensor:
    """Integer targets as int64; others as they are.

    Before anything is compared: torch compares 156 in a byte with -100 as equal, and knows no minimum of the
    larger unsigned types.
    """
    return targets if targets.is_floating_point() or targets.is_complex() else targets.long()


def _entropies(model: Callable[..., Any], batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, whether the largest score is the label's, and the labels, each of the targets' shape."""
    inputs, targets = pair(batch, "classification")
    if targets.is_floating_point() or targets.is_complex():
        raise UserError(
            f"the targets are {_described(targets)}; the loss classification takes integer class labels [N]. "
            "Pass loss=landscape.regression or landscape.binary_classification (targets of 0 and 1), "
            "or make labels of one-hot or soft targets by .argmax(1)"
        )
    scores = _at_least_float32(_output(model(inputs)))
    _check_scores(scores, targets)
    labels = labels_of(targets)
    try:
        loss = F.cross_entropy(scores, labels, reduction="none", ignore_index=IGNORED)
    except IndexError as error:  # on a CPU
        raise UserError(
            f"a label lies outside the {scores.shape[1]} classes that the network has scores for "
            f"({str(error).strip()}); expected 0 to {scores.shape[1] - 1}, or {IGNORED} for none"
        ) from error
    return loss, (scores.argmax(1) == labels).to(scores.dtype), labels


def _check_scores(scores: Tensor, targets: Tensor) -> None:
    if scores.dim() < 2 or scores.shape[1] == 1:
        raise UserError(
            f"the network gives {list(scores.shape)}, one score per example; the loss classification takes "
            "[N, classes]. Pass loss=landscape.binary_classification or landscape.regression"
        )
    if targets.shape != (len(scores), *scores.shape[2:]):
        hint = "make labels of one-hot targets by .argmax(1)" if targets.shape == scores.shape else ""
        hint = "drop the last axis by .squeeze(1)" if targets.shape == (len(scores), 1) else hint
        raise UserError(
            f"the targets are {_described(targets)} for scores of shape {list(scores.shape)}; the loss "
            f"classification takes labels {[len(scores), *scores.shape[2:]]}"
            + (f", so {hint}" if hint else "; scores are [N, classes, …], classes second")
        )


def _fitting(found: Tensor, targets: Tensor, name: str) -> Tensor:
    """In the targets' shape, where only axes of length 1 differ."""
    if found.shape == targets.shape:
        return found
    if [one for one in found.shape if one != 1] == [one for one in targets.shape if one != 1]:
        return found.reshape(targets.shape)
    hint = "" if targets.is_floating_point() or name != "regression" else "; for class labels, classification"
    raise UserError(
        f"the network gives {list(found.shape)} for targets of shape {list(targets.shape)}; "
        f"the loss {name} takes equal shapes{hint}"
    )


def _output(found: Any) -> Tensor:
    """The tensor that a network gave, or its `logits`."""
    found = getattr(found, "logits", found)
    if not isinstance(found, Tensor):
        raise UserError(
            f"the network gives a {type(found).__name__}; expected a tensor, so write a loss of your own "
            "that takes it apart"
        )
    return found


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _per_example(values: Tensor) -> Tensor:
    return values if values.dim() == 1 else values.flatten(1).mean(1)
