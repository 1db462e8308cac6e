"""MEST, EM and EM&S: exact counts, stages, and that the final sparsity is reached in time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from dynamic_loop import Loop, NoData, linear, seeded, situation
from hypothesis import given
from hypothesis import strategies as st
from loop_helpers import CPU, SMALL
from torch import nn

from landscape.errors import UserError
from training import masks
from training.checkpoint import RunFolder
from training.data import load_splits
from training.distributed import World
from training.optimizers import OPTIMIZERS
from training.run import start_run
from training.sparsity.base import Moment
from training.sparsity.distribution import layer_counts
from training.sparsity.mest import Mest
from training.sparsity.mest_em import MestEm
from training.sparsity.mest_ems import MestEms
from training.step import Closure, train_step
from training.sweep.plan import load_plan

# Steps in the first, second and third stage of 160 epochs of 10 steps.
STAGES = [Moment(0, 1600, 10), Moment(900, 1600, 10), Moment(1200, 1600, 10)]


@pytest.mark.parametrize(
    ("method", "first", "expected"),
    [
        (MestEm(0.9, keep_dense=()), 922, [(737, 922), (829, 922), (922, 922)]),
        (MestEms(0.9, keep_dense=()), 1382, [(922, 1382), (922, 1152), (922, 922)]),
        (MestEms(0.98, keep_dense=()), 645, [(184, 645), (184, 369), (184, 184)]),
    ],
)
def test_published_counts(method: Mest, first: int, expected: list[tuple[int, int]]) -> None:
    """A layer of 9,216 weights after pruning and after growing in each stage."""
    model = linear(torch.randn(96, 96, generator=seeded(0)))
    mask = method.init_mask(model, NoData(), seeded(0))
    assert masks.kept(mask) == first
    for moment, counts in zip(STAGES, expected, strict=True):
        masks.apply_to_weights(model, mask)
        pruned, grown = method.update_mask(situation(model, mask, moment))
        assert (masks.kept(pruned), masks.kept(grown)) == counts
        mask = grown


@given(
    widths=st.lists(st.integers(1, 25), min_size=2, max_size=5),
    sparsity=st.floats(0, 0.97),
    distribution=st.sampled_from(["uniform", "er", "erk"]),
    soft=st.booleans(),
)
def test_counts_are_exact(widths: list[int], sparsity: float, distribution: str, soft: bool) -> None:
    """The totals and each layer's number, in every stage, for layers of any size."""
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    method: Mest = (MestEms if soft else MestEm)(sparsity, distribution, keep_dense=())  # type: ignore[arg-type]
    mask = method.init_mask(model, NoData(), seeded(0))
    total = sum(part.numel() for part in mask.values())
    for moment in STAGES:
        masks.apply_to_weights(model, mask)
        pruned, mask = method.update_mask(situation(model, mask, moment))
        change = method.change(moment) if soft else 0
        assert masks.kept(mask) == round((1 - max(0.0, sparsity - change)) * total)
        low = round((1 - sparsity - (0 if soft else method.change(moment))) * total)
        full = sum(part.numel() for part in mask.values() if part.all())
        assert masks.kept(pruned) <= max(masks.kept(mask), low)
        assert masks.kept(pruned) <= low + full


def test_small_layers_rounded_apart_stay_exact() -> None:
    """Of layers of few weights, one can get more at the higher sparsity; what it grows to must win."""
    model = nn.Sequential(*(nn.Linear(size, 1, bias=False) for size in (3, 3, 5, 5, 2)))
    crossed = 0
    for percent in range(20, 99):
        method = MestEms(percent / 100, stages=(0.2, 0.01, 0.0), keep_dense=())
        keep, target = (
            layer_counts(method.shapes(model), sparsity, "uniform") for sparsity in method.sparsities(0.01)
        )
        crossed += any(keep[name] > target[name] for name in keep)
        mask = method.init_mask(model, NoData(), seeded(0))
        for moment, expected in ((STAGES[1], target), (STAGES[2], keep)):
            _, mask = method.update_mask(situation(model, mask, moment))
            assert {name: int(part.sum()) for name, part in mask.items()} == expected
    assert crossed


def test_first_mask_keeps_the_largest_of_each_layer() -> None:
    loop = Loop(MestEm(0.8, keep_dense=()), 1, 1)
    fresh = Loop(MestEm(0.0, keep_dense=()), 1, 1).model
    for name, part in loop.first.items():
        weight = fresh.get_parameter(name).abs()
        assert int(part.sum()) in (math.floor(0.2 * part.numel()), math.ceil(0.2 * part.numel()))
        assert weight[part].min() > weight[~part].max()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (MestEm(0.9), (0.02, 0.01, 0)),
        (MestEm(0.95), (0.01, 0.005, 0)),
        (MestEm(0.98), (0.002, 0.001, 0)),
        (MestEm(0.925), (0.015, 0.0075, 0)),
        (MestEm(0.5), (0.02, 0.01, 0)),
        (MestEm(0.99), (0.001, 0.0005, 0)),
        (MestEms(0.9), (0.05, 0.025, 0)),
        (MestEms(0.95), (0.05, 0.025, 0)),
        (MestEms(0.98), (0.05, 0.02, 0)),
        (MestEms(0.99), (0.025, 0.01, 0)),
        (MestEm(0.9, stages=(0.03, 0.02, 0.01)), (0.03, 0.02, 0.01)),
    ],
)
def test_stages(method: Mest, expected: tuple[float, ...]) -> None:
    assert method.changes() == pytest.approx(expected, abs=1e-12)
    assert [method.change(moment) for moment in STAGES] == pytest.approx(list(expected), abs=1e-12)


def test_due_in_the_authors_training() -> None:
    """160 epochs: every 5, epoch 0 too; after epoch 120 the mask stays, EM&S prunes once more there."""

    def due(method: Mest) -> list[int]:
        return [step for step in range(2000) if method.update_due(Moment(step, 1600, 10))]

    assert due(MestEm(0.9)) == list(range(0, 1151, 50))
    assert due(MestEms(0.9)) == list(range(0, 1201, 50))
    assert due(MestEm(0.9, stages=(0.02, 0.01, 0.005))) == list(range(0, 1551, 50))


@given(steps=st.integers(1, 300), steps_per_epoch=st.integers(1, 100), interval=st.floats(0.05, 10))
def test_final_sparsity_is_reached_in_time(steps: int, steps_per_epoch: int, interval: float) -> None:
    """However short the training and long the interval: at the last switch, with a step still to go."""
    method = MestEms(0.9, interval=interval)
    due = [step for step in range(steps) if method.update_due(Moment(step, steps, steps_per_epoch))]
    assert due[-1] == min(round(0.75 * steps), steps - 1)
    assert method.change(Moment(due[-1], steps, steps_per_epoch)) == 0


@pytest.mark.parametrize(("epochs", "interval"), [(1, 5.0), (2, 5.0), (3, 0.3), (6, 5.0), (6, 0.5)])
def test_soft_bound_in_a_short_training(epochs: int, interval: float) -> None:
    """The number kept is that of the stage at every step, and nothing moves after the last switch."""
    loop = Loop(MestEms(0.8, interval=interval, keep_dense=()), 7 * epochs, 7)
    assert masks.kept(loop.first) == round(0.25 * 2692)
    loop.run()
    for change in loop.changes:
        points = loop.method.change(change.moment)  # type: ignore[attr-defined]
        assert masks.kept(change.after) == round((0.2 + points) * 2692)
        assert masks.kept(change.masks[0]) == round(0.2 * 2692)
    assert loop.changes[-1].moment.step == min(round(0.75 * 7 * epochs), 7 * epochs - 1)
    assert masks.kept(loop.mask) == round(0.2 * 2692)


def test_gradient_counts_in_the_importance() -> None:
    """|w| + 2|g| = 1.2, 0.9, 0.8, 0.7: the two of smallest |w| survive."""
    weight = torch.tensor([[0.2, 0.3, 0.8, 0.7, 0.0, 0.0, 0.0, 0.0]])
    gradients = {"weight": torch.tensor([[-0.5, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])}
    model, mask = linear(weight), {"weight": weight != 0}
    method = MestEm(0.5, stages=(0.25, 0.25, 0.0), lambda_g=2.0)
    assert (method.gradient, MestEm().gradient) == ("last", "none")
    pruned, _ = method.update_mask(situation(model, mask, STAGES[0], gradients))
    assert pruned["weight"].tolist() == [[True, True, *[False] * 6]]
    pruned, _ = method.update_mask(situation(model, mask, STAGES[0]))  # before the first step
    assert pruned["weight"].tolist() == [[False, False, True, True, *[False] * 4]]


def test_stages_of_table_1_are_those_of_its_networks() -> None:
    """At 0.98 the authors mutate more of VGG-19 than of ResNet-32."""
    found = {
        (run.config.model, type(run.config.method)): run.config.method.changes()
        for run in load_plan("table1-paper").runs
        if isinstance(run.config.method, Mest) and run.config.method.sparsity == 0.98
    }
    assert found == {
        ("resnet32_wide", MestEm): (0.002, 0.001, 0.0),
        ("resnet32_wide", MestEms): (0.05, 0.02, 0.0),
        ("vgg19", MestEm): (0.01, 0.005, 0.0),
        ("vgg19", MestEms): (0.05, 0.025, 0.0),
    }


@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "fsam"])
def test_the_latest_gradient_has_no_momentum(
    optimizer: str, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which torch adds to it in place where it updates several tensors at once, as it does on GPUs."""
    config = replace(
        SMALL,
        optimizer=OPTIMIZERS[optimizer](0.1, nesterov=True, weight_decay=0.0),
        method=MestEm(0.7, interval=5.0, lambda_g=1.0),
    )
    data = load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU)
    run = start_run(config, data, RunFolder(tmp_path, {}), CPU, World(), False)
    run.optimizer.param_groups[0]["foreach"] = True
    original, seen = Closure.__call__, []

    def watched(self: Closure, sync: bool = True) -> torch.Tensor:
        loss = original(self, sync)
        seen.append({name: run.model.get_parameter(name).grad.clone() for name in run.mask})  # type: ignore[union-attr]
        return loss

    monkeypatch.setattr(Closure, "__call__", watched)
    images = data.train.normalized(data.train.pixels[:16])
    for step in range(3):
        train_step(run, run.plan[0], step, images, data.train.labels[:16], torch.zeros(()))
    found = run.gradients()
    changed = [run.model.get_parameter(name).grad for name in found]
    assert all(torch.equal(value, seen[-1][name]) for name, value in found.items())
    assert not all(torch.equal(value, one) for value, one in zip(found.values(), changed, strict=True))
    assert run.state()["gradients"] is found


@pytest.mark.parametrize("kind", [MestEm, MestEms])
def test_places_just_emptied_can_grow(kind: type[Mest]) -> None:
    weight = torch.tensor([[0.9, 0.1, 0.0, 0.0]] if kind is MestEm else [[0.9, 0.1, 0.2, 0.0]])
    method = kind(0.5, stages=(0.25, 0.25, 0.0))
    back = 0
    for seed in range(100):
        pruned, grown = method.update_mask(
            situation(linear(weight), {"weight": weight != 0}, STAGES[0], seed=seed)
        )
        assert not pruned["weight"][0, 1]
        back += int(grown["weight"][0, 1])
    assert 15 < back < 65


def test_unreachable_distribution_fails_at_once() -> None:
    """uniform+ can keep a dense first layer at this sparsity, but not at the one that EM prunes to."""
    model = nn.Sequential(nn.Linear(10, 9), nn.Linear(9, 30), nn.Linear(30, 10))
    method = MestEm(0.7, "uniform+", stages=(0.2, 0.0, 0.0), keep_dense=())
    with pytest.raises(UserError, match="first and last layer"):
        method.init_mask(model, NoData(), seeded(0))
    MestEm(0.7, "uniform+", stages=(0.0, 0.0, 0.0), keep_dense=()).init_mask(model, NoData(), seeded(0))
