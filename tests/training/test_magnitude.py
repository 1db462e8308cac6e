"""Magnitude pruning in training: its schedule, and masks that only shrink."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scoring_cases import NoData, equal, nested, seeded, situation, small_network
from torch import nn

from training import masks
from training.masks import Mask, prunable
from training.sparsity.base import Moment
from training.sparsity.distribution import layer_counts
from training.sparsity.magnitude import Magnitude
from training.sparsity.ranking import Ranking
from training.sparsity.shrinking import shrink

STEPS, PER_EPOCH = 200, 10


def train(method: Magnitude, steps: int = STEPS) -> dict[int, Mask]:
    """The mask after every update, with weights that move at random in every step."""
    model, noise = small_network(), seeded(1)
    mask, history = method.init_mask(model, NoData(), seeded()), {}
    history[-1] = mask
    for step in range(steps):
        moment = Moment(step, steps, PER_EPOCH)
        if method.update_due(moment):
            (mask,) = method.update_mask(situation(model, mask, moment))
            masks.apply_to_weights(model, mask)
            history[step] = mask
        for weight in prunable(model).values():
            weight.data += 0.1 * torch.randn(weight.shape, generator=noise)
        masks.apply_to_weights(model, mask)
    return history


def test_the_cubic_schedule() -> None:
    """s·(1 - (1 - t)³) at t = 0, ¼, ½, ¾, 1, and constant outside."""
    method = Magnitude(0.8, begin=0.2, end=0.6)
    found = [method.sparsity_at(Moment(step, STEPS, PER_EPOCH)) for step in (0, 40, 60, 80, 100, 120, 199)]
    assert found == pytest.approx([0, 0, 0.4625, 0.7, 0.7875, 0.8, 0.8])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"interval": 2}, [40, 60, 80, 100, 119]),  # in epochs of 10 steps; the last one in any case
        ({"interval": 25, "interval_unit": "steps"}, [40, 65, 90, 115, 119]),
        ({"interval": 1000}, [40, 119]),
        ({"end": 0.2}, [40]),
        ({"begin": 0.0, "end": 0.0}, []),
        ({"begin": 0.9999, "end": 0.9999}, [199]),  # before the last step, not after it
        ({"begin": 0.0, "end": 0.001}, [0]),
    ],
)
def test_when_the_mask_changes(settings: dict[str, float], expected: list[int]) -> None:
    method = Magnitude(**{"begin": 0.2, "end": 0.595} | settings)
    due = [step for step in range(STEPS) if method.update_due(Moment(step, STEPS, PER_EPOCH))]
    assert due == expected
    history = train(method)
    assert list(history) == [-1, *expected]
    assert masks.kept(history[(expected or [-1])[-1]]) == 12


@pytest.mark.parametrize("ranking", ["global", "uniform", "erk"])
def test_gradual_masks_are_nested_and_exact(ranking: Ranking) -> None:
    method = Magnitude(0.9, begin=0.1, end=0.5, ranking=ranking)
    history = train(method)
    assert masks.kept(history[-1]) == masks.kept(history[20]) == 120
    steps = list(history)
    assert steps[1:] == list(range(20, 101, 10))
    for before, after in pairwise(steps):
        assert nested(history[after], history[before])
        sparsity = 0.9 * (1 - (1 - (after - 20) / 80) ** 3)
        assert masks.kept(history[after]) == round((1 - sparsity) * 120)
    if ranking != "global":
        shapes = {name: tuple(part.shape) for name, part in history[100].items()}
        counts = {name: int(part.sum()) for name, part in history[100].items()}
        assert counts == layer_counts(shapes, 0.9, ranking)


def test_the_smallest_weights_go() -> None:
    """By hand: the threshold over all layers at once, signs ignored; the same before and in training."""
    model = small_network()
    magnitudes = torch.cat([weight.detach().abs().reshape(-1) for weight in prunable(model).values()])
    threshold = magnitudes.sort().values[60]
    first = Magnitude(0.5, begin=0, end=0).init_mask(model, NoData(), seeded())
    for name, weight in prunable(model).items():
        assert torch.equal(first[name], weight.abs() >= threshold)
    method = Magnitude(0.5, begin=0.3, end=0.3)
    dense = method.init_mask(model, NoData(), seeded())
    assert masks.kept(dense) == 120
    assert equal(method.update_mask(situation(model, dense, Moment(60, STEPS, PER_EPOCH)))[0], first)


def test_pruned_weights_stay_pruned_whatever_their_score() -> None:
    scores = {"a": torch.tensor([9.0, 1.0, 2.0, 3.0])}
    mask = {"a": torch.tensor([False, True, True, True])}
    assert shrink(mask, scores, 0.5)["a"].tolist() == [False, False, True, True]
    assert equal(shrink(mask, scores, 0.0), mask)
    zero = {"a": torch.zeros(4)}
    assert shrink(mask, zero, 0.25)["a"].tolist() == [False, True, True, True]
    # The pruned 9 is no candidate, so it takes no place of its layer.
    mask["b"], scores["b"] = torch.ones(4, dtype=torch.bool), torch.tensor([10.0, 20.0, 30.0, 40.0])
    after = shrink(mask, scores, 0.5, "uniform")
    assert after["a"].tolist() == after["b"].tolist() == [False, False, True, True]


def test_kept_weights_that_are_zero_go_before_pruned_ones_return() -> None:
    model = small_network()
    for weight in prunable(model).values():
        nn.init.zeros_(weight)
    mask = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    next(iter(mask.values()))[:2] = False
    method = Magnitude(0.5, begin=0.3, end=0.3)
    (after,) = method.update_mask(situation(model, mask, Moment(60, STEPS, PER_EPOCH)))
    assert nested(after, mask)
    assert masks.kept(after) == 60


def test_a_layer_whose_share_grows_gets_no_weight_back() -> None:
    """Of 4 weights, uniform gives layers of 1, 3 and 3 weights 0, 2 and 2; of 3, it gives them one each."""
    shapes = {"a": (1, 1), "b": (1, 3), "c": (1, 3)}
    assert list(layer_counts(shapes, 3 / 7, "uniform").values()) == [0, 2, 2]
    assert list(layer_counts(shapes, 4 / 7, "uniform").values()) == [1, 1, 1]
    scores = {"a": torch.tensor([[9.0]]), "b": torch.tensor([[4.0, 3, 7]]), "c": torch.tensor([[2.0, 5, 8]])}
    mask = {"a": [[False]], "b": [[True, True, False]], "c": [[True, True, False]]}
    after = shrink({name: torch.tensor(part) for name, part in mask.items()}, scores, 4 / 7, "uniform")
    assert after["a"].tolist() == [[False]]
    assert after["b"].tolist() == [[True, True, False]]
    assert after["c"].tolist() == [[False, True, False]]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=5),
    st.lists(st.floats(0, 0.99), min_size=1, max_size=6),
    st.sampled_from(["global", "uniform", "er", "erk"]),
    st.integers(0, 3),
)
def test_shrinking_is_nested_and_exact(
    shapes: list[tuple[int, int]], sparsities: list[float], ranking: Ranking, levels: int
) -> None:
    """With few different scores, so that many are equal."""
    generator, total = seeded(len(shapes)), sum(a * b for a, b in shapes)
    mask = {f"layer{number}": torch.ones(shape, dtype=torch.bool) for number, shape in enumerate(shapes)}
    for sparsity in sorted(sparsities):
        scores = {
            name: torch.randint(levels + 1, part.shape, generator=generator) / 1.0
            for name, part in mask.items()
        }
        after = shrink(mask, scores, sparsity, ranking)
        assert nested(after, mask)
        assert masks.kept(after) == round((1 - sparsity) * total)
        mask = after
