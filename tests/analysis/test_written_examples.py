"""A network that writes into its input: the caller's examples stay as they are, and the numbers are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from engine_cases import tensors_or_batches
from torch import Tensor, nn

from analysis.connectivity import Training, connect
from analysis.curvature import Plan, curvature_map
from analysis.hessian import hessian_spectrum
from analysis.hessian.operator import HessianOperator
from analysis.sharpness import sharpness
from landscape import compute_surface


class Writing(nn.Module):
    """Whose first layer works in place, again and again with the same result; or doesn't."""

    def __init__(self, seed: int = 0, first: Callable[[Tensor], Tensor] = torch.relu_) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.norm, self.layer, self.first = nn.BatchNorm1d(5), nn.Linear(5, 3), first

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.norm(self.first(x)))


def spectrum(data: Any, first: Any) -> Any:
    return hessian_spectrum(Writing(0, first), data, top=2).top.values.tolist()


def product(data: Any, first: Any) -> Any:
    made = HessianOperator(Writing(0, first), data, derivatives="exact")
    return made.matvec(torch.ones(made.size).numpy()).tolist()


def measures(data: Any, first: Any) -> Any:
    found = sharpness(Writing(0, first), data, measures=("sam", "gaussian", "lambda_max"), progress=None)
    return [one.value for one in found.values()]


def bend(data: Any, first: Any) -> Any:
    return (
        connect(
            *(Writing(seed, first) for seed in (0, 1)),
            data,
            training=Training(steps=3),
            points=3,
            batch_norm="recalibrate",
            progress=None,
        )
        .surfaces["bezier"]
        .loss.ravel()
        .tolist()
    )


def curvature(data: Any, first: Any) -> Any:
    model = Writing(0, first)
    told: dict[str, Any] = {"exact_grid": True, "batch_norm": "recalibrate", "progress": None}
    surface = compute_surface(model, data, points=3, **told)
    found = curvature_map(surface, model, data, plan=Plan(max_points=9), progress=None)
    return found.metric("lambda_max").values.ravel().tolist()


@pytest.mark.parametrize("given", [True, False], ids=["batches", "tensors"])
@pytest.mark.parametrize("work", [spectrum, product, measures, bend, curvature])
def test_examples_stay_as_they_are(work: Callable[[Any, Any], Any], given: bool) -> None:
    inputs, _, data = tensors_or_batches(given)
    before = inputs.clone()
    found = work(data, torch.relu_)
    assert torch.equal(inputs, before)
    assert found == pytest.approx(work(data, torch.relu), rel=1e-5)
