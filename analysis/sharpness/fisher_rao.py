"""Fisher-Rao norm of the weights (Liang et al. 2019)."""

from __future__ import annotations

from math import sqrt

from analysis.sharpness.measure import Settings, Sharpness, from_totals
from analysis.sharpness.objective import Objective


def fisher_rao(objective: Objective, settings: Settings) -> Sharpness:
    """``‖w‖_fr = √⟨w, I w⟩`` with ``I = E[∇ℓ ∇ℓᵀ]``, which is ``√E[⟨w, ∇ℓ⟩²]``.

    Liang, Poggio, Rakhlin and Stokes, "Fisher-Rao metric, geometry, and complexity of neural networks",
    AISTATS 2019, Definition 2, over the given examples and their labels (the empirical form: the labels are
    not drawn from the model). w are the kept weights. For a network without biases of L + 1 linear layers
    with positively homogeneous activations it equals ``(L + 1) √E[⟨∂ℓ/∂f, f⟩²]`` (their Theorem 3.1).
    """
    slopes = objective.along(objective.weights)
    totals = objective.totals_of([one.double() ** 2 for one in slopes])
    return from_totals(
        objective.center,
        totals,
        lambda _, mean: sqrt(mean) if mean < float("inf") else float("inf"),
        details={"squared": totals.mean("loss")},
        signed=False,
    )
