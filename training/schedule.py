"""Learning rate over a training, and the plan of a run that trains in rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from landscape.errors import UserError


@dataclass(frozen=True)
class Epoch:
    """One epoch of a run.

    Attributes
    ----------
    round, number, epochs
        Its round, its number in that round (both from 0), and the epochs of the round's schedule.
    opens_round
        Whether a round after the first begins with it.
    """

    round: int
    number: int
    epochs: int
    opens_round: bool = False


def plan(
    round_epochs: Sequence[int],
    rewind_step: int,
    steps_per_epoch: int,
    warmup: float = 0.0,
    milestones: Sequence[float] = (),
) -> list[Epoch]:
    """All epochs of a run in order; rounds after the first begin in the epoch that holds `rewind_step`.

    Each round has the whole schedule of the learning rate, its own `warmup` epochs and `milestones` included;
    a rewound one takes it up at `rewind_step`.

    Raises
    ------
    UserError
        When a round has no epoch, would be rewound to its end or beyond, or ends before its warm-up does or
        before its last milestone.
    """
    if min(round_epochs) < 1:
        raise UserError(f"rounds of {list(round_epochs)} epochs: expected at least 1 each")
    if rewind_step and rewind_step >= min(round_epochs) * steps_per_epoch:
        raise UserError(
            f"rewinding to step {rewind_step}: the shortest round has only "
            f"{min(round_epochs) * steps_per_epoch} steps; choose an earlier one"
        )
    if warmup > min(round_epochs):
        raise UserError(
            f"warmup {warmup:g}: every round warms up, and the shortest has only {min(round_epochs)} epochs; "
            "choose a lower --warmup or a higher --search-epochs"
        )
    if milestones and milestones[-1] >= min(round_epochs):
        given = " ".join(f"{one:g}" for one in milestones)
        raise UserError(
            f"milestones {given}: they are those of every round, and the shortest has only "
            f"{min(round_epochs)} epochs; choose earlier ones, or a higher --search-epochs"
        )
    epochs = []
    for number, length in enumerate(round_epochs):
        start = rewind_step // steps_per_epoch if number else 0
        epochs += [Epoch(number, one, length, number > 0 and one == start) for one in range(start, length)]
    return epochs


def lr_factor(
    step: int,
    steps_per_epoch: int,
    epochs: int,
    warmup: float,
    milestones: Sequence[float] = (),
    drop: float = 0.1,
) -> float:
    """Learning rate of a step (from 0) over its peak: linear warm-up, then half a cosine to 0.

    With `milestones`, in epochs, it falls by the factor `drop` at each of them instead.

    >>> [lr_factor(step, 2, 4, 0, milestones=(1, 3)) for step in (0, 1, 2, 5, 6)]
    [1.0, 1.0, 0.1, 0.1, 0.010000000000000002]
    """
    rising, total = warmup * steps_per_epoch, epochs * steps_per_epoch
    if step < rising:
        return (step + 1) / (math.floor(rising) + 1)
    if milestones:
        return float(drop) ** sum(step >= one * steps_per_epoch for one in milestones)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))
