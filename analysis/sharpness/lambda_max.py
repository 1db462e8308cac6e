"""λ_max of the Hessian over kept weights, plain and in the normalised forms that papers compare."""

from __future__ import annotations

import torch

from analysis.hessian.lanczos import Eigenpairs
from analysis.hessian.sampled import spread_over_examples
from analysis.sharpness.measure import Settings, Sharpness
from analysis.sharpness.objective import Objective
from analysis.sharpness.top_eigenvalue import hessian_of, top_pair


def lambda_max(objective: Objective, settings: Settings) -> Sharpness:
    """The largest eigenvalue of the mean loss's Hessian.

    Called the sharpness by Cohen, Kaur, Li, Kolter and Talwalkar, "Gradient descent on neural networks
    typically occurs at the edge of stability", ICLR 2021. Half of it times ρ² is the SAM sharpness at a
    minimum to second order. Changes when weights are rescaled
    without changing the function (Dinh, Pascanu, Bengio and Bengio, "Sharp minima can generalize for deep
    nets", ICML 2017).
    """
    return _measured(objective, _plain(objective, settings), 1.0)


def lambda_max_norm2(objective: Objective, settings: Settings) -> Sharpness:
    """``λ_max · ‖w‖²``, w the kept weights.

    For a loss that doesn't change when w is multiplied by a number, as with normalization layers, this is
    the spherical sharpness of Lyu, Li and Arora, "Understanding the generalization benefit of normalization
    layers: sharpness reduction", NeurIPS 2022: the largest eigenvalue at ``w/‖w‖``.
    """
    norm2 = float(objective.weights.double().square().sum())
    return _measured(objective, _plain(objective, settings), norm2, {"norm2": norm2})


def lambda_max_adaptive(objective: Objective, settings: Settings) -> Sharpness:
    """``λ_max(|W| H |W|)`` with ``|W| = diag(|w|)``: the curvature in units of each weight.

    Half of it times ρ² is the worst-case element-wise adaptive sharpness (ASAM's with η = 0) at a minimum
    to second order: Andriushchenko et al., "A modern look at the relationship between sharpness and
    generalization", ICML 2023. Invariant to rescaling that leaves the function as it is.
    """
    scale = objective.weights.abs()
    if "adaptive pair" not in objective.remembered:
        objective.remembered["adaptive pair"] = top_pair(objective, scale, settings.seed)
    return _measured(objective, objective.remembered["adaptive pair"], 1.0, scale=scale)


def _plain(objective: Objective, settings: Settings) -> Eigenpairs:
    if "top pair" not in objective.remembered:
        objective.remembered["top pair"] = top_pair(objective, None, settings.seed)
    pair: Eigenpairs = objective.remembered["top pair"]
    return pair


def _measured(
    objective: Objective,
    pair: Eigenpairs,
    factor: float,
    details: dict[str, float] | None = None,
    scale: torch.Tensor | None = None,
) -> Sharpness:
    """Value, residual, and the spread over examples of the curvature ``vᵀHv`` along the eigenvector.

    Leaving examples out changes the eigenvalue by the change of ``vᵀHv`` to first order.
    """
    vector = pair.vectors[0].to(objective.weights)
    direction = vector if scale is None else scale * vector
    hessian = hessian_of(objective)
    (spread,) = spread_over_examples(*hessian.forms(direction[:, None].to(hessian.torch_dtype)))
    objective.count(4)
    value = factor * float(pair.values[0])
    return Sharpness(
        value,
        value - factor * spread.error,
        value + factor * spread.error,
        factor * spread.stderr,
        details={
            **(details or {}),
            "residual": factor * float(pair.residuals[0]),
            "converged": bool(pair.converged[0]),
        },
    )
