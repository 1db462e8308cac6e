"""Loss and accuracy of a model on a whole set of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from training.data import Images
from training.distributed import World

if TYPE_CHECKING:
    from training.kept import KeptForward

ALONE = World()
_BATCH = 250
_PHOTOGRAPHS = 64  # whose activations are fifty times as large


def evaluate(
    model: nn.Module,
    images: Images,
    kept: KeptForward | None = None,
    world: World = ALONE,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in evaluation mode; ZeroDivisionError for an empty set.

    Where there is `kept`, of this model, it computes with kept weights only. Several processes each compute a
    part of every batch, of the first one's network. `tell` gets how many images are done, and of how many.
    """
    if world.size > 1:  # each has running statistics of its own parts of the batches
        world.agree(dict(model.named_buffers()))
    training = model.training
    model.eval()
    forward = model if kept is None else kept.evaluating()
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    size, done = _PHOTOGRAPHS if images.streamed else _BATCH, 0
    with torch.no_grad():
        for batch, labels in world.together(images.in_order(size, world.part), fallible=images.streamed):
            logits = forward(batch)
            repeated = (
                min(size, len(images) - done) < world.size and not world.first
            )  # all had the whole batch
            if not repeated:
                loss += F.cross_entropy(logits, labels, reduction="sum")
                right += (logits.argmax(1) == labels).sum()
            done = min(done + size, len(images))
            if tell is not None:
                tell(done, len(images))
    model.train(training)
    loss, right = world.sum(loss), world.sum(right)
    return float(loss) / len(images), int(right) / len(images)
