"""SAM sharpness: the largest loss rise within a Euclidean ball (Foret et al. 2021)."""

from __future__ import annotations

import torch

from analysis.sharpness.ascent import Ball, highest, steepest
from analysis.sharpness.measure import Settings, Sharpness
from analysis.sharpness.objective import Objective


def sam(objective: Objective, settings: Settings) -> Sharpness:
    """``L(w + ε̂) − L(w)`` with ``ε̂ = ρ ∇L / ‖∇L‖``, a lower bound of ``max_{‖ε‖₂ ≤ ρ} L(w + ε) − L(w)``.

    Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-aware minimization for efficiently improving
    generalization", ICLR 2021: the first-order solution, equation (2), for p = 2. Exact for a loss that is
    linear in the ball; 0 where the gradient vanishes, which says nothing about the curvature there.
    """
    return steepest(objective, _ball(objective, settings))


def sam_ascent(objective: Objective, settings: Settings) -> Sharpness:
    """``max_{‖ε‖₂ ≤ ρ} L(w + ε) − L(w)`` searched for by projected gradient ascent; a lower bound.

    The inner maximum of Foret et al. 2021 (section 2) itself, with the multi-step ascent of Madry et al.,
    "Towards deep learning models resistant to adversarial attacks", ICLR 2018, in weight space.
    """
    return highest(objective, _ball(objective, settings), settings, purpose=1)


def _ball(objective: Objective, settings: Settings) -> Ball:
    return Ball("sphere", settings.rho, torch.ones_like(objective.weights))
