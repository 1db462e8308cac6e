"""ASAM's adaptive sharpness: the ball is stretched by the size of each weight (Kwon et al. 2021)."""

from __future__ import annotations

from analysis.sharpness.ascent import Ball, highest, steepest
from analysis.sharpness.measure import Settings, Sharpness
from analysis.sharpness.objective import Objective


def asam(objective: Objective, settings: Settings) -> Sharpness:
    """``L(w + ε̂) − L(w)`` with ``ε̂ = ρ T² ∇L / ‖T ∇L‖`` and ``T = diag(|w| + η)``; a lower bound.

    Kwon, Kim, Park and Choi, "ASAM: Adaptive sharpness-aware minimization for scale-invariant learning of
    deep neural networks", ICML 2021: their adaptive sharpness ``max_{‖T⁻¹ε‖₂ ≤ ρ} L(w + ε) − L(w)`` by
    their first-order solution, with the element-wise operator and its offset η on every kept weight, biases
    and normalization included. With η > 0 it is only nearly invariant to rescaling.
    """
    return steepest(objective, _ball(objective, settings))


def asam_ascent(objective: Objective, settings: Settings) -> Sharpness:
    """The same maximum searched for by projected gradient ascent in the coordinates T⁻¹ε; a lower bound."""
    return highest(objective, _ball(objective, settings), settings, purpose=2)


def _ball(objective: Objective, settings: Settings) -> Ball:
    return Ball("sphere", settings.adaptive_rho, objective.weights.abs() + settings.eta)
