"""A result doesn't depend on how batches are cut: sums and values for which it would are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from analysis.hessian import hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.errors import UserError

WEIGHTS = torch.tensor([1.0, 5.0, 0.2])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def data() -> tuple[Tensor, Tensor]:
    """Sorted by class, as folders of images are: the first ones have one label."""
    torch.manual_seed(1)
    return torch.randn(300, 4), torch.randint(3, (300,)).sort().values


def batches() -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(one.split(70) for one in data()), strict=True))


def weighted_mean(model: Any, batch: Any) -> Any:
    return F.cross_entropy(model(batch[0]), batch[1], weight=WEIGHTS) * len(batch[1]), len(batch[1])


def without_a_label(model: Any, batch: Any) -> Any:
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=0) * len(batch[1]), len(batch[1])


def with_decay(model: Any, batch: Any) -> Any:
    decay = 0.01 * torch.stack([one.square().sum() for one in model.parameters()]).sum()
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum") + decay, len(batch[1])


def centred(model: Any, batch: Any) -> Any:
    scores = model(batch[0])
    return F.cross_entropy(scores - scores.mean(0), batch[1], reduction="none"), len(batch[1])


def odd_metric(model: Any, batch: Any) -> Any:
    scores = model(batch[0])
    values = F.cross_entropy(scores, batch[1], reduction="none")
    return values, len(values), {"spread": scores.var()}


Compute = Callable[[Any, Any], object]
ALL: list[Compute] = [
    lambda of, loss: compute_surface(network(), of, loss=loss, points=3, device="cpu"),
    lambda of, loss: hessian_spectrum(network(), of, loss=loss, top=1, density_probes=0),
    lambda of, loss: sharpness(network(), of, loss=loss, measures=["sam"]),
]


@pytest.mark.parametrize("compute", ALL, ids=["surface", "hessian", "sharpness"])
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (weighted_mean, "no sum over examples .a weighted mean"),
        (without_a_label, "no sum over examples"),
        (with_decay, "once per batch, whatever its size .a penalty"),
        (centred, "depends on the others in its batch"),
    ],
)
def test_what_depends_on_how_batches_are_cut(compute: Compute, loss: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        compute(data(), loss)
    assert "\n" not in str(error.value)


def test_a_metric_is_a_sum_too() -> None:
    with pytest.raises(UserError, match="as 'spread'"):
        ALL[0](data(), odd_metric)


def test_a_penalty_once_per_batch_is_refused_in_batches_of_ones_own_too() -> None:
    with pytest.raises(UserError, match="once per batch"):
        ALL[0](batches(), with_decay)


def test_batches_of_ones_own_are_the_unit() -> None:
    """A weighted mean of each, weighted by their numbers of examples; and a penalty with every example."""
    model = network().double()
    parts = [(x.double(), y) for x, y in batches()]
    weights = WEIGHTS.double()
    with torch.no_grad():
        of_batches = [float(F.cross_entropy(model(x), y, weight=weights)) * len(y) for x, y in parts]
        decay = 0.01 * sum(float(one.square().sum()) for one in model.parameters())
        inputs, labels = data()
        plain = float(F.cross_entropy(model(inputs.double()), labels))

    def decayed(model: Any, batch: Any) -> Any:
        count = len(batch[1])
        values, _ = with_decay(model, batch)
        penalty = 0.01 * torch.stack([one.square().sum() for one in model.parameters()]).sum()
        return values + (count - 1) * penalty, count

    found = compute_surface(network(), batches(), loss=weighted_mean, points=3, device="cpu")
    assert found.loss[1, 1] == pytest.approx(sum(of_batches) / 300, rel=1e-6)
    found = compute_surface(network(), data(), loss=decayed, points=3, device="cpu")
    assert found.loss[1, 1] == pytest.approx(plain + decay, rel=1e-6)
