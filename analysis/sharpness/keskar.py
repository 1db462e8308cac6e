"""ε-sharpness of Keskar et al. 2017: the largest relative loss rise within a box, in percent."""

from __future__ import annotations

from math import inf, isfinite, nan

from analysis.sharpness.ascent import Ball, highest
from analysis.sharpness.measure import Settings, Sharpness
from analysis.sharpness.objective import Objective
from landscape.errors import UserError


def keskar(objective: Objective, settings: Settings) -> Sharpness:
    """``100 · (max_{y ∈ C} f(w + y) − f(w)) / (1 + f(w))`` with ``C = {y: |y_i| ≤ ε (|w_i| + 1)}``.

    Keskar, Mudigere, Nocedal, Smelyanskiy and Tang, "On large-batch training for deep learning:
    generalization gap and sharp minima", ICLR 2017, Metric 2.1, equations (3) and (4), in the full space of
    kept weights (A is the identity). They search for the maximum with ten iterations of L-BFGS-B; here it is
    projected ascent whose steps follow the gradient's signs, the steepest direction of a box. Both give
    lower bounds.

    Raises
    ------
    UserError
        For a loss of -1 or below at the weights: a share of ``1 + f(w)`` says nothing there.
    """
    center = objective.center.mean("loss")
    if not 1 + center > 0:
        raise UserError(
            f"the loss at the weights is {center:.6g}, and Keskar's sharpness is a share of 1 + loss; "
            "expected one above -1, such as a cross-entropy: leave out the measure keskar"
        )
    ball = Ball("box", 1.0, settings.epsilon * (objective.weights.abs() + 1))
    return highest(objective, ball, settings, purpose=3, function=_percent)


def _percent(center: float, moved: float) -> float:
    if not 1 + center > 0:  # without one block of the examples; unknown
        return nan
    return 100 * (moved - center) / (1 + center) if isfinite(moved) else inf
