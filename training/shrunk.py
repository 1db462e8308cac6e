"""The result of a method that removes channels as a network that doesn't have them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from landscape.channels.shrink import Shrunk, shrink
from landscape.checkpoint.format import Checkpoint
from landscape.checkpoint.shrunk import SHRUNK
from training.flops import forward_flops
from training.run import Run

_IMAGES = 8
_TOLERANCE = 1e-6  # of the largest output, in float64


def with_shrunk(run: Run, checkpoint: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """A run's result with what is known of its channels, and the smaller network.

    Raises
    ------
    RuntimeError
        When the smaller network computes something else: an error of this program.
    """
    images = run.data.train.head(_IMAGES)
    small = shrink(run.model, images[:1], run.mask)
    _check_same(run.model, small.model, images)
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


@torch.no_grad()
def _check_same(model: nn.Module, small: nn.Module, images: Tensor) -> None:
    expected, found = (copy.deepcopy(one).double().eval()(images.double()) for one in (model, small))
    difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not difference < _TOLERANCE:
        raise RuntimeError(
            f"the network without its lost channels differs by {difference:.3g} of its outputs"
        )
