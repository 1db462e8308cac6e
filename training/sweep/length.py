"""How many epochs a run of a plan has, before it is started."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.images import read_images
from training.config import RunConfig
from training.schedule import plan

_CIFAR = {"cifar10": 10, "cifar100": 100}  # classes; 50,000 training images, as many of each


def planned_epochs(config: RunConfig) -> int:
    """Epochs of all rounds, those before the point that later rounds are rewound to counted once.

    Where the images aren't there yet, a rewound round counts as a whole one.

    Raises
    ------
    UserError
        When the rounds don't fit the warm-up, the milestones or the point that they are rewound to.
    """
    rounds, rewind_step = config.method.round_epochs(config.epochs), config.method.rewind_step
    images = training_images(config) if rewind_step else None
    if images is None:
        return len(plan(rounds, 0, 1, config.warmup, config.milestones))
    steps = math.ceil(images / config.batch_size)
    return len(plan(rounds, rewind_step, steps, config.warmup, config.milestones))


def training_images(config: RunConfig) -> int | None:
    """Images that the run trains on: all but those held out, or as many as it asks for; None if unknown."""
    if config.examples is not None:
        return config.examples
    counts = _class_counts(config.data)
    return None if counts is None else sum(count - round(config.validation * count) for count in counts)


@cache
def _class_counts(data: str) -> tuple[int, ...] | None:
    """Training images of each class; None when they can't be read here and now."""
    if data in _CIFAR:
        return (50_000 // _CIFAR[data],) * _CIFAR[data]
    seen: list[NDArray[np.int64]] = []

    def first(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        seen.append(labels)
        return np.arange(1)

    try:
        read_images(data, "train", choose=first)
    except UserError:
        return None  # the run itself will say it
    return tuple(int(count) for count in np.unique(seen[0], return_counts=True)[1])
