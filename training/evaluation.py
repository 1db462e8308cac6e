"""Loss and accuracy of a model on a whole set of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from training.data import Images

if TYPE_CHECKING:
    from training.kept import KeptForward

_BATCH = 250


def evaluate(model: nn.Module, images: Images, kept: KeptForward | None = None) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in evaluation mode; ZeroDivisionError for an empty set.

    Where there is `kept`, of this model, it computes with kept weights only.
    """
    training = model.training
    model.eval()
    forward = model if kept is None else kept.evaluating()
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    with torch.inference_mode():
        for batch, labels in images.in_order(_BATCH):
            logits = forward(batch)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    model.train(training)
    return float(loss) / len(images), int(right) / len(images)
