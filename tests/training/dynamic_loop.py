"""The training loop's contract with dynamic methods in small; every change of the mask is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training import masks
from training.masks import Mask
from training.sparsity.base import Moment, Situation, SparsityMethod

Tensors = dict[str, Tensor]


class NoData:
    """A source for methods that don't look at images."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise AssertionError("a data-free method looked at data")

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise AssertionError("a data-free method looked at data")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_net(seed: int = 0) -> nn.Module:
    """Prunable: 324 + 1728 + 640 weights, for images of 3×6×6."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def linear(weight: Tensor) -> nn.Module:
    """One prunable tensor with these values, called ``weight``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def situation(
    model: nn.Module,
    mask: Mask,
    moment: Moment,
    gradients: Tensors | None = None,
    seed: int = 0,
    memory: dict[str, Any] | None = None,
) -> Situation:
    memory = {} if memory is None else memory
    return Situation(model, mask, moment, gradients or {}, NoData(), seeded(seed), memory)


@dataclass
class Change:
    """One change of the mask; weights and momentum by name."""

    moment: Moment
    before: Mask
    masks: list[Mask]
    weights: Tensors
    momentum: Tensors
    gradients: Tensors
    threshold: float | None
    weights_after: Tensors = field(default_factory=dict)
    momentum_after: Tensors = field(default_factory=dict)
    threshold_after: float | None = None

    @property
    def after(self) -> Mask:
        return self.masks[-1]


class Loop:
    """Trains on random images; `changes` are what the method did."""

    def __init__(self, method: SparsityMethod, steps: int, steps_per_epoch: int, seed: int = 0) -> None:
        self.method, self.steps, self.steps_per_epoch, self.seed = method, steps, steps_per_epoch, seed
        self.model = tiny_net(seed)
        self.mask = method.init_mask(self.model, NoData(), seeded(seed))
        self.first = self.mask
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        self.changes: list[Change] = []
        self.memory: dict[str, Any] = {}
        masks.apply_to_weights(self.model, self.mask)

    def run(self) -> Loop:
        for step in range(self.steps):
            moment = Moment(step, self.steps, self.steps_per_epoch)
            due = self.method.update_due(moment)
            if due:
                self._change(moment)
            if not (due and self.method.gradient == "dense"):
                self._gradients(step)
                masks.AppliedMask(self.model, self.mask).to_gradients()
                self.optimizer.step()
                masks.apply_to_weights(self.model, self.mask)
        return self

    def _gradients(self, step: int) -> None:
        generator = seeded(1000 + step)
        images, labels = (
            torch.randn(8, 3, 6, 6, generator=generator),
            torch.randint(10, (8,), generator=generator),
        )
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(images), labels).backward()

    def _change(self, moment: Moment) -> None:
        if self.method.gradient == "dense":
            self._gradients(moment.step)
        found = {
            name: weight.grad.clone()
            for name, weight in masks.prunable(self.model).items()
            if weight.grad is not None and self.method.gradient != "none"
        }
        change = Change(
            moment, self.mask, [], self._weights(), self._momentum(), found, self.memory.get("threshold")
        )
        now = situation(self.model, self.mask, moment, found, 7919 * self.seed + moment.step + 1, self.memory)
        change.masks = list(self.method.update_mask(now))
        assert all(torch.equal(one, change.weights[name]) for name, one in self._weights().items())
        for mask in change.masks:
            masks.check(self.model, mask)
            masks.apply_to_weights(self.model, mask)
            masks.apply_to_state(self.optimizer, self.model, mask)
            self.mask = mask
        change.weights_after, change.momentum_after = self._weights(), self._momentum()
        change.threshold_after = self.memory.get("threshold")
        self.changes.append(change)

    def _weights(self) -> Tensors:
        return {name: weight.detach().clone() for name, weight in masks.prunable(self.model).items()}

    def _momentum(self) -> Tensors:
        return {
            name: self.optimizer.state[weight]["momentum_buffer"].clone()
            if weight in self.optimizer.state
            else torch.zeros_like(weight.detach())
            for name, weight in masks.prunable(self.model).items()
        }
