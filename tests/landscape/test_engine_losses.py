"""Losses of every kind: sums, dict batches, other attributes of the model, gradients by the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import directions, examples, images, moved, network, plain_values
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.engine.totals import Totals, batch_values, total
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import LossResult, classification, regression

POINT = (0.4, -0.3)


def summed(model: Any, batch: Any) -> LossResult:
    scores = model(batch["image"])
    right = (scores.argmax(1) == batch["label"]).sum()
    return F.cross_entropy(scores, batch["label"], reduction="sum"), len(scores), {"accuracy": right}


def dict_batches() -> list[dict[str, Tensor]]:
    inputs, labels = images()
    return [{"image": a, "label": b} for a, b in zip(inputs.split(8), labels.split(8), strict=True)]


def test_sums_over_given_batches_of_any_structure() -> None:
    model = network("vgg")
    data = {"test": Examples.from_batches(iter(dict_batches()))}
    engine = Engine(model, data, summed, directions(model), blocks=3)
    totals = engine.evaluate(POINT)["test"]
    losses, correct = plain_values(model, directions(model), POINT)
    assert engine.about["folded"]
    assert engine.about["batch_size"] is None
    assert totals.counts.tolist() == [16, 16, 18]  # 2, 2 and 3 batches of 8, the last one of 2
    blocks = [float(part.sum()) for part in losses.split([16, 16, 18])]
    np.testing.assert_allclose(totals.sums["loss"], blocks, rtol=1e-5)
    assert totals.mean("accuracy") == pytest.approx(float(correct.mean()))
    assert np.isnan(totals.stderr("loss"))


def test_values_and_sums_may_be_mixed() -> None:
    def loss(model: Any, batch: Any) -> LossResult:
        values, count, _ = classification(model, batch)  # type: ignore[misc]
        return values, count, {"total": values.sum()}

    model = network("vgg")
    totals = Engine(model, examples(), loss, directions(model), batch_size=10).evaluate(POINT)["test"]
    assert totals.counts.tolist() == [10] * 5
    np.testing.assert_allclose(totals.sums["loss"], totals.sums["total"], rtol=1e-6)
    assert np.isfinite(totals.stderr("loss"))
    assert np.isnan(totals.stderr("total"))


def test_loss_that_uses_the_module_itself() -> None:
    def decayed(model: Any, batch: Any) -> LossResult:
        loss, count, *_ = classification(model, batch)
        return loss + 1e-2 * sum(one.square().sum() for one in model.parameters()), count

    model = network("resnet option A")
    engine = Engine(model, examples(), decayed, directions(model))
    assert not engine.about["folded"]
    assert "'parameters'" in engine.about["unfolded_because"]
    losses, _ = plain_values(model, directions(model), POINT)
    weights = list(moved(model, directions(model), POINT).parameters())
    expected = float(losses.mean()) + 1e-2 * sum(float(one.detach().square().sum()) for one in weights)
    assert engine.evaluate(POINT)["test"].mean("loss") == pytest.approx(expected, rel=1e-5)


def test_loss_that_needs_a_module() -> None:
    def strict(model: Any, batch: Any) -> LossResult:
        if not isinstance(model, nn.Module):
            raise TypeError("a module, please")
        return classification(model, batch)

    model = network("vgg")
    engine = Engine(model, examples(), strict, directions(model))
    assert engine.about["unfolded_because"] == "the loss needs the module itself"
    losses, _ = plain_values(model, directions(model), POINT)
    assert engine.evaluate(POINT)["test"].mean("loss") == pytest.approx(float(losses.mean()), rel=1e-5)


def test_loss_that_differentiates_by_the_inputs() -> None:
    """As for physics-informed networks: u' = u, residual squared."""

    def residual(model: Any, batch: Any) -> LossResult:
        (x,) = batch
        x = x.detach().requires_grad_()
        u = model(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return (slope - u).square().flatten(), len(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.linspace(0, 1, 30)[:, None]
    along = directions(model)
    engine = Engine(model, {"points": Examples.from_tensors(x)}, residual, along, dtype="float64")
    other = moved(model.double(), along, POINT)
    step = 1e-5
    with torch.no_grad():
        slope = (other(x.double() + step) - other(x.double() - step)) / (2 * step)
        expected = float((slope - other(x.double())).square().mean())
    assert engine.evaluate(POINT)["points"].mean("loss") == pytest.approx(expected, rel=1e-7)
    assert engine.about["unfolded_because"] == "the loss needs gradients"


def test_network_with_two_inputs_and_keywords() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3)) * scale[:, None]

    def loss(model: Any, batch: Any) -> LossResult:
        inputs, labels, scale = batch
        return F.cross_entropy(model(inputs, scale=scale), labels, reduction="none"), len(labels)

    model = Two()
    inputs, labels = images()
    data = {"test": Examples.from_tensors(inputs, labels, torch.linspace(0, 1, 50))}
    engine = Engine(model, data, loss, directions(model))
    assert "more than one" in engine.about["unfolded_because"]
    with torch.no_grad():
        expected, _ = loss(moved(model, directions(model), POINT), data["test"].tensors)  # type: ignore[misc]
    assert engine.evaluate(POINT)["test"].mean("loss") == pytest.approx(float(expected.mean()), rel=1e-5)


def test_regression() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    x, y = torch.randn(20, 4), torch.randn(20, 3)
    engine = Engine(model, {"d": Examples.from_tensors(x, y)}, regression, [])
    with torch.no_grad():
        expected = F.mse_loss(model(x), y)
    assert engine.evaluate([])["d"].mean("loss") == pytest.approx(float(expected), rel=1e-6)


def test_tokens() -> None:
    """A language model's scores ``[N, T, vocabulary]`` with a loss of one's own."""
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 11))
    tokens = torch.randint(0, 11, (9, 5))

    def loss(model: Any, batch: Any) -> LossResult:
        scores = model(batch["tokens"])
        return F.cross_entropy(scores.transpose(1, 2), batch["next"], reduction="none").mean(1), len(scores)

    data = {
        "text": Examples.from_batches(
            [{"tokens": tokens[:6], "next": tokens[:6]}, {"tokens": tokens[6:], "next": tokens[6:]}]
        )
    }
    totals = Engine(model, data, loss, directions(model)).evaluate(POINT)["text"]
    with torch.no_grad():
        scores = moved(model, directions(model), POINT)(tokens)
    expected = F.cross_entropy(scores.transpose(1, 2), tokens)
    assert totals.mean("loss") == pytest.approx(float(expected), rel=1e-5)


def test_values_that_are_not_finite_flow_through() -> None:
    def broken(model: Any, batch: Any) -> LossResult:
        loss, count, *_ = classification(model, batch)
        return torch.where(batch[1] == 0, torch.inf, loss), count

    model = network("vgg")
    totals = Engine(model, examples(), broken, directions(model)).evaluate(POINT)["test"]
    assert totals.mean("loss") == np.inf
    assert not np.isfinite(totals.stderr("loss"))


def test_weights_that_overflow() -> None:
    model = network("vgg")
    totals = Engine(model, examples(), classification, directions(model)).evaluate((1e30, 0.0))["test"]
    assert not np.isfinite(totals.mean("loss"))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda values: values, "returned Tensor"),
        (lambda values: (values[:, None], 50), "shape"),
        (lambda values: (values[:-1], len(values)), "one value per example"),
        (lambda values: (3.0, len(values)), "returned float as 'loss'"),
    ],
)
def test_losses_that_break_the_contract(result: Any, message: str) -> None:
    def loss(model: Any, batch: Any) -> Any:
        return result(classification(model, batch)[0])

    with pytest.raises(UserError, match=message):
        Engine(network("vgg"), examples(), loss, [])


def per_batch(*results: tuple[Any, ...]) -> Totals:
    """What comes of a loss that gives these, a batch each, in three blocks."""
    return total([batch_values(one) for one in results], 3)


def test_batches_of_one_example_may_give_a_value_or_a_sum() -> None:
    one, two, three = torch.tensor(1.0), torch.tensor([2.0, 4.0]), torch.tensor([3.0, 5.0, 7.0])
    for first in (one, one.reshape(1)):
        values = per_batch((first, 1), (two, 2), (three, 3))
        assert values.counts.tolist() == [2, 2, 2]
        assert values.sums["loss"].tolist() == [3.0, 7.0, 12.0]
        assert values.squares["loss"] == 104.0
        sums = per_batch((first, 1), (two.sum(), 2), (three.sum(), 3))
        assert sums.counts.tolist() == [1, 2, 3]
        assert sums.sums["loss"].tolist() == [1.0, 6.0, 15.0]
        assert np.isnan(sums.squares["loss"])
    alone = per_batch((one, 1), (one, 1))
    assert np.isnan(alone.squares["loss"])  # sums, as before
    assert per_batch((one, 1), (one.reshape(1), 1)).squares["loss"] == 2.0


def test_batches_in_which_nothing_counts_make_no_block() -> None:
    nothing, some = torch.tensor(0.0), torch.tensor(6.0)
    found = per_batch((nothing, 0), (some, 2), (nothing, 0), (nothing, 0), (some, 3), (nothing, 0))
    assert found.counts.tolist() == [2, 3]
    assert found.sums["loss"].tolist() == [6.0, 6.0]
    values = torch.ones(2)
    mixed = per_batch((values, 2, {"m": some}), (values[:0], 0, {"m": nothing}), (values, 2, {"m": some}))
    assert mixed.counts.tolist() == [2, 2]
    assert mixed.sums["loss"].tolist() == [2.0, 2.0]
    assert mixed.sums["m"].tolist() == [6.0, 6.0]
    many = per_batch(*[(some, 1 + number) for number in range(5)])
    assert many.counts.tolist() == [1, 5, 9]


def test_batches_must_give_the_same() -> None:
    values = torch.ones(2)
    for second in ((values.sum(), 2), (values, 2, {"m": values})):
        for results in (((values, 2), second), (second, (values, 2))):
            with pytest.raises(UserError, match=r"sum of 'loss' for some|loss, m for|for batch 1 .from 0"):
                per_batch(*results)
    with pytest.raises(UserError, match="the sum of 'm' for some batches and one value per example"):
        per_batch((values, 2, {"m": values}), (values, 2, {"m": values.sum()}))


@pytest.mark.parametrize("which", ["jvp", "jacobian", "hessian"])
def test_derivatives_of_autograd_functional(which: str) -> None:
    """They are 0, and nobody is told, where tensors are made in inference mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    points = torch.linspace(-1, 1, 20).reshape(-1, 1)

    def slopes(model: Any, points: Tensor) -> Tensor:
        functional = torch.autograd.functional
        if which == "jvp":
            return functional.jvp(model, points, torch.ones_like(points), create_graph=True)[1][:, 0]
        each = functional.hessian if which == "hessian" else functional.jacobian
        return torch.stack([each(lambda x: model(x).sum(), one, create_graph=True).sum() for one in points])

    def residual(model: Any, batch: Any) -> Any:
        return (slopes(model, batch[0]) - batch[0].cos()[:, 0]) ** 2, len(batch[0])

    expected = float(residual(model, (points,))[0].detach().mean())
    found = compute_surface(model, (points,), loss=residual, points=3, device="cpu")
    assert found.loss[1, 1] == pytest.approx(expected, rel=1e-5)
    assert np.unique(found.loss).size == 9
