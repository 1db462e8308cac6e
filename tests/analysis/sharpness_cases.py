"""Losses whose sharpness is known in closed form, and a small classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.sharpness import Objective
from landscape.surface import FloatArray


class Weights(nn.Module):
    """Two parameters that are the weights themselves: a matrix of 2 filters and a vector."""

    def __init__(self, values: FloatArray) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor(values[:4]).reshape(2, 2))
        self.vector = nn.Parameter(torch.tensor(values[4:]))

    def forward(self) -> Tensor:
        return torch.cat([self.matrix.reshape(-1), self.vector])


def quadratic_loss(model: Any, batch: Any) -> tuple[Tensor, int]:
    """``½ wᵀ A_i w + b_iᵀ w + 3`` for each example i."""
    matrices, slopes = batch
    weights = model()
    return 0.5 * torch.einsum("nij,i,j->n", matrices, weights, weights) + slopes @ weights + 3, len(slopes)


class Quadratic:
    """The mean of 23 quadratic losses of 6 weights: Hessian `hessian`, gradient `gradient` at `weights`."""

    def __init__(self, seed: int = 0, *, noise: float = 0.3, pruned: bool = False) -> None:
        draw = np.random.default_rng(seed)
        size, count = 6, 23
        root = draw.normal(size=(size, size))
        shift = noise * draw.normal(size=(count, size, size))
        matrices = root @ root.T / size + shift + shift.transpose(0, 2, 1)
        slopes = draw.normal(size=(count, size))
        self.weights = draw.normal(size=size)
        self.mask: dict[str, Tensor] | None = None
        self.kept = np.ones(size, bool)
        if pruned:
            self.kept[[1, 2]] = False
            self.mask = {"matrix": torch.tensor(self.kept[:4]).reshape(2, 2)}
            self.weights[~self.kept] = 0.0
        self.model = Weights(self.weights)
        self.data = torch.tensor(matrices), torch.tensor(slopes)
        self.matrices, self.slopes = matrices, slopes
        kept = np.ix_(self.kept, self.kept)
        self.hessian = matrices.mean(0)[kept]
        self.gradient = (matrices.mean(0) @ self.weights + slopes.mean(0))[self.kept]
        self.loss = float(
            0.5 * self.weights @ matrices.mean(0) @ self.weights + slopes.mean(0) @ self.weights + 3
        )

    def rise(self, shift: FloatArray) -> float:
        """L(w + shift) − L(w) for kept coordinates."""
        return float(self.gradient @ shift + 0.5 * shift @ self.hessian @ shift)

    def objective(self, batch_size: int | None = None) -> Objective:
        return Objective(
            self.model,
            self.data,
            loss=quadratic_loss,
            mask=self.mask,
            dtype="float64",
            batch_size=batch_size,
        )


def largest_in_ball(hessian: FloatArray, gradient: FloatArray, radius: float) -> float:
    """``max gᵀε + ½ εᵀHε`` over ``‖ε‖ ≤ radius``, from the eigenvalues (secular equation, by bisection)."""
    values, vectors = np.linalg.eigh(hessian)
    slopes = vectors.T @ gradient

    def point(multiplier: float) -> FloatArray:
        return np.asarray(slopes / (multiplier - values))

    low = max(values[-1], 0.0) + 1e-14
    high = low + 10 + float(np.linalg.norm(gradient)) / radius
    if values[-1] < 0 and np.linalg.norm(point(1e-300)) <= radius:
        inside = point(0.0)
        return float(slopes @ inside + 0.5 * values @ inside**2)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(point(middle)) > radius else (low, middle)
    found = point(high)
    return float(slopes @ found + 0.5 * values @ found**2)


def classifier(seed: int = 0, *, bias: bool = True, pruned: float = 0.0) -> nn.Sequential:
    """Two linear layers with a ReLU between them, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)).double()
        with torch.no_grad():
            for value in model.parameters():
                if value.dim() > 1:
                    value.mul_(torch.rand(value.shape) >= pruned)
    return model


def labelled(seed: int = 0, count: int = 23) -> tuple[Tensor, Tensor]:
    """A prime number of examples, so that the last batch is short for every batch size."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 3, (count,), generator=generator)
