"""The result of a method that removes channels as a network that doesn't have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from landscape.channels.shrink import Shrunk, shrink
from landscape.checkpoint.format import Checkpoint
from landscape.checkpoint.shrunk import SHRUNK
from training.flops import forward_flops
from training.run import Run

_IMAGES = 8


def with_shrunk(run: Run, checkpoint: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """A run's result with what is known of its channels, and the smaller network.

    Raises
    ------
    UserError
        As `landscape.channels.shrink.shrink`.
    """
    images = run.data.train.head(_IMAGES)
    small = shrink(run.model, images, run.mask)
    metrics = checkpoint.metrics | _metrics(small, images[:1])
    arguments = {
        "model": checkpoint.architecture,
        "arguments": checkpoint.arguments,
        "shapes": {name: list(shape) for name, shape in small.shapes.items()},
    }
    return replace(checkpoint, metrics=metrics), replace(
        checkpoint,
        architecture=SHRUNK,
        arguments=arguments,
        state_dict={name: value.cpu() for name, value in small.model.state_dict().items()},
        mask={name: part.cpu() for name, part in small.mask.items()},
        metrics=metrics,
    )


def _metrics(small: Shrunk, image: Tensor) -> dict[str, Any]:
    """Channels of the layers that may lose some, and what the smaller network costs, computed densely."""
    return {
        "channels": small.after,
        "channels_dense": small.before,
        "shrunk_parameters": sum(one.numel() for one in small.model.parameters()),
        "shrunk_flops": forward_flops(small.model, image).dense,
    }
