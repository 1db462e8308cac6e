"""SNIP, GraSP and SynFlow: scores by hand and by brute force, masks from them."""

import copy
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scoring_cases import FakeSource, equal, seeded, small_network
from torch import Tensor, nn
from torch.func import functional_call

from training import masks
from training.masks import prunable
from training.models import build_model
from training.sparsity.grasp import GraSP, grasp_scores
from training.sparsity.ranking import keep_top
from training.sparsity.scoring import batch_losses
from training.sparsity.snip import Snip, snip_scores
from training.sparsity.synflow import SynFlow, synflow_scores

Loss = Callable[[], Tensor]


def quadratic(scale: float = 1.0) -> tuple[dict[str, Tensor], Loss]:
    """½ θᵀHθ at θ = (1, -0.5), whose gradient is (1.5, -0.5) and Hg = (2.5, 0)."""
    theta = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
    hessian = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    return {"theta": theta}, lambda: scale * 0.5 * theta @ hessian @ theta


def test_snip_of_a_quadratic() -> None:
    weights, loss = quadratic()
    scores = snip_scores(weights, [loss])["theta"]
    assert scores.tolist() == pytest.approx([6 / 7, 1 / 7])
    assert torch.equal(snip_scores(weights, [loss, loss])["theta"], scores)


def test_snip_sums_signed_gradients_over_batches() -> None:
    """Two losses that pull the second weight in opposite directions leave only the first one."""
    theta = torch.tensor([1.0, 1.0], requires_grad=True)
    losses = [lambda: theta[0] + theta[1], lambda: theta[0] - theta[1]]
    assert snip_scores({"theta": theta}, losses)["theta"].tolist() == [1.0, 0.0]


def test_weights_that_the_loss_ignores_score_zero() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    weights, losses = {"used": used, "unused": unused}, [lambda: (used**3).sum()]
    assert snip_scores(weights, losses)["unused"].tolist() == [0, 0, 0]
    assert grasp_scores(weights, losses)["unused"].tolist() == [0, 0, 0]
    assert snip_scores({"unused": unused}, losses)["unused"].tolist() == [0, 0, 0]


def test_grasp_of_a_quadratic() -> None:
    weights, loss = quadratic()
    assert grasp_scores(weights, [loss])["theta"].tolist() == [-2.5, 0]
    # The Hessian and the gradient of the sum, not a sum of products over the batches.
    assert grasp_scores(weights, [loss, loss])["theta"].tolist() == [-10, 0]


def test_grasp_predicts_the_change_of_the_gradient_norm() -> None:
    """Shrinking a weight by a small share ε changes ‖g‖² by 2·ε·score."""
    weights, losses = network_losses(temperature=2.0)
    scores = grasp_scores(weights, losses)

    def squared_norm() -> float:
        gradients = torch.autograd.grad(sum(loss() for loss in losses), list(weights.values()))
        return float(sum((part**2).sum() for part in gradients))

    before, share = squared_norm(), 1e-6
    for name, index in (("0.weight", 5), ("0.weight", 77), ("5.weight", 2)):
        flat = weights[name].detach().view(-1)
        old = float(flat[index])
        flat[index] = old * (1 - share)
        change = (squared_norm() - before) / share
        flat[index] = old
        assert change == pytest.approx(2 * float(scores[name].view(-1)[index]), rel=1e-3)


def test_synflow_by_hand() -> None:
    """Two layers; each layer's scores sum to the output."""
    first = torch.tensor([[1.0, 2.0], [0.5, 3.0]], requires_grad=True)
    second = torch.tensor([[2.0, 1.0]], requires_grad=True)
    scores = synflow_scores({"a": first, "b": second}, lambda: second @ (first @ torch.ones(2)).relu())
    assert scores["a"].tolist() == [[2, 4], [0.5, 3]]
    assert scores["b"].tolist() == [[6, 3.5]]
    assert float(scores["a"].sum()) == float(scores["b"].sum()) == 9.5


def network_losses(temperature: float = 1.0) -> tuple[dict[str, nn.Parameter], list[Loss]]:
    model = small_network()
    images, labels = FakeSource(dtype=torch.float64).draw(20, seeded())
    return prunable(model), batch_losses(model, images, labels, 8, temperature)


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.reshape(like[name].shape) for name, part in zip(like, parts, strict=True)}


def loss_of_vector(
    model: nn.Module, images: Tensor, labels: Tensor, sizes: list[int], temperature: float = 1.0
) -> Callable[[Tensor], Tensor]:
    """The mean loss as a function of all prunable weights in one vector, batch after batch."""

    def loss(vector: Tensor) -> Tensor:
        weights = unflatten(vector, prunable(model))
        parts = [
            F.cross_entropy(functional_call(model, weights, (batch,)) / temperature, targets) * len(targets)
            for batch, targets in zip(images.split(sizes), labels.split(sizes), strict=True)
        ]
        return torch.stack(parts).sum() / len(labels)

    return loss


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_snip_is_the_derivative_by_the_mask(statistics: Literal["running", "batch"]) -> None:
    """Central differences of the loss in a factor on every weight; 2 batches and a short third."""
    source = FakeSource(dtype=torch.float64, size=21)  # fewer than the 27 that are asked for
    images, labels = source.draw(27, seeded(3))
    model = small_network().train(statistics == "batch")
    loss, values = loss_of_vector(model, images, labels, [9, 9, 3]), flatten(prunable(model))
    slopes = []
    with torch.no_grad():
        for index in range(len(values)):
            step = torch.zeros_like(values)
            step[index] = 1e-5
            slopes.append((loss(values * (1 + step)) - loss(values * (1 - step))) / 2e-5)
    expected = torch.stack(slopes).abs() / torch.stack(slopes).abs().sum()

    model = small_network().train(statistics == "batch")
    scores = snip_scores(prunable(model), batch_losses(model, images, labels, 9))
    torch.testing.assert_close(flatten(scores), expected, rtol=1e-5, atol=1e-9)

    method = Snip(0.7, batches=3, images_per_batch=9, norm_statistics=statistics)
    mask = method.init_mask(small_network(), source, seeded(3))
    assert equal(mask, keep_top(unflatten(expected, scores), 0.7))


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_minus_weight_times_hessian_times_gradient(temperature: float) -> None:
    """The whole 120×120 Hessian; two draws, each in two chunks that batch norm sees one by one."""
    source, generator = FakeSource(dtype=torch.float64), seeded(5)
    draws = [source.draw_balanced(3, generator) for _ in range(2)]
    model = small_network()
    values = flatten(prunable(model))
    gradient, hessian = torch.zeros(120, dtype=torch.float64), torch.zeros(120, 120, dtype=torch.float64)
    for images, labels in draws:
        loss = loss_of_vector(model, images, labels, [5, 4], temperature)
        gradient += torch.autograd.functional.jacobian(loss, values)
        hessian += torch.autograd.functional.hessian(loss, values)
    expected = -values * (hessian @ gradient)

    model = small_network()
    losses = [one for drawn in draws for one in batch_losses(model, *drawn, 5, temperature)]
    scores = grasp_scores(prunable(model), losses)
    smallest = 1e-9 * float(expected.abs().max())
    torch.testing.assert_close(flatten(scores), expected, rtol=1e-8, atol=smallest)

    method = GraSP(0.7, per_class=3, draws=2, temperature=temperature, redraw_classifier=False)
    mask = method.init_mask(small_network(), source, seeded(5))
    assert equal(mask, keep_top(unflatten(-expected, scores), 0.7))
    assert not equal(mask, keep_top(unflatten(expected, scores), 0.7))
    assert not equal(mask, keep_top(unflatten(expected.abs(), scores), 0.7))


def test_temperature_changes_grasp() -> None:
    """Else the test above would not notice a temperature that is ignored."""
    found = [
        GraSP(0.7, temperature=temperature, redraw_classifier=False).init_mask(
            small_network(), FakeSource(dtype=torch.float64), seeded()
        )
        for temperature in (0.1, 200.0)
    ]
    assert not equal(*found)


@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_masks_do_not_depend_on_a_positive_factor(scale: float) -> None:
    for scores_of in (snip_scores, grasp_scores):
        weights, losses = network_losses()
        scores = scores_of(weights, losses)
        scaled = scores_of(weights, [lambda loss=loss: scale * loss() for loss in losses])
        assert equal(keep_top(scores, 0.6), keep_top(scaled, 0.6))


def test_grasp_scores_freshly_drawn_classifiers() -> None:
    """The network's own classifier has no influence, unless that's asked for."""
    source = FakeSource(dtype=torch.float64)
    one, other = small_network(), small_network()
    nn.init.normal_(other[5].weight, generator=seeded(8))
    for redraw in (True, False):
        method = GraSP(0.7, redraw_classifier=redraw)
        found = [method.init_mask(model, source, seeded()) for model in (one, other)]
        assert equal(*found) is redraw


@pytest.mark.parametrize("rounds", [1, 4])
@torch.no_grad()
def test_synflow_is_the_flow_that_deletion_takes_away(rounds: int) -> None:
    """With nothing negative, the output is linear in every single weight."""
    model = small_network(activation=nn.ReLU)
    assert any(bool((value < 0).any()) for value in model.state_dict().values())
    oracle, ones = copy.deepcopy(model).eval(), torch.ones(1, 3, 8, 8, dtype=torch.float64)
    for value in oracle.state_dict().values():
        value.abs_()
    for number in range(1, rounds + 1):
        scores = {
            name: flow_through(weight, lambda: float(oracle(ones).sum()))
            for name, weight in prunable(oracle).items()
        }
        expected = keep_top(scores, 1 - 0.3 ** (number / rounds))
        masks.apply_to_weights(oracle, expected)
    assert equal(SynFlow(0.7, rounds=rounds).init_mask(model, FakeSource(), seeded()), expected)


def flow_through(weight: Tensor, flow: Callable[[], float]) -> Tensor:
    """What the flow loses without each weight; rounding errors of pruned ones are made 0."""
    whole, score = flow(), torch.zeros(weight.numel(), dtype=torch.float64)
    flat = weight.view(-1)
    for index in range(len(flat)):
        old = flat[index].clone()
        flat[index] = 0
        score[index] = whole - flow()
        flat[index] = old
    return score.reshape(weight.shape).round(decimals=9)


@torch.no_grad()
def test_synflow_conserves_the_flow_in_every_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3, bias=False)
    )
    for weight in model.parameters():
        weight.abs_()
    ones = torch.ones(1, 3, 8, 8)
    whole = float(model(ones).sum())
    with torch.enable_grad():
        scores = synflow_scores(prunable(model), lambda: model(ones))
    assert [float(score.sum()) for score in scores.values()] == pytest.approx([whole, whole])


def residual_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("resnet20", num_classes=4, widths=(8, 12, 16))


def chain_network() -> nn.Module:
    """No shortcut: an empty layer lets nothing through."""
    widths, layers = (3, 8, 16, 16, 4, 16, 16, 16, 8), list[nn.Module]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for into, out in pairwise(widths):
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def test_synflow_does_not_look_at_the_pixels() -> None:
    method = SynFlow(0.9, rounds=5)
    found = [method.init_mask(residual_network(), FakeSource(seed=seed), seeded(seed)) for seed in (0, 1)]
    assert equal(*found)


@pytest.mark.parametrize("network", [residual_network, chain_network])
def test_synflow_empties_no_layer_at_98_percent(network: Callable[[], nn.Module]) -> None:
    """What the method is made for; a single cut by the same scores does empty some."""
    for rounds, complete in ((100, True), (1, False)):
        mask = SynFlow(0.98, rounds=rounds).init_mask(network(), FakeSource(), seeded())
        assert (masks.empty_layers(mask) == []) is complete


def test_synflow_of_a_network_too_deep_for_single_precision() -> None:
    """Each layer multiplies by 50 or more, so the flow is above 1e50; the best weight is the last one."""
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 50), *(nn.Linear(50, 50) for _ in range(30))
    )
    for weight in prunable(model).values():
        nn.init.ones_(weight)
        weight.data[-1, -1] = 2
    mask = SynFlow(0.5, rounds=2).init_mask(model, FakeSource(), seeded())
    assert all(bool(part[-1, -1]) for part in mask.values())
