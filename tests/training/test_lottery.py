"""Lottery tickets: how many rounds there are and what each one keeps."""

from itertools import pairwise

import pytest
import torch
from scoring_cases import NoData, nested, seeded, small_network

from training import masks
from training.masks import Mask, prunable
from training.sparsity.lt import LotteryTicket
from training.sparsity.ranking import Ranking


@pytest.mark.parametrize(
    ("sparsity", "cuts"),
    # Ten rounds of 20 % reach 89.26 %, 14 reach 95.60 %, 17 reach 97.75 % and 18 reach 98.20 %.
    [(0.0, 0), (0.1, 1), (0.2, 1), (0.36, 2), (0.8926, 10), (0.9, 11), (0.95, 14), (0.98, 18)],
)
def test_number_of_rounds(sparsity: float, cuts: int) -> None:
    assert list(LotteryTicket(sparsity).round_epochs(160)) == [160] * (cuts + 1)
    assert list(LotteryTicket(sparsity, search_epochs=5).round_epochs(160)) == [5] * cuts + [160]


@pytest.mark.parametrize("number", range(1, 30))
def test_whole_rounds_need_no_shorter_one(number: int) -> None:
    """Powers of 0.8 rounded up or down in the last bit don't add a round."""
    assert LotteryTicket(1 - 0.8**number).cuts == number


def rounds(method: LotteryTicket) -> list[tuple[Mask, dict[str, torch.Tensor]]]:
    """Every round's mask and the weights at its end, which have moved at random from the first ones."""
    model, noise = small_network(), seeded(1)
    first = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    mask, found = method.init_mask(model, NoData(), seeded()), []
    for number in range(len(method.round_epochs(1))):
        if number:
            mask = method.next_round(model, mask, number)
        for name, weight in prunable(model).items():
            weight.data.copy_(first[name] + torch.randn(weight.shape, generator=noise))
        masks.apply_to_weights(model, mask)
        found.append((mask, {name: weight.detach().clone() for name, weight in prunable(model).items()}))
    return found


@pytest.mark.parametrize("ranking", ["global", "erk"])
def test_each_round_keeps_a_fifth_less(ranking: Ranking) -> None:
    found = [mask for mask, _ in rounds(LotteryTicket(0.9, ranking=ranking))]
    counts = [masks.kept(mask) for mask in found]
    assert counts == [120, 96, 77, 61, 49, 39, 31, 25, 20, 16, 13, 12]  # round(0.8^k * 120), then 10 %
    assert all(nested(after, before) for before, after in pairwise(found))


def test_each_round_drops_the_smallest_survivors() -> None:
    for (before, weights), (after, _) in pairwise(rounds(LotteryTicket(0.7, prune_fraction=0.4))):
        survivors = torch.cat([weights[name][part].abs() for name, part in before.items()])
        count = masks.kept(before) - masks.kept(after)
        threshold = survivors.sort().values[count]
        for name, part in before.items():
            assert torch.equal(after[name], part & (weights[name].abs() >= threshold))


def test_without_sparsity_there_is_one_dense_round() -> None:
    (only,) = rounds(LotteryTicket(0.0))
    assert masks.kept(only[0]) == 120


def test_rewinding_is_a_setting() -> None:
    assert LotteryTicket().rewind_step == 0
    assert LotteryTicket(rewind_step=500).rewind_step == 500
