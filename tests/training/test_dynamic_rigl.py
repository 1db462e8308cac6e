"""RigL against an independent computation of Algorithm 1, and its schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dynamic_loop import Loop, NoData, linear, seeded, situation
from hypothesis import given
from hypothesis import strategies as st

from training import masks
from training.sparsity.base import Moment
from training.sparsity.rigl import Rigl


def expected_mask(
    weight: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """The survivors and the new mask, flat, by sorting indices."""
    size, slope = np.abs(weight.numpy().ravel()), np.abs(gradient.numpy().ravel())
    kept = list(np.flatnonzero(mask.numpy().ravel()))
    count = int(fraction * len(kept))
    survivors = sorted(kept, key=lambda place: (size[place], -place))[count:]
    others = [place for place in range(size.size) if place not in set(survivors)]
    grown = sorted(others, key=lambda place: (-slope[place], place))[:count]
    flags = [np.zeros(size.size, dtype=bool) for _ in range(2)]
    flags[0][survivors] = True
    flags[1][survivors + grown] = True
    return flags[0], flags[1]


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    sparsity=st.floats(0, 0.99),
    step=st.integers(0, 75),
    fraction=st.floats(0, 1),
)
def test_against_sorted_indices(rows: int, columns: int, sparsity: float, step: int, fraction: float) -> None:
    weight = torch.randn(rows, columns, generator=seeded(1))
    gradient = torch.randn(rows, columns, generator=seeded(2))
    mask = torch.rand(rows, columns, generator=seeded(3)) >= sparsity
    method, moment = Rigl(drop_fraction=fraction), Moment(step, 100, 10)
    now = situation(linear(weight * mask), {"weight": mask}, moment, {"weight": gradient})
    (new,) = method.update_mask(now)
    _, expected = expected_mask(weight * mask, gradient, mask, method.fraction(moment))
    assert (new["weight"].numpy().ravel() == expected).all()
    assert int(new["weight"].sum()) == int(mask.sum())


def test_regrown_weights_keep_value_and_momentum() -> None:
    loop = Loop(Rigl(0.8, update_interval=4, drop_fraction=0.6), 60, 10).run()
    back = 0
    for change in loop.changes:
        for name, before in change.before.items():
            survivors, after = expected_mask(
                change.weights[name], change.gradients[name], before, loop.method.fraction(change.moment)
            )
            assert (change.after[name].numpy().ravel() == after).all()
            again = torch.from_numpy(after & ~survivors).reshape(before.shape) & before
            assert torch.equal(change.weights_after[name][again], change.weights[name][again])
            assert torch.equal(change.momentum_after[name][again], change.momentum[name][again])
            back += int((change.momentum_after[name][again] != 0).sum())
    assert back > 0


@pytest.mark.parametrize(
    ("step", "fraction"), [(0, 0.3), (150, 0.256066), (300, 0.15), (450, 0.043934), (600, 0)]
)
def test_fraction_falls_as_a_cosine(step: int, fraction: float) -> None:
    moment = Moment(step, 800, 10)
    assert Rigl().fraction(moment) == pytest.approx(fraction, abs=1e-6)
    assert Rigl(anneal="constant").fraction(moment) == 0.3


@pytest.mark.parametrize(("step", "dropped"), [(0, 276), (300, 138), (600, 0)])
def test_number_dropped(step: int, dropped: int) -> None:
    """9,216 weights at 90 %: int(f · 922), all of them grown elsewhere when the gradient is there."""
    model = linear(torch.randn(96, 96, generator=seeded(0)))
    mask = Rigl(0.9).init_mask(model, NoData(), seeded(0))
    masks.apply_to_weights(model, mask)
    gradients = {"weight": (~mask["weight"]).float()}
    (new,) = Rigl(0.9).update_mask(situation(model, mask, Moment(step, 800, 10), gradients))
    assert int((mask["weight"] & ~new["weight"]).sum()) == dropped
    assert int(new["weight"].sum()) == 922


@pytest.mark.parametrize(
    ("method", "steps", "expected"),
    [
        (Rigl(), 1000, list(range(0, 701, 100))),
        (Rigl(), 800, list(range(0, 601, 100))),
        (Rigl(update_interval=1), 8, [0, 1, 2, 3, 4, 5, 6]),
        (Rigl(update_interval=10, stop=1.0), 40, [0, 10, 20, 30]),
        (Rigl(), 20, [0]),
        (Rigl(), 1, [0]),
    ],
)
def test_due_until_stop(method: Rigl, steps: int, expected: list[int]) -> None:
    assert [step for step in range(2 * steps) if method.update_due(Moment(step, steps, 10))] == expected


def test_mask_is_fixed_after_stop() -> None:
    loop = Loop(Rigl(0.8, update_interval=5), 60, 10).run()
    assert [change.moment.step for change in loop.changes] == list(range(0, 46, 5))
    assert Rigl().gradient == "dense"


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_distribution(distribution: str) -> None:
    loop = Loop(Rigl(0.8, distribution), 1, 1)  # type: ignore[arg-type]
    counts = {"uniform": [346, 128], "erk": [87, 142, 309]}  # uniform keeps the first layer dense
    assert [int(part.sum()) for part in loop.first.values()] == counts[distribution]
