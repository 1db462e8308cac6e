"""What methods that prune and grow share: random growth, intervals, annealing, checks of their settings."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from landscape.errors import UserError
from training.sparsity.base import Moment
from training.sparsity.random import random_positions

Anneal = Literal["cosine", "constant"]


def grow_random(kept: Tensor, count: int, generator: torch.Generator, among: Tensor | None = None) -> Tensor:
    """`kept` and `count` more positions, uniformly at random from those not kept; bool of the same shape.

    With `among` (bool, same shape) only from there; all of them when there are fewer. Drawn on the CPU, so
    that a seed gives the same mask on every device.
    """
    free = ~kept if among is None else among & ~kept
    places = free.reshape(-1).nonzero().squeeze(1)
    chosen = random_positions(len(places), count, generator).to(kept.device)
    grown = kept.reshape(-1).clone()
    grown[places[chosen]] = True
    return grown.reshape(kept.shape)


def begins_interval(moment: Moment, epochs: float) -> bool:
    """Whether the next step is the first of an interval of so many epochs, rounded to whole steps."""
    return moment.step % max(1, whole_steps(epochs, moment)) == 0


def whole_steps(epochs: float, moment: Moment) -> int:
    """Steps of so many epochs, rounded; of numbers like 1e300 more than any training has."""
    return round(min(epochs * moment.steps_per_epoch, 2.0**62))


def annealed(start: float, share: float, anneal: Anneal) -> float:
    """A rate after a `share` of its time, 0 to 1: `start` for ever, or half a cosine from there to 0."""
    return start if anneal == "constant" else start / 2 * (1 + math.cos(math.pi * share))


def check_share(name: str, value: float) -> None:
    """Raise UserError unless 0 ≤ value ≤ 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} {value}: expected a share from 0 to 1")


def check_count(name: str, value: int) -> None:
    """Raise UserError unless 1 ≤ value ≤ 1,000,000."""
    if value < 1:
        raise UserError(f"{name} {value}: expected 1 or more")
    if value > 1_000_000:
        raise UserError(f"{name} {value}: expected 1,000,000 or fewer")


def check_positive(name: str, value: float) -> None:
    """Raise UserError unless 0 < value < ∞."""
    if not 0 < value < math.inf:
        raise UserError(f"{name} {value}: expected a positive number")
