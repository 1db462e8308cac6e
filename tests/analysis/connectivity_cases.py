"""Two points of a plane as networks, with losses whose barriers are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from landscape.losses import LossResult


class Point(nn.Module):
    """Its weights are its output, whatever the input."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.w.expand(len(inputs), -1) + 0 * inputs


CENTER = torch.tensor([0.0, -0.5], dtype=torch.float64)
CURVATURE = torch.tensor([4.0, 1.0], dtype=torch.float64)


def quadratic(model: Any, batch: Any) -> LossResult:
    """An anisotropic bowl around each example."""
    (targets,) = batch
    return ((model(targets) - targets).square() * CURVATURE).sum(1) / 2, len(targets)


def ring(model: Any, batch: Any) -> LossResult:
    """0 on the circle through (−1, 0) and (1, 0) around `CENTER`, and on no straight line between them."""
    (targets,) = batch
    squared = (model(targets) - CENTER).square().sum(1)
    return (squared - 1.25).square(), len(targets)


def targets(count: int = 24, seed: int = 0) -> Tensor:
    """Examples around (0.5, 1)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return noise + torch.tensor([0.5, 1.0], dtype=torch.float64)
