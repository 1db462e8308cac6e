"""A convolutional network of a few weights, its examples, and its loss surface by a plain double loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.provenance import digest
from landscape.surface import FloatArray, Surface

EXAMPLES = 23  # prime: the last batch is short for every batch size


def small_network(seed: int = 0, *, pruned: float = 0.5) -> nn.Module:
    """Convolution, batch norm with statistics of its own, ReLU, pooling, 3 classes; some weights zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
        norm = model[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.2, 0.6)
        with torch.no_grad():
            for value in model.parameters():
                value.mul_(2.0)
                if value.dim() > 1:
                    value.mul_(torch.rand(value.shape) >= pruned)
    return model


def examples(seed: int = 0, count: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 6, 6, generator=generator)
    return inputs, torch.randint(0, 3, (count,), generator=generator)


def state(model: nn.Module) -> str:
    """Every bit of parameters and buffers."""
    return digest(dict(model.state_dict()))


@torch.no_grad()
def brute_force(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    directions: Sequence[Mapping[str, Tensor]],
    alpha: FloatArray,
    beta: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Mean loss and accuracy at each point, in float64, one example at a time."""
    moved = copy.deepcopy(model).double().eval()
    start = {name: value.clone() for name, value in moved.named_parameters()}
    loss, accuracy = np.zeros((2, len(alpha), len(beta)))
    for i, a in enumerate(alpha):
        for j, b in enumerate(beta):
            for name, value in moved.named_parameters():
                step = sum(
                    c * one[name].double() for c, one in zip((float(a), float(b)), directions, strict=False)
                )
                value.copy_(start[name] + step)
            for x, y in zip(*data, strict=True):
                scores = moved(x[None].double())
                loss[i, j] += float(F.cross_entropy(scores, y[None])) / len(data[1])
                accuracy[i, j] += float(scores.argmax(1) == y) / len(data[1])
    return loss, accuracy


def bits(surface: Surface) -> list[object]:
    """Everything that was computed, to compare two surfaces bit for bit; not the timings."""
    found: list[object] = [
        surface.alpha.tobytes(),
        surface.beta.tobytes(),
        surface.settings,
        surface.complete,
    ]
    for plane in surface.planes:
        found += [plane.about, plane.computed.tobytes()]
        for axis in plane.directions:
            found += [(name, axis[name].tobytes()) for name in sorted(axis)]
        for name, split in plane.splits.items():
            found += [name, split.examples, split.block_counts.tobytes()]
            for key, metric in split.metrics.items():
                blocks = None if metric.blocks is None else metric.blocks.tobytes()
                found += [key, metric.values.tobytes(), metric.stderr.tobytes(), repr(metric.error), blocks]
    return found
