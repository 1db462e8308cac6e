"""A loss or a backward that raises, at the weights or beside them: one line with the cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from analysis.connectivity import Training, connect
from analysis.curvature.points import PointSolver
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import as_examples
from landscape.errors import UserError
from landscape.losses import LossResult, classification


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    inputs = torch.randn(20, 4)
    return inputs, (inputs[:, 0] > 0).long()


class Likelihood(nn.Module):
    """Of a normal distribution whose scale, a parameter, must stay above 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.scale = nn.Linear(4, 1), nn.Parameter(torch.tensor([[0.01]]))

    def forward(self, inputs: Tensor) -> Any:
        return torch.distributions.Normal(self.mean(inputs), self.scale.expand(len(inputs), 1))


def likelihood(model: Any, batch: Any) -> LossResult:
    return -model(batch[0]).log_prob(batch[1].float()[:, None])[:, 0], len(batch[0])


class Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return 2 * values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise ValueError("no backward for you")


class Twice(torch.autograd.Function):
    """Whose backward can't be differentiated, and says so in its own words."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError("once only")
        return 2 * ctx.saved_tensors[0] * gradient


class Network(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.between = nn.Linear(4, 5), nn.Linear(5, 2), between

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.second(self.between(self.first(inputs)))
        return result


def raising(values: Tensor) -> Tensor:
    result: Tensor = Raising.apply(values)
    return result


def twice(values: Tensor) -> Tensor:
    result: Tensor = Twice.apply(values)
    return result


def reentrant(values: Tensor) -> Tensor:
    result: Tensor = checkpoint(torch.tanh, values, use_reentrant=True)
    return result


def spectrum(model: nn.Module) -> Any:
    return hessian_spectrum(model, data(), top=1, bottom=0, density_probes=0, max_probes=8)


def sam(model: nn.Module) -> Any:
    return sharpness(model, data(), measures=["sam"])


def curve(model: nn.Module, other: nn.Module | None = None, given: Any = None) -> Any:
    training = Training(steps=2)
    return connect(model, other or model, given or data(), points=3, training=training, device="cpu")


@pytest.mark.parametrize("measure", ["gaussian", "sam_ascent"])
def test_a_loss_that_fails_off_the_centre(measure: str) -> None:
    with pytest.raises(UserError, match=r"fails at weights moved by 0\.0\d+: ValueError: Expected parameter"):
        sharpness(Likelihood(), data(), loss=likelihood, measures=[measure])


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("ask", [spectrum, sam, curve])
@pytest.mark.parametrize(
    ("between", "words"),
    [
        (raising, r"ValueError: no backward for you \(test_failing"),
        (reentrant, "call it with use_reentrant=F"),
    ],
)
def test_a_backward_that_fails(ask: Any, between: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        ask(Network(between))
    assert "\n" not in str(error.value)


def test_a_backward_without_a_second_one_is_differenced() -> None:
    """Whatever it raises, as torch's own RuntimeError."""
    exact = Network(torch.square)
    found, expected = (HessianOperator(one, data(), dtype="float64") for one in (Network(twice), exact))
    assert found.about["derivatives"] == "differences"
    assert found.about["differences_because"] == "once only"
    vector = np.random.default_rng(0).standard_normal(found.size)
    np.testing.assert_allclose(found.matvec(vector), expected.matvec(vector), rtol=1e-4, atol=1e-7)
    one, two = (sharpness(net, data(), measures=["fisher_rao"]) for net in (Network(twice), exact))
    assert one["fisher_rao"].value == pytest.approx(two["fisher_rao"].value, rel=1e-3)


def test_batches_whose_backward_fails_are_said_where_all_are_seen() -> None:
    """The first ones, on which derivatives are looked at, are right."""

    def loss(model: Any, batch: Any) -> LossResult:
        inputs, labels = batch
        marked = bool((labels == 1).any())
        values, count, more = classification(model, (inputs, labels))  # type: ignore[misc]
        return (raising(values) if marked and values.requires_grad else 2 * values), count, more

    inputs, labels = data()
    order = labels.argsort()
    batches = [(inputs[one], labels[one]) for one in order.split(4)]
    with pytest.raises(UserError, match=r"at the weights: ValueError: no backward for you"):
        HessianOperator(Network(torch.tanh), batches, loss=loss).gradient()
    with pytest.raises(UserError, match=r"ValueError: no backward for you"):
        sharpness(Network(torch.tanh), batches, loss=loss, measures=["sam"])


def test_a_point_of_a_map_where_the_loss_fails() -> None:
    model = Likelihood()
    away = {"scale": -torch.ones_like(model.scale)}
    solver = PointSolver(model, [away], as_examples(data()), loss=likelihood)
    with pytest.raises(UserError, match=r"the point \(1\).*Expected parameter scale"):
        solver.solve([1.0])


def test_a_curve_between_networks_with_sparse_gradients() -> None:
    class Embedded(nn.Module):
        def __init__(self, seed: int, *, sparse: bool) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.words, self.out = nn.Embedding(7, 3, sparse=sparse), nn.Linear(3, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.out(self.words(tokens))
            return result

    torch.manual_seed(2)
    given = torch.randint(7, (20,)), torch.randint(2, (20,))
    found, expected = (
        curve(Embedded(0, sparse=sparse), Embedded(1, sparse=sparse), given) for sparse in (True, False)
    )
    for name, value in expected.bend.items():
        assert torch.equal(found.bend[name], value)
