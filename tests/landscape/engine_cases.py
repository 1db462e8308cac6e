"""Small networks of every kind, and the plain evaluation that the engine is measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.examples import Examples
from landscape.threads import one_thread
from training.models.cifar_resnet import CifarResNet

SIZE = 12


def tensors_or_batches(given: bool) -> tuple[Tensor, Tensor, Any]:
    """Twenty rows of five numbers, labels of three classes, and both as data: two batches, or one pair."""
    torch.manual_seed(1)
    inputs, labels = torch.randn(20, 5), torch.randint(3, (20,))
    halves = [(inputs[:10], labels[:10]), (inputs[10:], labels[10:])]
    return inputs, labels, halves if given else (inputs, labels)


class PreActivation(nn.Module):
    """Batch norm before the convolution, and in-place ReLU: only one of the norms can be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.conv1(F.relu_(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        return self.head((x + out).mean((2, 3)))


class Tangled(nn.Module):
    """Sums that must not be written over their operand: read again later, an input, a view, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8, affine=False)
        self.conv3 = nn.Conv2d(8, 8, 1)
        self.same = nn.Conv2d(3, 3, 3, padding="same")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x + self.same(x))
        one = F.relu(self.norm1(self.conv1(first)) + first)
        two = torch.relu(one + self.norm2(self.conv2(one)))
        view = two.view_as(two)
        three = self.conv3(two).add(two)
        return self.head((three + view + first).mean((2, 3)))


class Undecided(nn.Module):
    """Cannot be traced: which way it goes depends on numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = x.relu() if x.mean() > -100 else x.tanh()
        return self.head(x.mean((2, 3)))


def vgg_like() -> nn.Module:
    """Convolutions with bias and norm, max-pool, dropout, average pool."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )


def perceptron() -> nn.Module:
    """No convolution at all."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 20), nn.Tanh(), nn.Linear(20, 5))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "resnet option A": (lambda: CifarResNet(2, (4, 8, 16), "A", 5), True),
    "resnet option B": (lambda: CifarResNet(2, (8, 16, 16), "B", 5), True),
    "vgg": (vgg_like, True),
    "preactivation": (PreActivation, True),
    "tangled": (Tangled, True),
    "undecided": (Undecided, False),
    "perceptron": (perceptron, False),
}
"""Builder, and whether batch norm can be folded."""


def network(name: str, seed: int = 0) -> nn.Module:
    """One of `NETWORKS`, in training mode, with running statistics and affine parameters that matter."""
    generator = torch.Generator().manual_seed(seed)
    model = NETWORKS[name][0]()
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) * param[0].numel() ** -0.5)
        for norm in (one for one in model.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.running_mean.copy_(0.3 * torch.randn(norm.num_features, generator=generator))
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
            if norm.affine:
                norm.weight.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
    return model.train()


def directions(model: nn.Module, count: int = 2, scale: float = 0.3) -> list[dict[str, Tensor]]:
    """Dense ones: weights, biases and batch norm all move."""
    generator = torch.Generator().manual_seed(7)
    return [
        {
            name: scale * torch.randn(one.shape, generator=generator) * one.detach().abs().mean()
            for name, one in model.named_parameters()
        }
        for _ in range(count)
    ]


def images(count: int = 50) -> tuple[Tensor, Tensor]:
    """Float inputs ``[count, 3, SIZE, SIZE]`` and labels of five classes."""
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(count, 3, SIZE, SIZE, generator=generator),
        torch.randint(0, 5, (count,), generator=generator),
    )


def examples(count: int = 50) -> dict[str, Examples]:
    """The same, for the engine."""
    return {"test": Examples.from_tensors(*images(count))}


def moved(model: nn.Module, along: Sequence[Mapping[str, Tensor]], coordinates: Sequence[float]) -> nn.Module:
    """A copy in evaluation mode whose weights were written by hand."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            for coordinate, direction in zip(coordinates, along, strict=True):
                if name in direction:
                    param += coordinate * direction[name].to(param)
    return model


def plain_values(
    model: nn.Module,
    along: Sequence[Mapping[str, Tensor]],
    coordinates: Sequence[float],
    dtype: torch.dtype = torch.float32,
    count: int = 50,
) -> tuple[Tensor, Tensor]:
    """Loss and correctness per example, ``[count]`` each, by the plainest loop."""
    inputs, labels = images(count)
    model = moved(model.to(dtype), along, coordinates)
    with torch.inference_mode(), one_thread():
        scores = torch.cat([model(part) for part in inputs.to(dtype).split(16)])
    losses = F.cross_entropy(scores, labels, reduction="none")
    return losses.double(), (scores.argmax(1) == labels).double()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Asserts that a model is the same afterwards: every bit, the mode, gradients and addresses."""

    def state() -> list[object]:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        return [
            *((name, one.data_ptr(), one.requires_grad, one.grad) for name, one in tensors),
            *((name, one.training) for name, one in model.named_modules()),
        ]

    before, bits = state(), copy.deepcopy(model.state_dict())
    try:
        yield
    finally:
        assert state() == before
        for name, value in model.state_dict().items():
            assert torch.equal(value, bits[name]), name
