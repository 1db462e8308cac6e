"""Largest loss in a ball around the weights, by one step and by projected gradient ascent.

The ball is a unit shape in coordinates u with ``ε = scale ⊙ u``: a Euclidean ball for SAM (scale 1) and ASAM
(scale ``|w| + η``), a box for Keskar. Whatever the search finds lies in the ball, so its loss is a lower
bound of the maximum; nothing here bounds it from above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from analysis.sharpness.measure import Settings, Sharpness, from_totals, rise_between
from analysis.sharpness.objective import Objective
from landscape.engine.totals import Totals

SMALLEST_STEP = 1e-7  # of the radius; below it nothing that is representable in float32 changes


@dataclass(frozen=True)
class Ball:
    """Allowed perturbations ``scale ⊙ u``: ``‖u‖₂ ≤ radius`` or, for a box, ``max |u| ≤ radius``."""

    shape: Literal["sphere", "box"]
    radius: float
    scale: Tensor

    def uphill(self, gradient: Tensor) -> Tensor:
        """The u of length `radius` along which the loss rises fastest; 0 where the gradient is."""
        slope = self.scale * gradient
        if self.shape == "box":
            return self.radius * slope.sign()
        length = slope.double().norm()
        return torch.zeros_like(slope) if not length else slope * (self.radius / length).to(slope)

    def project(self, point: Tensor) -> Tensor:
        """Nearest point of the ball."""
        if self.shape == "box":
            return point.clamp(-self.radius, self.radius)
        length = float(point.double().norm())
        return point * (self.radius / length) if length > self.radius else point

    def random(self, normal: Tensor) -> Tensor:
        """A point of the boundary from standard normal numbers: uniform, or a random corner of the box."""
        if self.shape == "box":
            return self.radius * normal.sign()
        return normal * (self.radius / float(normal.double().norm()))


@dataclass(frozen=True)
class Found:
    """Where a search ended: a perturbation and the losses there."""

    shift: Tensor
    totals: Totals

    @property
    def loss(self) -> float:
        """Mean loss; may be inf or NaN."""
        return self.totals.mean("loss")


def one_step(objective: Objective, ball: Ball) -> Found:
    """To the ball's boundary along the gradient at the weights."""
    _, gradient = objective.gradient()
    shift = ball.scale * ball.uphill(gradient)
    return Found(shift, objective.evaluate(shift))


def ascend(objective: Objective, ball: Ball, settings: Settings, purpose: int) -> list[Found]:
    """Projected gradient ascent from several starts: the one-step point first, then random boundary points.

    A step goes along the steepest direction for the ball's norm and is projected back. Its length starts at
    the radius, grows by half after a rise and is halved, from the best point, after a fall; so the loss never
    falls, and the first start ends no lower than the one-step point.
    """
    _, gradient = objective.gradient()
    first = ball.uphill(gradient)
    starts = [first] + [
        ball.random(objective.normal(settings.seed, purpose, number)) for number in range(1, settings.starts)
    ]
    return [_climb(objective, ball, start, settings.steps) for start in starts]


def _climb(objective: Objective, ball: Ball, start: Tensor, steps: int) -> Found:
    point, length = start, 1.0
    totals, gradient = objective.gradient(ball.scale * point)
    for _ in range(steps):
        if not isfinite(totals.mean("loss")) or length < SMALLEST_STEP:
            break
        candidate = ball.project(point + length * ball.uphill(gradient))
        moved, slope = objective.gradient(ball.scale * candidate)
        if moved.mean("loss") <= totals.mean("loss"):
            length /= 2
        else:  # higher, or not finite, which ends the search
            point, totals, gradient, length = candidate, moved, slope, 1.5 * length
    return Found(ball.scale * point, totals)


def steepest(
    objective: Objective,
    ball: Ball,
    function: Callable[[float, float], float] = rise_between,
) -> Sharpness:
    """The measure by one step."""
    return from_totals(objective.center, one_step(objective, ball).totals, function, kind="lower bound")


def highest(
    objective: Objective,
    ball: Ball,
    settings: Settings,
    purpose: int,
    function: Callable[[float, float], float] = rise_between,
) -> Sharpness:
    """The measure by projected ascent: the best start, and in `details` what every start found."""
    found = ascend(objective, ball, settings, purpose)
    center = objective.center.mean("loss")
    values = [function(center, one.loss) for one in found]
    best = max(range(len(found)), key=values.__getitem__)
    shown = [value if isfinite(value) else None for value in values]
    details = {"starts_found": shown, "spread_starts": _spread(values)}
    return from_totals(objective.center, found[best].totals, function, kind="lower bound", details=details)


def _spread(values: list[float]) -> float | None:
    """Largest minus smallest; None where one isn't finite, or there is only one."""
    spread = max(values) - min(values)
    return spread if len(values) > 1 and isfinite(spread) else None


def search_passes(settings: Settings) -> int:
    """Forward passes that a search takes at most."""
    return 3 * (1 + settings.starts * (1 + settings.steps))
