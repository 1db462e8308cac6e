"""Every measure against closed forms of quadratic losses, explicit gradients and explicit Hessians."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import inf, isinf, isnan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from sharpness_cases import Quadratic, classifier, labelled, largest_in_ball, quadratic_loss
from torch import Tensor, nn

from analysis.sharpness import MEASURES, Objective, Settings, sharpness
from analysis.sharpness.ascent import Ball, ascend, one_step
from analysis.statistics.uncertainty import jackknife
from landscape.errors import UserError
from landscape.losses import classification
from landscape.provenance import digest

LONG = Settings(rho=0.4, adaptive_rho=0.4, epsilon=0.1, steps=200, starts=4)
both = pytest.mark.parametrize("pruned", [False, True])


def value(case: Quadratic, name: str, settings: Settings = LONG) -> float:
    return MEASURES[name].compute(case.objective(), settings).value


@both
def test_one_sam_step_is_the_quadratics(pruned: bool) -> None:
    case = Quadratic(pruned=pruned)
    shift = 0.4 * case.gradient / np.linalg.norm(case.gradient)
    assert value(case, "sam") == pytest.approx(case.rise(shift), rel=1e-12)


@both
@pytest.mark.parametrize("seed", range(4))
def test_ascent_finds_the_largest_loss_in_the_ball(pruned: bool, seed: int) -> None:
    case = Quadratic(seed, pruned=pruned)
    exact = largest_in_ball(case.hessian, case.gradient, 0.4)
    found = MEASURES["sam_ascent"].compute(case.objective(), LONG)
    assert found.value == pytest.approx(exact, rel=1e-8)
    assert found.kind == "lower bound"
    assert found.value >= value(case, "sam")
    assert len(found.details["starts_found"]) == 4


def test_ascent_leaves_a_saddle_where_the_gradient_says_nothing() -> None:
    case = Quadratic(noise=0.0)
    case.data = case.data[0], torch.zeros_like(case.data[1])
    case.model = type(case.model)(np.zeros(6))
    assert value(case, "sam") == 0.0
    half = 0.5 * 0.4**2 * np.linalg.eigvalsh(case.hessian)[-1]
    assert value(case, "sam_ascent") == pytest.approx(half, rel=1e-8)


@both
def test_asam_is_sam_in_stretched_coordinates(pruned: bool) -> None:
    case = Quadratic(1, pruned=pruned)
    stretch = np.abs(case.weights[case.kept]) + LONG.eta
    slope = stretch * case.gradient
    shift = 0.4 * stretch * slope / np.linalg.norm(slope)
    assert value(case, "asam") == pytest.approx(case.rise(shift), rel=1e-12)
    exact = largest_in_ball(stretch[:, None] * case.hessian * stretch, slope, 0.4)
    assert value(case, "asam_ascent") == pytest.approx(exact, rel=1e-8)


@both
def test_keskar_is_the_highest_corner_of_a_convex_loss_in_percent(pruned: bool) -> None:
    case = Quadratic(2, noise=0.02, pruned=pruned)
    assert np.linalg.eigvalsh(case.hessian)[0] > 0, "convex, so that a corner is highest"
    half = 0.1 * (np.abs(case.weights[case.kept]) + 1)
    corners = itertools.product((-1.0, 1.0), repeat=len(half))
    highest = max(case.rise(half * np.array(corner)) for corner in corners)
    found = MEASURES["keskar"].compute(case.objective(), replace(LONG, starts=8))
    assert found.value == pytest.approx(100 * highest / (1 + case.loss), rel=1e-9)


@both
@pytest.mark.parametrize("name", ["gaussian", "gaussian_weight", "gaussian_filter"])
def test_average_sharpness_of_a_quadratic_is_half_the_scaled_trace(name: str, pruned: bool) -> None:
    case = Quadratic(3, pruned=pruned)
    objective = case.objective()
    settings = Settings(sigma=0.3, relative_sigma=0.3, draws=120)
    weights = case.weights
    rows = rms(weights[:4].reshape(2, 2), case.kept[:4])
    filters = np.concatenate([np.repeat(rows, 2), np.abs(weights[4:])])
    scale = {
        "gaussian": np.full(6, 0.3),
        "gaussian_weight": 0.3 * np.abs(weights),
        "gaussian_filter": 0.3 * filters,
    }[name][case.kept]
    found = MEASURES[name].compute(objective, settings)
    drawn = [scale * objective.normal(0, 0, one).numpy() for one in range(120)]
    pairs = [0.5 * one @ case.hessian @ one for one in drawn]
    assert found.value == pytest.approx(np.mean(pairs), rel=1e-10), "the gradient cancels in every pair"
    assert found.stderr_draws == pytest.approx(np.std(pairs, ddof=1) / sqrt(120), rel=1e-8)
    exact = 0.5 * np.trace(scale[:, None] * case.hessian * scale)
    assert abs(found.value - exact) < 4 * found.stderr_draws
    assert found.stderr_draws < 0.4 * abs(exact)


def rms(matrix: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    counts = np.maximum(kept.reshape(matrix.shape).sum(1), 1)
    return np.asarray(np.sqrt((matrix**2).sum(1) / counts))


def test_fisher_rao_is_the_root_mean_square_of_weights_times_gradients() -> None:
    model, (inputs, targets) = classifier(), labelled()
    params = dict(model.named_parameters())
    products = []
    for x, y in zip(inputs, targets, strict=True):
        gradients = torch.autograd.grad(
            nn.functional.cross_entropy(model(x[None]), y[None]), list(params.values())
        )
        flat = [
            torch.cat([one.detach().reshape(-1) for one in many]) for many in (gradients, params.values())
        ]
        products.append(float(flat[0] @ flat[1]))
    found = sharpness(model, (inputs, targets), measures=["fisher_rao"], dtype="float64", batch_size=5)
    assert found["fisher_rao"].value == pytest.approx(np.sqrt(np.mean(np.square(products))), rel=1e-10)


def test_fisher_rao_of_a_network_without_biases_follows_from_its_outputs() -> None:
    model, (inputs, targets) = classifier(bias=False, pruned=0.3), labelled()
    scores = model(inputs).detach().requires_grad_(True)
    losses = nn.functional.cross_entropy(scores, targets, reduction="none")
    (slopes,) = torch.autograd.grad(losses.sum(), scores)
    exact = 2 * float(((slopes * scores.detach()).sum(1) ** 2).mean().sqrt())
    mask = {name: one.detach() != 0 for name, one in model.named_parameters()}
    found = sharpness(model, (inputs, targets), measures=["fisher_rao"], dtype="float64", mask=mask)
    assert found["fisher_rao"].value == pytest.approx(exact, rel=1e-10)


@both
def test_largest_eigenvalues_of_a_quadratic(pruned: bool) -> None:
    case = Quadratic(4, pruned=pruned)
    weights = case.weights[case.kept]
    top = np.linalg.eigvalsh(case.hessian)[-1]
    assert value(case, "lambda_max") == pytest.approx(top, rel=1e-8)
    assert value(case, "lambda_max_norm2") == pytest.approx(top * (weights @ weights), rel=1e-8)
    stretched = np.abs(weights)[:, None] * case.hessian * np.abs(weights)
    assert value(case, "lambda_max_adaptive") == pytest.approx(np.linalg.eigvalsh(stretched)[-1], rel=1e-8)


def test_largest_eigenvalue_of_a_network_is_the_explicit_hessians() -> None:
    model, (inputs, targets) = classifier(), labelled()
    names, start = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        scores = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (inputs,))
        return nn.functional.cross_entropy(scores, targets)

    blocks = torch.autograd.functional.hessian(loss, tuple(start))
    pairs = zip(blocks, start, strict=True)
    rows = [torch.cat([part.reshape(one.numel(), -1) for part in row], 1) for row, one in pairs]
    exact = np.linalg.eigvalsh(torch.cat(rows).detach().numpy())[-1]
    found = sharpness(model, (inputs, targets), measures=["lambda_max"], dtype="float64")["lambda_max"]
    assert found.value == pytest.approx(exact, rel=1e-7)
    assert found.details["converged"] is True
    assert found.details["residual"] < 1e-3 * exact
    assert found.low < found.value < found.high


def test_largest_eigenvalue_of_a_flat_loss_is_zero() -> None:
    model = nn.Linear(40, 2, bias=False).double()
    data = torch.zeros(7, 40, dtype=torch.float64), torch.zeros(7, dtype=torch.int64)
    found = sharpness(model, data, measures=["lambda_max"], dtype="float64")["lambda_max"]
    assert found.value == 0.0


def test_interval_over_examples_is_the_jackknife_at_the_perturbation() -> None:
    case = Quadratic(5)
    shift = 0.4 * case.gradient / np.linalg.norm(case.gradient)
    rises = np.array(
        [
            0.5 * (2 * case.weights + shift) @ matrix @ shift + slope @ shift
            for matrix, slope in zip(case.matrices, case.slopes, strict=True)
        ]
    )
    found = MEASURES["sam"].compute(case.objective(), LONG)
    assert found.value == pytest.approx(rises.mean(), rel=1e-10)
    edges = np.arange(21) * 23 // 20
    counts = np.diff(edges)
    left_out = (rises.sum() - np.add.reduceat(rises, edges[:-1])) / (23 - counts)
    assert found.stderr_examples == pytest.approx(jackknife(rises.mean(), left_out, counts), rel=1e-8)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_numbers_do_not_depend_on_the_batches(batch_size: int) -> None:
    settings = replace(LONG, draws=3, steps=3)
    whole = {name: one.compute(Quadratic().objective(), settings) for name, one in MEASURES.items()}
    objective = Quadratic().objective(batch_size)
    for name, measure in MEASURES.items():
        found = measure.compute(objective, settings)
        assert found.value == pytest.approx(whole[name].value, rel=1e-9), name
        assert found.stderr_examples == pytest.approx(whole[name].stderr_examples, rel=1e-7), name


def test_every_measure_leaves_the_model_as_it_was_and_repeats() -> None:
    model = classifier(pruned=0.4)
    mask = {name: one.detach() != 0 for name, one in model.named_parameters() if one.dim() > 1}
    model.train()
    before, flags = digest(dict(model.state_dict())), [one.requires_grad for one in model.parameters()]
    settings = Settings(draws=2, steps=2, starts=2)
    first, second = (
        sharpness(model, labelled(), mask=mask, settings=settings, dtype="float64") for _ in range(2)
    )
    assert list(first) == list(MEASURES)
    assert repr(first) == repr(second)  # digits of what they are, and NaN where nothing is known
    assert digest(dict(model.state_dict())) == before
    assert [one.requires_grad for one in model.parameters()] == flags
    assert all(one.grad is None for one in model.parameters())
    assert model.training


def test_perturbations_are_zero_where_pruned_and_within_the_ball() -> None:
    case = Quadratic(pruned=True)
    objective = case.objective()
    ball = Ball("sphere", 0.4, objective.weights.abs() + 0.01)
    for found in [one_step(objective, ball), *ascend(objective, ball, LONG, 1)]:
        matrix, vector = objective.space.expand(found.shift)
        assert (matrix.reshape(-1)[[1, 2]] == 0).all()
        assert vector.ne(0).all()
        assert float((found.shift / ball.scale).norm()) <= 0.4 * (1 + 1e-12)


def test_seeds_matter_where_there_is_randomness() -> None:
    case = Quadratic()
    names = [name for name, one in MEASURES.items() if "draws" in one.uses]
    for name in names:
        assert value(case, name, Settings(draws=2)) != value(case, name, Settings(draws=2, seed=1))


def test_divergence_is_infinite_and_counted() -> None:
    class Cliff(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 1.0]))

        def forward(self) -> Tensor:
            return torch.where(self.weight.sum() > 2.01, self.weight.sum() * inf, self.weight.sum())

    def loss(model: Any, batch: Any) -> tuple[Tensor, int]:
        return model() * batch[0], len(batch[0])

    data = (torch.ones(5),)
    settings = Settings(rho=0.5, draws=4, sigma=0.5)
    found = sharpness(Cliff(), data, loss=loss, settings=settings, measures=["sam", "sam_ascent", "gaussian"])
    assert all(isinf(one.value) and isnan(one.low) for one in found.values())
    assert found["gaussian"].details["diverged"] >= 1


def test_bad_input_is_one_line() -> None:
    model, data = classifier(), labelled()
    with pytest.raises(UserError, match="unknown measure 'x'; expected one of sam"):
        sharpness(model, data, measures=["x"])
    with pytest.raises(UserError, match="isn't finite at the weights"):
        sharpness(model, (data[0] * inf, data[1]), measures=["sam"])
    with pytest.raises(UserError, match="names 'y'"):
        sharpness(model, data, mask={"y": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(UserError, match="unknown dtype"):
        sharpness(model, data, dtype="float16")

    def summed(model: Any, batch: Any) -> tuple[Tensor, int]:
        losses, count, _ = classification(model, batch)  # type: ignore[misc]
        return losses.sum(), count

    with pytest.raises(UserError, match="one value per example"):
        sharpness(model, data, loss=summed, measures=["fisher_rao"], dtype="float64")
    found = sharpness(model, data, loss=summed, measures=["sam"], dtype="float64", batch_size=5)
    assert found["sam"].value == pytest.approx(
        sharpness(model, data, measures=["sam"], dtype="float64")["sam"].value
    )


def test_objective_counts_its_passes() -> None:
    told: list[int] = []
    objective = Objective(Quadratic().model, Quadratic().data, loss=quadratic_loss, dtype="float64")
    objective.listener = told.append
    settings = Settings(draws=2, steps=2, starts=2)
    for name in ("sam", "asam", "gaussian", "fisher_rao"):
        told.clear()
        MEASURES[name].compute(objective, settings)
        assert sum(told) == MEASURES[name].passes(settings)


@pytest.mark.parametrize("shift", [-4.0, -9.0])
def test_a_share_of_one_plus_the_loss_needs_a_loss_above_minus_one(shift: float) -> None:
    case = Quadratic()
    shift = -1 - case.loss if shift == -4.0 else shift

    def lower(model: Any, batch: Any) -> tuple[Tensor, int]:
        values, count = quadratic_loss(model, batch)
        return values + shift, count

    with pytest.raises(UserError, match=r"the loss at the weights is -.*share of 1 \+ loss"):
        sharpness(case.model, case.data, loss=lower, measures=["keskar"], dtype="float64", progress=None)
    found, known = (
        sharpness(case.model, case.data, loss=loss, measures=["sam"], dtype="float64", progress=None)["sam"]
        for loss in (lower, quadratic_loss)
    )
    assert found.value == pytest.approx(known.value, rel=1e-9)


def test_parameters_without_entries_and_settings_of_another_kind() -> None:
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none, self.rest = nn.Parameter(torch.empty(0, 4)), classifier()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.rest(inputs)  # type: ignore[no-any-return]

    options: dict[str, Any] = {"measures": ["gaussian_filter"], "dtype": "float64", "progress": None}
    found, known = (sharpness(model, labelled(), **options) for model in (Empty(), classifier()))
    assert found["gaussian_filter"].value == pytest.approx(known["gaussian_filter"].value, rel=1e-12)
    with pytest.raises(UserError, match="settings is a dict; expected an"):
        sharpness(classifier(), labelled(), **options, settings={"rho": 0.1})  # type: ignore[arg-type]
