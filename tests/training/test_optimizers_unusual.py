"""SAM and S2-SAM around unusual optimizers, of unusual parameters: they work, or one line says why not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.errors import UserError
from training.optimizers import OPTIMIZERS, S2SAM, SAM, S2SAMConfig
from training.optimizers.perturbing import Perturbing
from training.sweep.plan import make_plan

KINDS: dict[str, Callable[[torch.optim.Optimizer], Perturbing]] = {
    "sam": lambda base: SAM(base, rho=0.3, batch_norm="both"),
    "asam": lambda base: SAM(base, rho=0.3, batch_norm="both", adaptive="asam"),
    "s2sam": lambda base: S2SAM(base, rho=0.3),
    "s2sam asam": lambda base: S2SAM(base, rho=0.3, adaptive="asam"),
    "s2sam official": lambda base: S2SAM(base, rho=0.3, adaptive="official"),
    "s2sam subtract": lambda base: S2SAM(base, rho=0.3, restore="subtract"),
}


def steps(optimizer: Perturbing, loss: Callable[[], Tensor], count: int = 4) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    for _ in range(count):
        optimizer.step(closure)  # type: ignore[arg-type]


class Words(nn.Module):
    """Word vectors and a classifier; index 3 stands twice in a batch, 0 never."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(6, 3, sparse=sparse, dtype=torch.float64)
        self.last = nn.Linear(3, 2, dtype=torch.float64)
        for one in self.parameters():
            one.data = torch.randn(one.shape, generator=generator, dtype=torch.float64)

    def loss(self) -> Tensor:
        words, labels = torch.tensor([1, 3, 3, 5]), torch.tensor([0, 1, 1, 0])
        return F.cross_entropy(self.last(self.table(words)), labels)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_gradients_are_those_of_a_dense_table(kind: str) -> None:
    """`nn.Embedding(sparse=True)`, the same weights after four steps."""
    sparse, dense = Words(sparse=True), Words(sparse=False)
    for model in (sparse, dense):
        steps(KINDS[kind](torch.optim.SGD(model.parameters(), lr=0.1)), model.loss)
    assert sparse.table.weight.grad is not None
    assert sparse.table.weight.grad.is_sparse
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(sparse.last.weight, dense.last.weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_adam_gets_sparse_gradients(kind: str) -> None:
    model = Words(sparse=True)
    before = model.table.weight.detach().clone()
    steps(KINDS[kind](torch.optim.SparseAdam([model.table.weight], lr=0.1)), model.loss)
    moved = (model.table.weight != before).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False, True]


@pytest.mark.parametrize("kind", ["sam", "asam", "s2sam", "s2sam asam", "s2sam subtract"])
def test_complex_weights_are_pairs_of_real_ones(kind: str) -> None:
    """A complex vector beside its two real parts; ASAM scales by the absolute value."""
    start = torch.tensor([1.0 + 0.5j, -0.3 + 2.0j, 0.7 - 1.1j], dtype=torch.complex128)
    target = torch.tensor([0.2 - 1.0j, 1.0 + 0.1j, -0.5 + 0.4j], dtype=torch.complex128)
    whole = nn.Parameter(start.clone())
    optimizer = KINDS[kind](torch.optim.SGD([whole], lr=0.1, momentum=0.9))
    steps(optimizer, lambda: ((whole - target).abs() ** 2 * torch.tensor([1.0, 2.0, 3.0])).sum())
    if kind in ("asam", "s2sam asam"):  # by hand: real pairs would be scaled one by one
        expected = by_hand(start, target, first=kind == "asam")
    else:
        pair = nn.Parameter(torch.view_as_real(start).clone())
        other = KINDS[kind](torch.optim.SGD([pair], lr=0.1, momentum=0.9))
        goal = torch.view_as_real(target)
        steps(other, lambda: ((pair - goal) ** 2 * torch.tensor([[1.0], [2.0], [3.0]])).sum())
        expected = torch.view_as_complex(pair.detach())
    torch.testing.assert_close(whole.detach(), expected, rtol=0, atol=1e-12)


def by_hand(weight: Tensor, target: Tensor, first: bool) -> Tensor:
    """ASAM (`first`: up the gradient at the weights) or S2-SAM with ASAM's scaling, four steps."""
    factor = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    velocity, before = torch.zeros_like(weight), torch.zeros_like(weight)
    for _ in range(4):
        up = 2 * factor * (weight - target) if first else before
        length = (weight.abs() * up).abs().square().sum().sqrt()
        point = weight if length == 0 else weight + 0.3 * weight.abs() ** 2 * up / length
        before = 2 * factor * (point - target)
        velocity = 0.9 * velocity + before
        weight = weight - 0.1 * velocity
    return weight


def test_official_scaling_of_complex_weights_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1), adaptive="official")
    with pytest.raises(UserError, match=r"official.*complex"):
        steps(optimizer, lambda: weight.abs().sum())
    assert torch.isfinite(torch.view_as_real(weight)).all()


class NeedsClosure(torch.optim.SGD):
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        closure()
        return 0.0


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


def names() -> Iterator[nn.Parameter]:
    yield from weights()


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "LBFGS": (lambda: torch.optim.LBFGS(weights()), "around LBFGS: it computes gradients of its own"),
    "closure": (lambda: NeedsClosure(weights(), lr=0.1), "around NeedsClosure: it computes gradients"),
    "SAM": (lambda: SAM(torch.optim.SGD(weights(), lr=0.1), batch_norm="both"), "around SAM: both perturb"),
    "S2SAM": (lambda: S2SAM(torch.optim.SGD(weights(), lr=0.1)), "around S2SAM: both perturb"),
    "parameters": (names, "around a generator: expected an optimizer, as in"),
    "class": (lambda: torch.optim.SGD, "around a type: expected an optimizer"),
    "None": (lambda: None, "around a NoneType: expected an optimizer"),
}


@pytest.mark.parametrize("kind", ["sam", "s2sam"])
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_wrapped_is_refused(kind: str, case: str) -> None:
    base, message = WRONG[case]
    with pytest.raises(UserError, match=message) as raised:
        KINDS[kind](base())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_gradient_nothing_moves(kind: str) -> None:
    """Everything frozen, or a batch that reaches no parameter; torch's optimizers do nothing then."""
    for frozen in (True, False):
        weight = nn.Parameter(torch.ones(3), requires_grad=not frozen)
        steps(KINDS[kind](torch.optim.SGD([weight], lr=0.1)), lambda: torch.tensor(1.0))
        assert weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_without_parameters(kind: str) -> None:
    alone, beside = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(2))
    groups: list[list[dict[str, Any]]] = [
        [{"params": [alone]}],
        [{"params": [], "weight_decay": 0.1}, {"params": [beside]}],
    ]
    for weight, group in zip((alone, beside), groups, strict=True):
        optimizer = KINDS[kind](torch.optim.SGD(group, lr=0.1, momentum=0.9))
        steps(optimizer, lambda weight=weight: (weight**4).sum())  # type: ignore[misc]
    assert torch.equal(alone, beside)


@pytest.mark.parametrize("kind", KINDS)
def test_scalars_and_empty_tensors(kind: str) -> None:
    gain, nothing = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.ones(0, 3))
    steps(KINDS[kind](torch.optim.Adam([gain, nothing], lr=0.1)), lambda: gain**2 + nothing.sum())
    assert 0 < gain.item() < 2


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_layers(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lazy = nn.LazyLinear(2)
        optimizer = KINDS[kind](torch.optim.SGD(lazy.parameters(), lr=0.01))
        steps(optimizer, lambda: lazy(torch.ones(3, 4)).square().mean())
    assert lazy.weight.shape == (2, 4)
    assert torch.isfinite(lazy.weight).all()


def test_a_scaler_around_sam_is_refused_in_one_line() -> None:
    net = nn.Linear(3, 1)
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.1), model=net)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(net(torch.ones(2, 3)).sum()).backward()
    with pytest.raises(UserError, match="GradScaler passes no closure on: train in bfloat16"):
        scaler.step(optimizer)
    with pytest.raises(UserError, match="GradScaler passes no closure on"):
        scaler.step(optimizer, lambda: 0.0)
    off = torch.amp.GradScaler("cpu", enabled=False)
    before = copy.deepcopy(net)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = net(torch.ones(2, 3)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    off.step(optimizer, closure)
    assert not torch.equal(net.weight, before.weight)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("s2sam", {"rho": -0.1}, "rho -0.1: expected a finite number of at least 0"),
        ("sam", {"rho": float("nan")}, "rho = nan"),
        ("asam", {"rho": float("inf")}, "rho inf"),
        ("s2sam", {"rho-schedule": "sqrt"}, "sqrt needs c"),
        ("sam", {"rho-c": 1.0}, "constant takes none"),
        ("s2sam", {"rho-schedule": "sqrt", "rho-c": -1.0}, "rho_c -1.0"),
        ("sgd", {"lr": -0.1}, "lr -0.1: expected a positive number"),
    ],
)
def test_bad_options_fail_at_planning(optimizer: str, options: dict[str, Any], message: str) -> None:
    matrix = {"methods": ["random"], "sparsities": [0.9], "optimizers": [optimizer]}
    with pytest.raises(
        UserError, match=rf"here.toml: matrix 1: .*{message}|optimizer {optimizer}: {message}"
    ):
        make_plan({"output": "x", "matrix": [matrix], "optimizer": {optimizer: options}}, "here.toml")


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sgd"])
def test_a_negative_radius_is_no_setting(name: str) -> None:
    with pytest.raises(UserError, match="rho -1"):
        OPTIMIZERS[name](rho=-1)  # type: ignore[call-arg]
    assert S2SAMConfig(rho=0).rho == 0
