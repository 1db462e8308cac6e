"""The contract between a loss and the engine, and two ready-made losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LossResult: TypeAlias = tuple[Tensor, int] | tuple[Tensor, int, Mapping[str, Tensor]]
Loss: TypeAlias = Callable[[Callable[..., Any], Any], LossResult]
"""``loss(model, batch) -> (loss, count)`` or ``(loss, count, {"metric": …})``.

`loss` and each metric are one value per example, shape ``[count]`` (preferred: gives standard errors), or
their sum over the batch, shape ``[]``. `count` is the number of examples in the batch. The function must be
pure: it is called several times for a batch and, on a CPU, from several threads at once.
"""


def classification(model: Callable[..., Any], batch: Any) -> LossResult:
    """Cross-entropy and accuracy of a classifier.

    Parameters
    ----------
    model
        Maps inputs to unnormalized scores ``[N, classes]`` or ``[N, classes, …]``.
    batch
        ``(inputs, targets)`` with integer targets ``[N]`` or ``[N, …]``; positions beyond the first axis
        are averaged within an example.

    Returns
    -------
    loss, count, metrics
        Nats per example ``[N]``; N; ``{"accuracy": [N]}`` as a fraction.

    >>> scores = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    >>> loss, count, more = classification(lambda x: x, (scores, torch.tensor([0, 1])))
    >>> count, more["accuracy"].tolist(), round(loss[0].item(), 4)
    (2, [1.0, 0.0], 0.6931)
    """
    inputs, targets = batch
    scores = _at_least_float32(model(inputs))
    loss = F.cross_entropy(scores, targets, reduction="none")
    correct = (scores.argmax(1) == targets).to(scores.dtype)
    return _per_example(loss), len(targets), {"accuracy": _per_example(correct)}


def regression(model: Callable[..., Any], batch: Any) -> LossResult:
    """Mean squared error, averaged over the outputs of each example.

    Parameters
    ----------
    model
        Maps inputs to predictions of the shape of the targets.
    batch
        ``(inputs, targets)``, targets ``[N, …]``.

    Returns
    -------
    loss, count
        Mean squared error per example ``[N]``; N.

    >>> regression(lambda x: x, (torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)))
    (tensor([1., 9.]), 2)
    """
    inputs, targets = batch
    predictions = _at_least_float32(model(inputs))
    if predictions.shape != targets.shape:
        predictions = predictions.reshape(targets.shape)
    return _per_example((predictions - targets).square()), len(targets)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _per_example(values: Tensor) -> Tensor:
    return values if values.dim() == 1 else values.flatten(1).mean(1)
