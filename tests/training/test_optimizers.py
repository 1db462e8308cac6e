"""SAM and S2-SAM step by step: the published rule in float64, by table and by hand, and where it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from landscape.errors import UserError
from training import masks
from training.optimizers import OPTIMIZERS, S2SAM, SAM, SGD, ASAMConfig, S2SAMConfig, SAMConfig
from training.optimizers.perturbing import Perturbing

DIAGONAL = ((1.0, 0.0), (0.0, 4.0))
COUPLED = ((2.0, 1.0), (1.0, 3.0))
PLAIN = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
HEAVY = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


class Quadratic(nn.Module):
    """Half of w·Hw, the weights those of a linear layer, so that a mask may be put on them."""

    def __init__(self, hessian: tuple[tuple[float, ...], ...], start: tuple[float, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([start]))
        self.hessian = torch.tensor(hessian, dtype=torch.float64)

    def forward(self) -> Tensor:
        weight = self.layer.weight[0]
        return weight @ self.hessian @ weight / 2

    @property
    def point(self) -> list[float]:
        return self.layer.weight[0].tolist()


@dataclass
class Stepper:
    """The loop in small: masks gradients in the closure, weights after the step; notes where it looked."""

    config: SGD
    model: Quadratic
    mask: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer: Any = self.config.build(self.model)
        self.visited: list[Tensor] = []

    def closure(self, sync: bool = True) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.model()
        loss.backward()
        if self.config.masks_gradients:
            masks.AppliedMask(self.model, self.mask).to_gradients()
        self.visited.append(self.model.layer.weight.detach().clone())
        return loss.detach()

    def step(self) -> Tensor:
        loss: Tensor = self.optimizer.step(self.closure)
        masks.apply_to_weights(self.model, self.mask)
        return loss


ROWS: dict[str, tuple[SGD, list[tuple[float, float]]]] = {
    "SGD": (SGD(**PLAIN), [(0.9, 0.6), (0.81, 0.36), (0.729, 0.216)]),
    "A": (
        S2SAMConfig(**PLAIN, rho=0.1),
        [(0.9, 0.6), (0.807574644, 0.321194300), (0.723670529, 0.154748469)],
    ),
    "B": (
        SAMConfig(**PLAIN, rho=0.1),
        [(0.897574644, 0.561194300), (0.804104472, 0.299575594), (0.718121928, 0.146530484)],
    ),
    "C": (
        S2SAMConfig(**HEAVY, rho=0.1),
        [(0.899, 0.599), (0.714875644, -0.040904700), (0.473813631, -0.638382928)],
    ),
    "C'": (
        SAMConfig(**HEAVY, rho=0.1),
        [(0.896574644, 0.560194300), (0.709222935, -0.097406304), (0.460210388, -0.630927152)],
    ),
    "E": (
        S2SAMConfig(**PLAIN, rho=0.1, adaptive="official"),
        [(0.9, 0.6), (0.807574644, -0.260891200), (0.726391507, -1.532499008)],
    ),
    "F": (
        S2SAMConfig(**PLAIN, rho=0.1, adaptive="asam"),
        [(0.9, 0.6), (0.806839889, 0.337528100), (0.720935964, 0.192221936)],
    ),
}
MASKED_ROWS: dict[str, tuple[SGD, list[tuple[float, float]]]] = {
    "D": (S2SAMConfig(**PLAIN, rho=0.1), [(0.8, 0), (0.62, 0), (0.476, 0)]),
    "D'": (
        S2SAMConfig(**PLAIN, rho=0.1, perturb_pruned=True),
        [(0.8, 0), (0.617639320, 0), (0.471776356, 0)],
    ),
}


@pytest.mark.parametrize("restore", ["copy", "subtract"])
@pytest.mark.parametrize("row", ROWS)
def test_published_rule(row: str, restore: str) -> None:
    """Rows A, B, C, C' and E also come out of the released code when its gradients are zeroed, not None."""
    config, expected = ROWS[row]
    if isinstance(config, S2SAMConfig | SAMConfig):
        config = type(config)(**{**vars(config), "restore": restore})
    run = Stepper(config, Quadratic(DIAGONAL, (1.0, 1.0)))
    for point in expected:
        run.step()
        assert run.model.point == pytest.approx(point, abs=1e-8)


@pytest.mark.parametrize("row", MASKED_ROWS)
def test_published_rule_with_a_mask(row: str) -> None:
    config, expected = MASKED_ROWS[row]
    mask = {"layer.weight": torch.tensor([[True, False]])}
    run = Stepper(config, Quadratic(COUPLED, (1.0, 0.0)), mask)
    for point in expected:
        run.step()
        assert run.model.point == pytest.approx(point, abs=1e-8)
        assert run.model.point[1] == 0


def test_s2sam_by_hand() -> None:
    """Row A: u2 = (0.9, 0.6) + 0.1 (1, 4) / √17; the gradient is (1, 4) times the point."""
    run = Stepper(S2SAMConfig(**PLAIN, rho=0.1), Quadratic(DIAGONAL, (1.0, 1.0)))
    for _ in range(3):
        run.step()
    root = 17**0.5
    assert run.visited[0].tolist() == [[1, 1]]
    second = (0.9 + 0.1 / root, 0.6 + 0.4 / root)
    assert run.visited[1][0].tolist() == pytest.approx(second, abs=1e-12)
    assert (second[0], 4 * second[1]) == pytest.approx((0.924253563, 2.788057000), abs=1e-9)
    third = run.visited[2][0].tolist()
    assert (third[0], 4 * third[1]) == pytest.approx((0.839041147, 1.664458312), abs=1e-9)


def test_sam_by_hand() -> None:
    """Row B: u1 = (1, 1) + 0.1 (1, 4) / √17, w1 = w0 - 0.1 (1, 4) u1; the loss returned is that at w0."""
    run = Stepper(SAMConfig(**PLAIN, rho=0.1), Quadratic(DIAGONAL, (1.0, 1.0)))
    assert float(run.step()) == 2.5
    root = 17**0.5
    up = (1 + 0.1 / root, 1 + 0.4 / root)
    assert run.visited[1][0].tolist() == pytest.approx(up, abs=1e-12)
    assert run.model.point == pytest.approx((1 - 0.1 * up[0], 1 - 0.4 * up[1]), abs=1e-12)


def test_asam_by_hand() -> None:
    """At w = (2, 1) the gradient is (2, 4), w g = (4, 4): u = w + 0.5 (8, 4) / √32."""
    run = Stepper(ASAMConfig(**PLAIN), Quadratic(DIAGONAL, (2.0, 1.0)))
    run.step()
    assert run.visited[1][0].tolist() == pytest.approx((2 + 4 / 32**0.5, 1 + 2 / 32**0.5), abs=1e-12)


def test_sam_first_step() -> None:
    """Two gradients in the first step, as row B; then one, at a point up the gradient of u1."""
    config = S2SAMConfig(**PLAIN, rho=0.1, first_step="sam")
    run = Stepper(config, Quadratic(DIAGONAL, (1.0, 1.0)))
    run.step()
    assert run.model.point == pytest.approx((0.897574644, 0.561194300), abs=1e-8)
    assert len(run.visited) == 2
    up = torch.tensor([1.0, 4.0], dtype=torch.float64) * run.visited[1][0]
    expected = run.model.layer.weight[0].detach() + 0.1 * up / up.norm()
    run.step()
    torch.testing.assert_close(run.visited[2][0], expected, rtol=0, atol=1e-12)
    assert len(run.visited) == 3
    fresh: Any = config.build(Quadratic(DIAGONAL, (1.0, 1.0)))
    with pytest.raises(UserError, match="use step"), fresh.perturbed():
        pass


CALLS = {"sgd": 1, "s2sam": 1, "sam": 2, "asam": 2, "fsam": 2}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_per_step(name: str) -> None:
    run = Stepper(OPTIMIZERS[name](), Quadratic(DIAGONAL, (1.0, 1.0)))  # type: ignore[arg-type]
    for step in range(1, 4):
        run.step()
        assert len(run.visited) == step * CALLS[name]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sgd"])
def test_without_perturbation_it_is_the_base(name: str) -> None:
    """Bit for bit, a weight of -0 included."""
    mine = Stepper(OPTIMIZERS[name](rho=0.0), Quadratic(DIAGONAL, (1.0, -0.0)))  # type: ignore[arg-type,call-arg]
    base = Stepper(SGD(), Quadratic(DIAGONAL, (1.0, -0.0)))
    for _ in range(4):
        mine.step()
        base.step()
        assert torch.equal(mine.model.layer.weight, base.model.layer.weight)
        assert torch.equal(mine.visited[-1].signbit(), base.visited[-1].signbit())


def test_the_restored_weights_are_exact() -> None:
    """Without a learning rate nothing remains of a step, where subtraction leaves rounding residue."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(50)), nn.Parameter(torch.randn(3, 4, 5, 6))]
    before = [one.detach().clone() for one in weights]
    for restore, exact in (("copy", True), ("subtract", False)):
        optimizer = S2SAM(torch.optim.SGD(weights, lr=0.0), rho=3.7, restore=restore)  # type: ignore[arg-type]
        for _ in range(20):
            optimizer.zero_grad()
            with optimizer.perturbed():
                sum((one**2).sum() for one in weights).backward()
            optimizer.step()
        assert all(torch.equal(one, old) for one, old in zip(weights, before, strict=True)) == exact
        assert all(torch.allclose(one, old, atol=1e-4) for one, old in zip(weights, before, strict=True))


numbers = st.floats(-10, 10, allow_nan=False, width=32).map(lambda value: value if abs(value) > 1e-3 else 1.0)
vectors = st.lists(numbers, min_size=6, max_size=6)


def perturbation(gradient: list[float], weight: list[float], rho: float, adaptive: str = "none") -> Tensor:
    """Return u - w after one step that stored `gradient`; two parameters of unlike shapes."""
    params = [
        nn.Parameter(torch.tensor(weight[:4], dtype=torch.float64).view(2, 2)),
        nn.Parameter(torch.tensor(weight[4:], dtype=torch.float64)),
    ]
    optimizer = S2SAM(torch.optim.SGD(params, lr=0.0), rho, adaptive=adaptive)  # type: ignore[arg-type]
    with optimizer.perturbed():
        params[0].grad = torch.tensor(gradient[:4], dtype=torch.float64).view(2, 2)
        params[1].grad = torch.tensor(gradient[4:], dtype=torch.float64)
    optimizer.step()
    with optimizer.perturbed():
        up = torch.cat([one.detach().flatten() for one in params])
    return up - torch.tensor(weight, dtype=torch.float64)


@given(gradient=vectors, weight=vectors, rho=st.floats(1e-3, 10))
def test_perturbation_has_length_rho(gradient: list[float], weight: list[float], rho: float) -> None:
    moved = perturbation(gradient, weight, rho)
    assert float(moved.norm()) == pytest.approx(rho, rel=1e-10)
    along = torch.tensor(gradient, dtype=torch.float64)
    torch.testing.assert_close(moved, rho * along / along.norm(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adaptive", ["none", "asam"])
@given(gradient=vectors, weight=vectors, scale=st.floats(1e-4, 1e4))
def test_scale_of_the_gradient_does_not_matter(
    adaptive: str, gradient: list[float], weight: list[float], scale: float
) -> None:
    one = perturbation(gradient, weight, 0.5, adaptive)
    other = perturbation([scale * value for value in gradient], weight, 0.5, adaptive)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_official_adaptive_depends_on_the_scale() -> None:
    """Twice the gradient, four times the perturbation: why it isn't the default."""
    gradient, weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0] * 6
    one = perturbation(gradient, weight, 0.5, "official")
    other = perturbation([2 * value for value in gradient], weight, 0.5, "official")
    torch.testing.assert_close(other, 4 * one)


def test_schedule() -> None:
    """Length √(c/t) in step t; the first one has no previous gradient."""
    config = S2SAMConfig(lr=0.01, rho_schedule="sqrt", rho_c=0.04)
    run = Stepper(config, Quadratic(DIAGONAL, (1.0, 1.0)))
    for step in range(1, 5):
        before = run.model.layer.weight.detach().clone()
        run.step()
        length = 0.0 if step == 1 else (0.04 / step) ** 0.5
        assert float((run.visited[-1] - before).norm()) == pytest.approx(length, abs=1e-12)


BAD: dict[str, tuple[Callable[[torch.optim.Optimizer], Perturbing], str]] = {
    "rho": (lambda base: S2SAM(base, rho=-1), "rho -1: expected"),
    "NaN": (lambda base: S2SAM(base, rho=float("nan")), "rho nan: expected"),
    "c missing": (lambda base: S2SAM(base, rho_schedule="sqrt"), "sqrt needs c"),
    "c without sqrt": (lambda base: S2SAM(base, rho_c=1.0), "constant takes none"),
    "c": (lambda base: S2SAM(base, rho_schedule="sqrt", rho_c=0.0), "rho_c 0.0: expected"),
    "adaptive": (lambda base: S2SAM(base, adaptive="yes"), "none or asam or official"),  # type: ignore[arg-type]
    "official SAM": (lambda base: SAM(base, adaptive="official"), "expected none or asam"),  # type: ignore[arg-type]
    "no model": (lambda base: SAM(base), "needs model="),
    "first step": (lambda base: S2SAM(base, first_step="sam"), "needs model="),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case: str) -> None:
    build, message = BAD[case]
    with pytest.raises(UserError, match=message):
        build(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))


def test_sam_needs_a_closure() -> None:
    model = Quadratic(DIAGONAL, (1.0, 1.0))
    with pytest.raises(UserError, match="closure"):
        SAMConfig().build(model).step()
