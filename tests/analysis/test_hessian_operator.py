"""Products against explicit Hessians: whole and restricted, folded and not, any batches, any memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hessian_cases import (
    EXAMPLES,
    Residual,
    convolutional,
    examples,
    explicit,
    kept,
    random_mask,
    residual,
    seeded,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from analysis.hessian.operator import HessianOperator
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import classification, regression
from landscape.provenance import digest

NETWORKS: dict[str, Callable[[], nn.Module]] = {"folded": convolutional, "residual": residual}


def whole(operator: HessianOperator) -> Any:
    return operator.matmat(np.eye(operator.size))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("memory", [0, 4 << 30])
def test_equals_the_explicit_hessian(name: str, memory: float) -> None:
    model, data = NETWORKS[name](), examples()
    loss, gradient, hessian = explicit(model, data)
    operator = HessianOperator(model, data, dtype="float64", batch_size=5, memory=memory)
    assert operator.about["folded"]
    assert operator.about["kept_batches"] == (5 if memory else 0)
    found_loss, found_gradient = operator.gradient()
    assert found_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(found_gradient, gradient, atol=1e-12)
    np.testing.assert_allclose(whole(operator), hessian, atol=1e-11)
    assert operator.products == operator.size == len(gradient)
    assert operator.examples == EXAMPLES


def test_a_network_that_cannot_be_traced_is_taken_as_it_is() -> None:
    class Branching(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.abs().sum() > 0 else x

    model, data = seeded(Branching, 0), examples()
    operator = HessianOperator(model, data, dtype="float64", batch_size=7)
    assert not operator.about["folded"]
    np.testing.assert_allclose(whole(operator), explicit(model, data)[2], atol=1e-11)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of TorchScript itself
def test_torchscript() -> None:
    model, data = convolutional().eval(), examples()
    traced = torch.jit.trace(model, data[0])
    for one in traced.parameters():  # as after loading
        one.requires_grad_(False)
    operator = HessianOperator(traced, data, dtype="float64", batch_size=10)
    np.testing.assert_allclose(whole(operator), explicit(model, data)[2], atol=1e-11)


@settings(max_examples=8)
@given(st.integers(1, EXAMPLES), st.booleans())
def test_the_cut_into_batches_does_not_matter(size: int, given_batches: bool) -> None:
    model, (inputs, targets) = convolutional(), examples()
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    data = Examples.from_batches(batches) if given_batches else (inputs, targets)
    vector = np.random.default_rng(size).standard_normal(99)
    operator = HessianOperator(model, data, dtype="float64", batch_size=size)
    one_batch = HessianOperator(model, (inputs, targets), dtype="float64", batch_size=EXAMPLES)
    np.testing.assert_allclose(operator.matvec(vector), one_batch.matvec(vector), atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_restricted_hessian_of_a_mask(name: str) -> None:
    model, data = NETWORKS[name](), examples()
    mask = random_mask(model)
    inside = kept(model, mask)
    _, gradient, hessian = explicit(model, data)
    operator = HessianOperator(model, data, mask=mask, dtype="float64", batch_size=9)
    assert operator.shape == (inside.sum(), inside.sum())
    np.testing.assert_allclose(whole(operator), hessian[np.ix_(inside, inside)], atol=1e-11)
    np.testing.assert_allclose(operator.gradient()[1], gradient[inside], atol=1e-12)
    directions = operator.to_directions(np.ones(operator.size))
    assert {key: one.shape for key, one in directions.items()} == {
        key: one.shape for key, one in model.named_parameters()
    }
    for key, kept_weights in mask.items():
        assert torch.equal(directions[key] != 0, kept_weights)
    vector = np.arange(operator.size, dtype=np.float64)
    np.testing.assert_array_equal(operator.from_directions(operator.to_directions(vector)), vector)


def test_several_vectors_are_multiplied_as_one_by_one_bit_for_bit() -> None:
    operator = HessianOperator(residual(), examples(), batch_size=6)
    vectors = np.random.default_rng(0).standard_normal((operator.size, 3)).astype(np.float32)
    together = operator.matmat(vectors)
    for column, vector in zip(together.T, vectors.T, strict=True):
        assert np.array_equal(column, operator.matvec(vector))
    nothing_kept = HessianOperator(residual(), examples(), batch_size=6, memory=0)
    assert np.array_equal(together, nothing_kept.matmat(vectors))


def test_scipy_takes_it() -> None:
    model, data = convolutional(), examples()
    operator = HessianOperator(model, data, dtype="float64")
    found = eigsh(operator, k=3, which="LA", tol=1e-12, return_eigenvectors=False)
    expected = np.linalg.eigvalsh(explicit(model, data)[2])[-3:]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_curvature_along_a_direction() -> None:
    model, data = convolutional(), examples()
    operator = HessianOperator(model, data, dtype="float64")
    hessian = explicit(model, data)[2]
    vector = np.random.default_rng(0).standard_normal(operator.size)
    expected = vector @ hessian @ vector / (vector @ vector)
    assert operator.curvature(vector) == pytest.approx(expected, rel=1e-10)
    assert operator.curvature(operator.to_directions(7 * vector)) == pytest.approx(expected, rel=1e-10)
    assert np.isnan(operator.curvature(np.zeros(operator.size)))


def test_only_parameters_that_require_a_gradient_span_the_space() -> None:
    model, data = convolutional(), examples()
    hessian = explicit(model, data)[2]
    for name in ("0.weight", "1.bias"):
        model.get_parameter(name).requires_grad_(False)
    inside = np.concatenate([np.full(one.numel(), one.requires_grad) for one in model.parameters()])
    operator = HessianOperator(model, data, dtype="float64")
    np.testing.assert_allclose(whole(operator), hessian[np.ix_(inside, inside)], atol=1e-11)
    for one in model.parameters():
        one.requires_grad_(False)
    assert HessianOperator(model, data, dtype="float64").size == len(hessian)


def test_a_weight_that_two_layers_share() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.first, self.second = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
            self.linear = nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.conv(torch.tanh(self.first(self.conv(x)))))
            return self.linear(x.flatten(1))  # type: ignore[no-any-return]

    model, data = seeded(Tied, 0), examples()
    operator = HessianOperator(model, data, dtype="float64")
    assert operator.about["folded"]
    np.testing.assert_allclose(whole(operator), explicit(model, data)[2], atol=1e-11)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 2, 3, padding="same", padding_mode="zeros"),
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(1, 2, 3, dilation=2, stride=(1, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 3, groups=2, bias=False)),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 5, stride=3)),
        nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 2, (1, 3, 3))),
        nn.ConvTranspose2d(1, 2, 3),
        nn.GroupNorm(1, 1),
        nn.MaxPool2d(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_many_kinds(layer: nn.Module) -> None:
    def make() -> nn.Module:
        inner = nn.Sequential(layer, nn.SiLU(), nn.Flatten())
        width = inner(
            torch.zeros(1, 1, 6, 6, dtype=next((p.dtype for p in layer.parameters()), torch.float32))
        ).shape[1]
        return nn.Sequential(inner, nn.Linear(width, 2), nn.Tanh(), nn.Linear(2, 3))

    model, data = seeded(make, 0), examples()
    operator = HessianOperator(model, data, dtype="float64", batch_size=10)
    np.testing.assert_allclose(whole(operator), explicit(model, data)[2], atol=1e-11)


def test_attention_and_inputs_that_are_no_images() -> None:
    model = seeded(lambda: nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True), 0)
    draws = torch.Generator().manual_seed(0)  # others lie on a kink of ReLU now and then
    inputs, targets = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=draws)
    operator = HessianOperator(model, (inputs, targets), loss=regression, dtype="float64", batch_size=2)
    vector = torch.randn(operator.size, dtype=torch.float64, generator=draws)
    step = 1e-5

    def gradient(sign: float) -> Any:
        moved = seeded(lambda: nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True), 0)
        with torch.no_grad():
            for one, way in zip(moved.parameters(), operator.space.expand(vector), strict=True):
                one.add_(sign * step * way)
        return HessianOperator(moved, (inputs, targets), loss=regression, dtype="float64").gradient()[1]

    expected = (gradient(1) - gradient(-1)) / (2 * step)
    np.testing.assert_allclose(operator.multiply(vector).numpy(), expected, atol=1e-7)


def test_a_loss_that_differentiates_by_its_inputs() -> None:
    def slope(model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, int]:
        inputs = batch[0].clone().requires_grad_(True)
        (by_input,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
        return by_input.square().flatten(1).sum(1), len(inputs)

    model, data = residual(), examples(count=4)
    operator = HessianOperator(model, data, loss=slope, dtype="float64", batch_size=3)
    np.testing.assert_allclose(whole(operator), explicit(model, data, slope)[2], atol=1e-10)


def test_the_model_stays_as_it_was() -> None:
    model = residual().train()
    model.get_parameter("conv1.weight").grad = torch.ones(4, 1, 3, 3, dtype=torch.float64)
    before = digest(dict(model.state_dict()))
    operator = HessianOperator(model, examples(), dtype="float64")
    operator.matvec(np.ones(operator.size))
    assert digest(dict(model.state_dict())) == before
    assert model.training
    assert all(one.requires_grad for one in model.parameters())
    assert torch.equal(model.get_parameter("conv1.weight").grad, torch.ones(4, 1, 3, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "bfloat16"}, "unknown dtype 'bfloat16'; expected one of float32, float64"),
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"memory": float("nan")}, "memory must be a number of bytes"),
        ({"memory": "x"}, "memory must be a number, got 'x'"),
        ({"derivatives": "Checked"}, "unknown derivatives 'Checked'; expected one of checked, exact"),
        ({"device": "tpu9"}, "unknown device 'tpu9'"),
        ({"mask": {"nothing": torch.ones(2) > 0}}, "names 'nothing', which is no parameter"),
        ({"mask": {"0.bias": [True] * 4}}, "'0.bias' is a list; expected a bool tensor"),
        ({"mask": {"0.bias": None}}, "'0.bias' is a NoneType; expected a bool tensor"),
        ({"mask": np.ones(4)}, "expected bool tensors by name"),
        ({"mask": {"0.bias": torch.ones(4)}}, "torch.float32 of shape .4,.; expected torch.bool"),
        ({"mask": {"0.bias": torch.ones(3) > 0}}, "expected torch.bool of shape .4,."),
    ],
)
def test_bad_arguments_say_so(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        HessianOperator(convolutional(), examples(), **options)


def test_a_mask_that_keeps_nothing_and_a_model_without_weights() -> None:
    model = convolutional()
    nothing = {name: torch.zeros(one.shape) > 0 for name, one in model.named_parameters()}
    with pytest.raises(UserError, match="keeps no weight at all"):
        HessianOperator(model, examples(), mask=nothing)
    with pytest.raises(UserError, match="no floating-point parameters"):
        HessianOperator(nn.ReLU(), examples())


def test_a_loss_that_is_not_finite_is_refused() -> None:
    inputs, targets = examples()
    with pytest.raises(UserError, match="isn't finite at the weights"):
        HessianOperator(convolutional(), (inputs * np.nan, targets)).gradient()


@pytest.mark.parametrize("name", ["nothing", "0.weight"])
def test_directions_that_do_not_fit_are_refused(name: str) -> None:
    operator = HessianOperator(convolutional(), examples())
    with pytest.raises(UserError, match=name):
        operator.from_directions({name: torch.ones(2)})


def test_a_linear_loss_has_no_curvature_and_a_constant_one_is_refused() -> None:
    def linear(model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, int]:
        return model(batch[0].flatten(1))[:, 0], len(batch[0])

    def constant(model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, int]:
        return batch[0].flatten(1)[:, 0], len(batch[0])

    operator = HessianOperator(nn.Linear(36, 1), examples(), loss=linear)
    assert not operator.matvec(np.ones(37)).any()
    with pytest.raises(UserError, match="doesn't use the model that it is given"):
        HessianOperator(nn.Linear(36, 1), examples(), loss=constant)
    assert classification(nn.Flatten(), examples())[1] == EXAMPLES
