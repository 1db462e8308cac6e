"""Loss and accuracy of a model on a whole set of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from training.data import Images

_BATCH = 250


def evaluate(model: nn.Module, images: Images) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in evaluation mode; ZeroDivisionError for an empty set."""
    training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    with torch.inference_mode():
        for batch, labels in images.in_order(_BATCH):
            logits = model(batch)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    model.train(training)
    return float(loss) / len(images), int(right) / len(images)
