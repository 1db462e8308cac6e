"""DSR: the threshold, what it prunes, and how growth is shared among layers."""

from __future__ import annotations

import pytest
import torch
from dynamic_loop import Loop, linear, seeded, situation
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from training import masks
from training.sparsity.base import Moment
from training.sparsity.dsr import Dsr, apportion

MIDDLE = Moment(50, 100, 10)


@pytest.fixture(scope="module")
def loop() -> Loop:
    return Loop(Dsr(0.8, update_interval=3, threshold=1e-2), 60, 10).run()


def test_total_is_kept_while_layers_change(loop: Loop) -> None:
    counts = []
    for change in loop.changes:
        dropped = sum(int((part & ~change.after[name]).sum()) for name, part in change.before.items())
        grown = sum(int((change.after[name] & ~part).sum()) for name, part in change.before.items())
        assert dropped == grown
        counts.append([int(part.sum()) for part in change.after.values()])
    assert len({tuple(one) for one in counts}) > 1
    assert {sum(one) for one in counts} == {masks.kept(loop.first)}


def test_all_below_the_threshold_go_and_stay_away(loop: Loop) -> None:
    for change in loop.changes:
        threshold = 1e-2 if change.threshold is None else change.threshold
        assert len(change.masks) == 1
        for name, before in change.before.items():
            below = change.weights[name].abs() < threshold
            assert torch.equal(before & ~change.after[name], before & below)


def test_threshold_moves_by_two(loop: Loop) -> None:
    factors = []
    for change in loop.changes:
        threshold = 1e-2 if change.threshold is None else change.threshold
        pruned = sum(int((part & ~change.after[name]).sum()) for name, part in change.before.items())
        wanted = 0.14 * masks.kept(change.before)
        expected = 0.5 if pruned > 1.1 * wanted else 2 if pruned < 0.9 * wanted else 1
        factors.append((change.threshold_after or 0) / threshold)
        assert factors[-1] == expected
    assert {0.5, 2} <= set(factors)


@pytest.mark.parametrize(
    ("below", "factor"), [(0, 2), (8, 2), (9, 1), (10, 1), (11, 1), (12, 0.5), (50, 0.5)]
)
def test_threshold_by_hand(below: int, factor: float) -> None:
    """10 of 100 kept weights are wanted; `below` are under the first threshold of 0.5."""
    weight = torch.ones(10, 20)
    weight.view(-1)[:below] = 0.25
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask.view(-1)[:100] = True
    memory: dict[str, float] = {}
    method = Dsr(threshold=0.5, prune_fraction=0.1)
    (new,) = method.update_mask(situation(linear(weight * mask), {"weight": mask}, MIDDLE, memory=memory))
    assert int((mask & ~new["weight"]).sum()) == below
    assert memory == {"threshold": 0.5 * factor}
    memory["threshold"] = 2.0  # a saved state wins over the setting: now all but one are below
    (new,) = method.update_mask(situation(linear(weight * mask), {"weight": mask}, MIDDLE, memory=memory))
    assert int((mask & ~new["weight"]).sum()) == 99
    assert memory == {"threshold": 1.0}


def two_layers(scale: float) -> tuple[nn.Module, masks.Mask]:
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False))
    mask = {}
    for number, (name, weight) in enumerate(masks.prunable(model).items()):
        mask[name] = torch.rand(weight.shape, generator=seeded(number)) < 0.3
        weight.data = torch.rand(weight.shape, generator=seeded(number + 5)) * scale * mask[name]
    return model, mask


def test_each_layer_keeps_its_largest_weight() -> None:
    model, mask = two_layers(scale=1e-3)
    (new,) = Dsr(threshold=1.0).update_mask(situation(model, mask, MIDDLE))
    assert masks.kept(new) == masks.kept(mask)
    for name, weight in masks.prunable(model).items():
        survivors = mask[name] & new[name]
        assert int(survivors.sum()) == 1
        assert weight[survivors] == weight.max()


@given(sparsity=st.floats(0, 0.98), seed=st.integers(0, 50), threshold=st.floats(1e-3, 3))
def test_exact_even_without_room(sparsity: float, seed: int, threshold: float) -> None:
    """No more is pruned than can grow elsewhere, smallest first; just-pruned places stay empty."""
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False))
    mask, size = {}, {}
    for number, (name, weight) in enumerate(masks.prunable(model).items()):
        mask[name] = torch.rand(weight.shape, generator=seeded(seed + number)) >= sparsity
        weight.data = torch.randn(weight.shape, generator=seeded(seed + number + 100)) * mask[name]
        size[name] = weight.detach().abs()
    (new,) = Dsr(threshold=threshold).update_mask(situation(model, mask, MIDDLE, seed=seed))
    pruned = {name: part & ~new[name] for name, part in mask.items()}
    assert masks.kept(new) == masks.kept(mask)
    candidates = {name: part & (size[name] < threshold) for name, part in mask.items()}
    for name, part in mask.items():
        assert not (pruned[name] & ~candidates[name]).any()
        assert (part & ~pruned[name]).any() or not part.any()
        if torch.equal(candidates[name], part):  # then its largest one is safe
            candidates[name] = part & (size[name] < size[name][part].max()) if part.any() else part
    room = sum(int((~part).sum()) for part in mask.values())
    assert masks.kept(pruned) == min(room, masks.kept(candidates))
    if 0 < masks.kept(pruned) < masks.kept(candidates):
        largest = max(float(size[name][part].max()) for name, part in pruned.items() if part.any())
        spared = [size[name][candidates[name] & ~part] for name, part in pruned.items()]
        assert largest <= float(torch.cat(spared).min())


@given(
    survivors=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    data=st.data(),
    seed=st.integers(0, 20),
)
def test_shares_are_exact(survivors: list[int], data: st.DataObject, seed: int) -> None:
    weights = {str(number): value for number, value in enumerate(survivors)}
    room = {name: data.draw(st.integers(0, 60)) for name in weights}
    total = data.draw(st.integers(0, sum(room.values())))
    given_ = apportion(total, weights, room, seeded(seed))
    assert sum(given_.values()) == total
    assert all(0 <= given_[name] <= room[name] for name in weights)


@given(survivors=st.lists(st.integers(1, 50), min_size=1, max_size=6), total=st.integers(0, 500))
def test_shares_follow_the_survivors(survivors: list[int], total: int) -> None:
    """With room for all, each gets its share rounded down, and one of them the rest."""
    assume(total)
    weights = {str(number): value for number, value in enumerate(survivors)}
    given_ = apportion(total, weights, dict.fromkeys(weights, 1000), seeded(total))
    over = [given_[name] - total * value // sum(survivors) for name, value in weights.items()]
    assert min(over) >= 0
    assert sum(one > 0 for one in over) <= 1


def test_rest_goes_to_any_layer() -> None:
    weights, room = dict.fromkeys("abc", 1), dict.fromkeys("abc", 9)
    shares = [apportion(1, weights, room, seeded(seed)) for seed in range(40)]
    assert {max(weights, key=lambda name: one[name]) for one in shares} == {"a", "b", "c"}


def test_due_in_the_authors_training() -> None:
    """WRN-28-2: 100,000 steps; every 100, 200, 400, 800 from 0, 12,500, 40,000 and 70,000, up to 95,000."""
    due = [step for step in range(100_001) if Dsr().update_due(Moment(step, 100_000, 500))]
    assert due == [
        *range(100, 12_500, 100),
        *range(12_600, 40_000, 200),
        *range(40_000, 70_000, 400),
        *range(70_400, 95_000, 800),
    ]


@pytest.mark.parametrize(
    ("interval", "steps", "expected"),
    [
        (None, 20, [1, 2, 4, 6, 8, 12, 16]),
        (None, 80, [2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64]),
        (2, 20, [2, 4, 8, 16]),
        (100, 20, []),
    ],
)
def test_due_in_short_trainings(interval: int | None, steps: int, expected: list[int]) -> None:
    method = Dsr(update_interval=interval)
    assert [step for step in range(steps + 1) if method.update_due(Moment(step, steps, 10))] == expected
