"""Derivatives are checked: what is missing or wrong becomes a difference of gradients, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from hessian_cases import seeded
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from analysis.curvature.points import PointSolver
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import sharpness
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import Loss, classification, regression

Case = tuple[nn.Module, tuple[Tensor, ...], Loss]


class Bag(nn.Module):
    """Bags of words: torch has no second derivative of these."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(10, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bag(x)))


class Deformable(nn.Module):
    """A deformable convolution, which refuses to be differentiated twice."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(1, 18, 3, padding=1)
        self.conv, self.head = torchvision.ops.DeformConv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(x, self.offset(x))).mean((2, 3)))


def ctc(model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, int]:
    """Connectionist temporal classification: once differentiable."""
    inputs, targets = batch
    scores = model(inputs).log_softmax(-1).transpose(0, 1)
    lengths = torch.full((len(inputs),), scores.shape[0]), torch.full((len(inputs),), targets.shape[1])
    return F.ctc_loss(scores, targets, *lengths, reduction="none"), len(inputs)


def random_inputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count: int, classes: int = 3) -> Tensor:
    return torch.arange(count) % classes


def normed() -> nn.Module:
    """The second derivative of this parametrization is wrong in torch 2.14."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 3)), nn.Tanh(), nn.Linear(3, 3))


def bag() -> Case:
    words = torch.randint(0, 10, (12, 5), generator=torch.Generator().manual_seed(0))
    return seeded(Bag, 0), (words, labels(12)), classification


def spoken() -> Case:
    targets = 1 + torch.arange(18).reshape(6, 3) % 5
    return seeded(lambda: nn.Linear(4, 6), 0), (random_inputs(6, 8, 4), targets), ctc


CASES: dict[str, Callable[[], Case]] = {
    "weight norm": lambda: (seeded(normed, 0), (random_inputs(9, 5), labels(9)), classification),
    "embedding bag": bag,
    "CTC": spoken,
    "deformable": lambda: (seeded(Deformable, 0), (random_inputs(6, 1, 6, 6), labels(6)), classification),
    "instance norm": lambda: (
        seeded(
            lambda: nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.InstanceNorm2d(4, affine=True),
                nn.Tanh(),
                nn.Flatten(),
                nn.Linear(64, 3),
            ),
            0,
        ),
        (random_inputs(6, 1, 6, 6), labels(6)),
        classification,
    ),
    "spectral norm": lambda: (
        seeded(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 3)), nn.Linear(3, 3)), 0),
        (random_inputs(9, 5), labels(9)),
        classification,
    ),
}
BY_DIFFERENCES = {"weight norm", "embedding bag", "CTC", "deformable"}


def mean_loss(case: Case, shift: Tensor) -> float:
    """At the weights moved by a vector, by nothing but the loss itself."""
    model, data, loss = case
    start = [one.detach().clone() for one in model.parameters()]
    model.eval()
    sizes = [one.numel() for one in start]
    with torch.no_grad():
        for one, move in zip(model.parameters(), shift.split(sizes), strict=True):
            one.add_(move.view(one.shape))
    values, count = loss(model, data)[:2]
    with torch.no_grad():
        for one, old in zip(model.parameters(), start, strict=True):
            one.copy_(old)
    return float(values.detach().sum()) / count


def second_difference(case: Case, vector: Tensor, step: float = 2e-4) -> float:
    above, here, below = (mean_loss(case, sign * step * vector) for sign in (1, 0, -1))
    return (above - 2 * here + below) / step**2


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_loss(name: str) -> None:
    case = CASES[name]()
    model, data, loss = case
    operator = HessianOperator(model, data, loss=loss, dtype="float64")
    assert operator.about["derivatives"] == ("differences" if name in BY_DIFFERENCES else "exact")
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(operator.size, generator=generator, dtype=torch.float64) for _ in range(2))
    image, other = operator.multiply(torch.stack([first, second], 1)).unbind(1)
    assert float(second @ image) == pytest.approx(float(first @ other), rel=1e-5)
    step = 1e-5 if name == "deformable" else 2e-4  # it is piecewise smooth in its offsets
    assert float(first @ image) == pytest.approx(second_difference(case, first, step), rel=1e-3)


def test_differences_are_told_and_agree_on_the_whole_spectrum() -> None:
    model, data, _ = CASES["weight norm"]()
    found = hessian_spectrum(model, data, top=2, density_probes=0, device="cpu")
    engine = found.about["engine"]
    assert engine["derivatives"] == "differences"
    assert "symmetric" in engine["differences_because"] or "differs by" in engine["differences_because"]
    assert found.settings["operator"]["dtype"] == "float64"
    right = HessianOperator(model, data, dtype="float64")
    matrix = right.matmat(np.eye(right.size))
    np.testing.assert_allclose(found.top.values, np.linalg.eigvalsh(matrix)[::-1][:2], rtol=1e-4)


def physics(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """The residual of u_xx = −u, which takes third and fourth derivatives of the network."""
    x = batch[0].clone().requires_grad_(True)
    u = model(x)
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    return (second + u).square().flatten(1).sum(1), len(x)


def physical(norm: bool) -> Case:
    def make() -> nn.Module:
        middle = [nn.LayerNorm(8)] if norm else []
        return nn.Sequential(nn.Linear(1, 8), *middle, nn.Tanh(), nn.Linear(8, 1))

    return seeded(make, 0), (random_inputs(10, 1), torch.zeros(10)), physics


def test_a_physics_informed_loss_is_differentiated_rightly() -> None:
    case = physical(norm=False)
    model, data, loss = case
    operator = HessianOperator(model, data, loss=loss, dtype="float64")
    assert operator.about["derivatives"] == "exact"
    vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = second_difference(case, vector)
    assert float(vector @ operator.multiply(vector)) == pytest.approx(expected, rel=1e-3)
    found = sharpness(model, data, loss=loss, measures=["sam", "gaussian", "fisher_rao"], dtype="float64")
    assert all(one.value > 0 for one in found.values())


def test_layer_norm_in_a_physics_informed_loss_is_refused_where_its_gradient_is_wrong() -> None:
    """Third derivatives of layer norm are wrong in torch 2.14, and so is the gradient of such a loss."""
    case = physical(norm=True)
    model, data, loss = case
    weights = list(model.parameters())
    gradient = torch.autograd.grad(loss(model, data)[0].sum() / 10, weights)
    ways = [torch.ones_like(one) for one in weights]
    slope = sum(float((one * way).sum()) for one, way in zip(gradient, ways, strict=True))
    shift = 1e-6 * torch.cat([one.reshape(-1) for one in ways])
    difference = (mean_loss(case, shift) - mean_loss(case, -shift)) / 2e-6
    if slope == pytest.approx(difference, rel=1e-3):
        assert HessianOperator(model, data, loss=loss, dtype="float64").size
        return
    with pytest.raises(UserError, match="the gradient isn't that of the loss"):
        HessianOperator(model, data, loss=loss)
    with pytest.raises(UserError, match="the gradient isn't that of the loss"):
        sharpness(model, data, loss=loss, measures=["sam"])


class Rounded(nn.Module):
    """Straight-through rounding: the gradient is another function's."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.linear(x)
        return inside + (2 * inside).round().detach() / 2 - inside.detach()


def under_no_grad(model: Callable[..., Any], batch: Any) -> Any:
    with torch.no_grad():
        return classification(model, batch)


def half_detached(model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, int]:
    scores = model(batch[0])
    loss = F.cross_entropy(scores, batch[1], reduction="none")
    return loss + scores.detach().square().sum(1), len(batch[1])


@pytest.mark.parametrize(
    ("make", "loss", "said"),
    [
        (lambda: nn.Linear(5, 3), under_no_grad, "gives no gradient by the weights"),
        (lambda: nn.Linear(5, 3), half_detached, "the gradient isn't that of the loss"),
        (Rounded, classification, "the gradient isn't that of the loss"),
    ],
)
def test_losses_without_usable_gradients_are_refused(make: Any, loss: Loss, said: str) -> None:
    model, data = seeded(make, 0), (random_inputs(9, 5), labels(9))
    with pytest.raises(UserError, match=said) as error:
        hessian_spectrum(model, data, loss=loss, top=1, density_probes=0, device="cpu")
    assert "\n" not in str(error.value)
    for measure in ("sam", "keskar", "lambda_max"):
        with pytest.raises(UserError, match=said):
            sharpness(model, data, loss=loss, measures=[measure])


def test_sharpness_without_second_derivatives() -> None:
    model, data, loss = CASES["embedding bag"]()
    found = sharpness(model, data, loss=loss, measures=["lambda_max", "fisher_rao"], dtype="float64")
    matrix = HessianOperator(model, data, loss=loss, dtype="float64")
    top = np.linalg.eigvalsh(matrix.matmat(np.eye(matrix.size)))[-1]
    assert found["lambda_max"].value == pytest.approx(top, rel=1e-4)
    squares = []
    for inputs, targets in zip(*data, strict=True):
        values, _ = classification(model, (inputs[None], targets[None]))[:2]
        slopes = torch.autograd.grad(values.sum(), list(model.parameters()))
        pairs = zip(slopes, model.parameters(), strict=True)
        squares.append(sum(float((one * weight.detach()).sum()) for one, weight in pairs) ** 2)
    assert found["fisher_rao"].value == pytest.approx(np.mean(squares) ** 0.5, rel=1e-6)


def test_padding_and_sparse_gradients_of_embeddings_are_no_fault() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(6, 4, padding_idx=0, sparse=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.words(x)).mean(1))

    words = torch.randint(0, 6, (12, 5), generator=torch.Generator().manual_seed(0))
    model = seeded(Padded, 0)
    operator = HessianOperator(model, (words, labels(12)), dtype="float64")
    image = operator.to_directions(operator.matvec(np.ones(operator.size)))
    assert not image["words.weight"][0].any()
    assert sharpness(model, (words, labels(12)), measures=["sam"])["sam"].value > 0


def test_a_point_of_a_map_by_differences() -> None:
    model, data, loss = CASES["weight norm"]()
    way = {name: torch.ones_like(one) for name, one in model.named_parameters()}
    solver = PointSolver(model, [way], Examples.from_tensors(*data), loss, derivatives="differences")
    found = solver.solve([0.01])
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.01)
    matrix = HessianOperator(model, data, dtype="float64")
    assert found.high == pytest.approx(np.linalg.eigvalsh(matrix.matmat(np.eye(matrix.size)))[-1], rel=1e-2)


def test_networks_with_kinks_and_flat_losses_pass() -> None:
    kinked = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 3)),
        0,
    )
    data = (random_inputs(40, 1, 6, 6), labels(40))
    assert HessianOperator(kinked, data).about["derivatives"] == "exact"
    assert (
        HessianOperator(
            seeded(lambda: nn.Linear(4, 1), 0),
            (random_inputs(8, 4), torch.zeros(8, 1).double()),
            loss=regression,
        ).about["derivatives"]
        == "exact"
    )
    fitted = nn.Linear(4, 1).double()
    with torch.no_grad():
        fitted.weight.zero_(), fitted.bias.zero_()
    exact = HessianOperator(fitted, (random_inputs(8, 4), torch.zeros(8, 1).double()), loss=regression)
    assert exact.about["derivatives"] == "exact"  # loss and gradient are 0


class Dead(nn.Module):
    """Filters without weights behind batch norm: their outputs are exactly 0, where ReLU turns."""

    def __init__(self, detached: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)
        self.shift = nn.Parameter(torch.zeros(3)) if detached else None
        with torch.no_grad():
            self.conv.weight[2:] = 0

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return scores if self.shift is None else scores + self.shift.detach()


def dead(seed: int = 0, detached: bool = False) -> Dead:
    """With running means of exactly 0, as such filters have after any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dead(detached)


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_lies_on_kinks_is_no_wrong_one(seed: int) -> None:
    model = dead(seed)
    data = random_inputs(12, 1, 6, 6).float(), torch.arange(12) % 3
    mask = {"conv.weight": model.conv.weight.detach() != 0}
    operator = HessianOperator(model, data, mask=mask)
    assert operator.about["derivatives"] == "exact"
    assert sharpness(model, data, mask=mask, measures=["sam"])["sam"].value > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_lies_almost_on_kinks_is_no_wrong_one(seed: int) -> None:
    """Nearer than any step: weight decay leaves biases of dead filters almost 0, on either side."""
    model = dead(seed)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.norm.bias[2:] = 1e-12 * torch.randn(4, generator=draws)
    data = random_inputs(12, 1, 6, 6).float(), torch.arange(12) % 3
    mask = {"conv.weight": model.conv.weight.detach() != 0}
    assert HessianOperator(model, data, mask=mask).about["derivatives"] == "exact"
    assert sharpness(model, data, mask=mask, measures=["sam"])["sam"].value > 0


class Residual(nn.Module):
    """A shortcut is added to dead filters: their biases have gradients where it isn't 0, else kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 3)
        with torch.no_grad():
            self.conv.weight[2:] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head((self.norm(self.conv(x)) + x).relu().mean((2, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_a_residual_network_that_lies_on_kinks_is_no_wrong_one(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Residual()
    data = random_inputs(12, 1, 6, 6).float(), torch.arange(12) % 3
    assert HessianOperator(model, data).about["derivatives"] == "exact"


def test_a_wrong_product_is_seen_beside_kinks() -> None:
    model = dead()
    with torch.no_grad():
        model.norm.bias[2:] = 1e-12
    model.head = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 3)), nn.Tanh(), nn.Linear(3, 3))
    data = random_inputs(12, 1, 6, 6).float(), torch.arange(12) % 3
    assert HessianOperator(model, data).about["derivatives"] == "differences"


def test_a_gradient_that_was_lost_is_seen_beside_kinks() -> None:
    data = random_inputs(12, 1, 6, 6).float(), torch.arange(12) % 3
    with pytest.raises(UserError, match="by 'shift' it is 0 where differences of the loss are not"):
        HessianOperator(dead(detached=True), data)
