"""SET: how many are dropped, which, and when."""

from __future__ import annotations

import pytest
import torch
from dynamic_loop import linear, seeded, situation
from hypothesis import given
from hypothesis import strategies as st

from training.sparsity.base import Moment
from training.sparsity.set_evolution import Set

MIDDLE = Moment(50, 100, 10)


@given(
    rows=st.integers(1, 30),
    columns=st.integers(1, 30),
    sparsity=st.floats(0, 0.99),
    fraction=st.floats(0, 1),
)
def test_numbers_are_exact(rows: int, columns: int, sparsity: float, fraction: float) -> None:
    model = linear(torch.randn(rows, columns, generator=seeded(1)))
    kept = torch.rand(rows, columns, generator=seeded(2)) >= sparsity
    dropped, grown = Set(drop_fraction=fraction).update_mask(situation(model, {"weight": kept}, MIDDLE))
    count = int(kept.sum())
    if not kept.all():
        assert int(dropped["weight"].sum()) == count - int(fraction * count)
    assert int(grown["weight"].sum()) == count


def test_by_hand() -> None:
    """Of six kept weights int(0.35·6) = 2 go: 0.1 and −0.2."""
    weight = torch.tensor([[0.3, -0.2, 0.0, 0.1], [-0.9, 0.0, 0.8, 0.7]])
    dropped, _ = Set(drop_fraction=0.35).update_mask(
        situation(linear(weight), {"weight": weight != 0}, MIDDLE)
    )
    assert dropped["weight"].tolist() == [[True, False, False, False], [True, False, True, True]]


def test_signed_by_hand() -> None:
    """A third of each sign, rounded down: 0.5 goes, not −0.2; −0.15 stays as the only negative one."""
    weight = torch.tensor([[0.5, 0.9, 0.6, 0.0], [-0.1, -0.2, -0.3, 0.0]])
    signed = Set(drop_fraction=0.34, criterion="signed")
    dropped, grown = signed.update_mask(situation(linear(weight), {"weight": weight != 0}, MIDDLE))
    assert dropped["weight"].tolist() == [[False, True, True, False], [False, True, True, False]]
    assert int(grown["weight"].sum()) == 6
    one_negative = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, -0.15, 0.0]])
    dropped, _ = signed.update_mask(situation(linear(one_negative), {"weight": one_negative != 0}, MIDDLE))
    assert dropped["weight"].tolist() == [[False, False, True, True], [True, True, True, False]]


def test_places_just_emptied_can_grow() -> None:
    """Two weights, one of them dropped: it comes back in about half of the draws."""
    model, mask = linear(torch.tensor([[0.1, 0.9, 0.0]])), {"weight": torch.tensor([[True, True, False]])}
    back = 0
    for seed in range(200):
        now = situation(model, mask, MIDDLE, seed=seed)
        _, grown = Set(drop_fraction=0.5).update_mask(now)
        back += int(grown["weight"][0, 0])
    assert 70 < back < 130


@pytest.mark.parametrize(
    ("interval", "epochs", "expected"),
    [
        (1.0, 5, [10, 20, 30, 40]),
        (1.0, 2, [10]),
        (0.5, 2, [5, 10, 15]),
        (2.0, 5, [20, 40]),
        (0.01, 1, list(range(1, 10))),
    ],
)
def test_due(interval: float, epochs: int, expected: list[int]) -> None:
    method, steps = Set(interval=interval), 10 * epochs
    assert [step for step in range(steps) if method.update_due(Moment(step, steps, 10))] == expected


def test_fraction() -> None:
    moments = [Moment(step, 100, 10) for step in (0, 25, 50, 75, 100)]
    assert [Set().fraction(moment) for moment in moments] == [0.3] * 5
    expected = pytest.approx([0.3, 0.256066, 0.15, 0.043934, 0], abs=1e-6)
    assert [Set(anneal="cosine").fraction(moment) for moment in moments] == expected
