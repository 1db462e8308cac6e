"""Training images without a data set, and networks small enough for brute force."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.masks import Mask
from training.sparsity.base import Moment, Situation


class FakeSource:
    """`size` random images of 3 classes; the same for the same seed."""

    def __init__(self, side: int = 8, size: int = 200, seed: int = 0, dtype: torch.dtype = torch.float32):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(size, 3, side, side, generator=generator, dtype=dtype)
        self.labels = torch.randint(3, (size,), generator=generator)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(len(self.labels), generator=generator)[:count]
        return self.images[chosen], self.labels[chosen]

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(self.labels), generator=generator)
        members = [order[self.labels[order] == label][:per_class] for label in range(3)]
        chosen = torch.stack(members, dim=1).flatten()
        return self.images[chosen], self.labels[chosen]


class NoData:
    """Fails when a method that needs no images looks at them."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise AssertionError("a method without data looked at data")

    draw_balanced = draw


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_network(seed: int = 0, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """131 parameters in float64, smooth for finite differences; the norm layer has seen other data."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, bias=False),
            nn.BatchNorm2d(4),
            activation(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ).double()
        norm = model[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, -1, 2)
        nn.init.normal_(norm.bias, 0, 0.2)
    return model


def dropout_network() -> nn.Sequential:
    """Draws from torch's global generator in training mode; the dropout is in another mode than the rest."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(180, 3)
        )
    model[4].eval()
    return model


def equal(one: Mask, other: Mask) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def nested(inner: Mask, outer: Mask) -> bool:
    return not any(bool((inner[name] & ~outer[name]).any()) for name in inner)


def situation(model: nn.Module, mask: Mask, moment: Moment) -> Situation:
    return Situation(model, mask, moment, {}, NoData(), seeded(), {})
