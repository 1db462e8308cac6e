"""Average-case sharpness: the expected loss rise under Gaussian perturbations of the kept weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from analysis.sharpness.measure import Settings, Sharpness, from_many
from analysis.sharpness.objective import Objective
from landscape.engine.totals import Totals


def gaussian(objective: Objective, settings: Settings) -> Sharpness:
    """``E[L(w + σz)] − L(w)``, z standard normal: σ²/2 times the Hessian's trace to second order.

    Neyshabur, Bhojanapalli, McAllester and Srebro, "Exploring generalization in deep learning", NeurIPS 2017:
    the expected sharpness of the PAC-Bayes bound. Not invariant to rescaling of the weights.
    """
    return _average(objective, settings, torch.full_like(objective.weights, settings.sigma))


def gaussian_weight(objective: Objective, settings: Settings) -> Sharpness:
    """``E[L(w + σ |w| ⊙ z)] − L(w)``: each weight is perturbed in proportion to its size.

    The average-case, element-wise adaptive sharpness of Andriushchenko, Croce, Müller, Hein and Flammarion,
    "A modern look at the relationship between sharpness and generalization", ICML 2023; cf. the
    magnitude-aware perturbation of Jiang et al., "Fantastic generalization measures and where to find
    them", ICLR 2020. Invariant to rescaling of weights that leaves the function as it is.
    """
    return _average(objective, settings, settings.relative_sigma * objective.weights.abs())


def gaussian_filter(objective: Objective, settings: Settings) -> Sharpness:
    """``E[L(w + ε)] − L(w)``, ε normal with σ times the root mean square of the weight's filter.

    Noise in proportion to the filters' norms as in Bisla, Wang and Choromanska, "Low-pass filtering SGD for
    recovering flat optima in the deep learning optimization landscape", AISTATS 2022. A filter
    is a slice along the first axis, of which kept weights alone count and move; so
    ``E‖ε_f‖² = σ² ‖w_f‖²``. In tensors of one dimension each entry is a filter.
    """
    return _average(objective, settings, settings.relative_sigma * _filter_rms(objective))


def _average(objective: Objective, settings: Settings, scale: Tensor) -> Sharpness:
    """Mean over antithetic pairs ±ε, and its standard error over the pairs.

    In a pair the odd part of the loss, above all the gradient's, cancels exactly instead of on average; it is
    what makes single draws noisy where the weights are no minimum of this loss. The pairs are independent of
    each other, the two losses within one are not, so the standard error counts pairs.
    """
    pairs = []
    for number in range(settings.draws):
        shift = scale * objective.normal(settings.seed, 0, number)
        pairs.append(_mean(objective.evaluate(shift), objective.evaluate(-shift)))
    return from_many(objective.center, pairs, details={"pairs": len(pairs)})


def _mean(first: Totals, second: Totals) -> Totals:
    return replace(first, sums={"loss": (first.sums["loss"] + second.sums["loss"]) / 2})


def _filter_rms(objective: Objective) -> Tensor:
    """Root mean square of the kept weights in each weight's filter, ``[n]``."""
    space = objective.space
    weights, kept = space.expand(objective.weights), space.expand(torch.ones_like(objective.weights))
    norms = []
    for value, here in zip(weights, kept, strict=True):
        rows = value.flatten(1) if value.dim() > 1 else value.reshape(-1, 1)
        count = here.reshape(rows.shape).sum(1, keepdim=True).clamp(min=1)
        rms = ((rows**2).sum(1, keepdim=True) / count).sqrt()
        norms.append(rms.expand(rows.shape).reshape(value.shape))
    return space.restrict(norms)
