"""What every dynamic method does to weights, momentum and mask, whatever it decides by."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from devices import devices
from dynamic_loop import Loop, NoData, linear, seeded, situation, tiny_net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from landscape.errors import UserError
from training import masks
from training.sparsity.base import MaskedMethod, Moment
from training.sparsity.dsr import Dsr
from training.sparsity.mest_em import MestEm
from training.sparsity.mest_ems import MestEms
from training.sparsity.prune_grow import grow_random
from training.sparsity.rigl import Rigl
from training.sparsity.set_evolution import Set

METHODS: dict[str, MaskedMethod] = {
    "set": Set(0.8, interval=0.4),
    "set_signed": Set(0.8, interval=0.4, criterion="signed", anneal="cosine"),
    "rigl": Rigl(0.8, update_interval=4),
    "dsr": Dsr(0.8, threshold=1e-2, keep_dense=()),
    "mest_em": MestEm(0.8, interval=0.4, stages=(0.04, 0.02, 0.0), keep_dense=()),
    "mest_em_gradient": MestEm(0.8, interval=0.4, stages=(0.04, 0.02, 0.0), lambda_g=0.5, keep_dense=()),
    "mest_ems": MestEms(0.8, interval=0.4, keep_dense=()),
}
CONSTANT = [name for name in METHODS if name not in ("dsr", "mest_ems")]
STEPS, STEPS_PER_EPOCH = 60, 10


@cache
def trained(name: str, seed: int = 0) -> Loop:
    return Loop(METHODS[name], STEPS, STEPS_PER_EPOCH, seed).run()


@pytest.mark.parametrize("name", METHODS)
def test_weights_and_momentum(name: str) -> None:
    """What is kept throughout is untouched, what is grown starts from 0 without momentum, the rest is 0."""
    loop = trained(name)
    assert len(loop.changes) >= 5
    grown_ever = 0
    for change in loop.changes:
        for key, after in change.after.items():
            weight, momentum = change.weights_after[key], change.momentum_after[key]
            # A single mask keeps what it keeps; of two in turn, the first one decides what survives.
            survived = change.before[key] & after & (change.masks[0][key])
            fresh = after & ~survived
            assert torch.equal(weight[survived], change.weights[key][survived])
            assert torch.equal(momentum[survived], change.momentum[key][survived])
            assert not weight[~survived].any()
            assert not momentum[~survived].any()
            assert not torch.signbit(weight[~survived]).any()
            grown_ever += int(fresh.sum())
    assert grown_ever > 0
    for key, part in loop.mask.items():
        assert not loop.model.get_parameter(key)[~part].any()


@pytest.mark.parametrize("name", CONSTANT)
def test_each_layer_keeps_its_number(name: str) -> None:
    loop = trained(name)
    moved = 0
    for change in loop.changes:
        for key, before in change.before.items():
            dropped, grown = before & ~change.masks[0][key], change.after[key] & ~change.masks[0][key]
            if len(change.masks) == 1:
                grown = change.after[key] & ~before
            assert int(dropped.sum()) == int(grown.sum())
            assert int(change.after[key].sum()) == int(loop.first[key].sum())
            moved += int((before & ~change.after[key]).sum())
    assert moved > 0


@pytest.mark.parametrize("name", METHODS)
def test_final_sparsity_is_exact(name: str) -> None:
    assert masks.kept(trained(name).mask) == round(0.2 * (324 + 1728 + 640))


@pytest.mark.parametrize("name", ["set", "mest_em", "mest_em_gradient", "mest_ems"])
def test_smallest_are_dropped(name: str) -> None:
    """No weight that is dropped is more important than one that survives."""
    method, dropped_ever = METHODS[name], 0
    factor = method.lambda_g if isinstance(method, MestEm) else 0
    for change in trained(name).changes:
        for key, before in change.before.items():
            importance = change.weights[key].abs()
            if factor and key in change.gradients:
                importance = importance + factor * change.gradients[key].abs()
            survived = change.masks[0][key]
            assert not (survived & ~before).any()
            dropped = importance[before & ~survived]
            dropped_ever += len(dropped)
            if len(dropped):
                assert dropped.max() <= importance[survived].min()
    assert dropped_ever > 0


@pytest.mark.parametrize("name", METHODS)
def test_seed_decides(name: str) -> None:
    one, other = trained(name), trained(name, seed=1)
    again = Loop(METHODS[name], STEPS, STEPS_PER_EPOCH).run()
    assert all(torch.equal(part, again.mask[key]) for key, part in one.mask.items())
    assert any(not torch.equal(part, other.mask[key]) for key, part in one.mask.items())


@pytest.mark.parametrize("name", ["set", "dsr", "mest_em", "mest_ems"])
def test_growth_depends_on_the_generator(name: str) -> None:
    loop = trained(name)
    moment = loop.changes[1].moment
    found = [
        METHODS[name].update_mask(situation(loop.model, loop.mask, moment, seed=seed))[-1] for seed in (1, 2)
    ]
    assert any(not torch.equal(part, found[1][key]) for key, part in found[0].items())


@pytest.mark.parametrize("name", METHODS)
def test_first_mask_leaves_the_model_alone(name: str) -> None:
    model = tiny_net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    mask = METHODS[name].init_mask(model, NoData(), seeded(0))
    masks.check(model, mask)
    assert list(mask) == ["0.weight", "3.weight", "6.weight"]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [Set, Rigl, Dsr, MestEm, MestEms])
def test_dense_layers_stay_out(kind: type[MaskedMethod]) -> None:
    loop = Loop(kind(0.8, keep_dense=("first", "last")), STEPS, STEPS_PER_EPOCH).run()
    assert list(loop.mask) == ["3.weight"]


@pytest.mark.parametrize("kind", [Set, Rigl, Dsr, MestEm, MestEms])
@given(steps=st.integers(1, 40), steps_per_epoch=st.integers(1, 40), interval=st.floats(0.01, 3))
def test_nothing_is_due_at_the_end(
    kind: type[MaskedMethod], steps: int, steps_per_epoch: int, interval: float
) -> None:
    """Whatever the length, also with every limit at its highest."""
    options: dict[str, Any] = {"stop": 1.0} if kind in (Rigl, Dsr) else {"interval": interval}
    if kind in (Rigl, Dsr):
        options["update_interval"] = math.ceil(interval)
    if kind in (MestEm, MestEms):
        options["switches"] = (0.5, 0.999)
    method = kind(0.9, **options)
    assert not any(
        method.update_due(Moment(step, steps, steps_per_epoch)) for step in range(steps, 2 * steps + 1)
    )


@pytest.mark.parametrize("kind", [Set, Rigl, Dsr, MestEm, MestEms])
@pytest.mark.parametrize("epochs", [2, 160])
def test_defaults_fit_any_length(kind: type[MaskedMethod], epochs: int) -> None:
    """CIFAR-10 at batch 64: at least one change, the last one before the training's last twentieth."""
    method, steps = kind(0.9), epochs * 704
    due = [step for step in range(steps) if method.update_due(Moment(step, steps, 704))]
    assert due
    if kind is not Set:  # it has no end; its last change is a whole epoch before
        assert due[-1] < 0.95 * steps


@pytest.mark.parametrize("kind", [Set, Rigl, MestEm, MestEms])
def test_full_layers_keep_their_values(kind: type[MaskedMethod]) -> None:
    """Without an empty place there is nothing to explore, so no weight is set to 0."""
    model = linear(torch.randn(8, 8, generator=seeded(0)))
    method = kind(0.0, keep_dense=())
    mask = method.init_mask(model, NoData(), seeded(0))
    gradients = {"weight": torch.randn(8, 8, generator=seeded(1))}
    for one in method.update_mask(situation(model, mask, Moment(0, 100, 10), gradients)):
        assert one["weight"].all()


@pytest.mark.parametrize("kind", [Set, MestEm, MestEms])
def test_kept_weights_may_be_zero(kind: type[MaskedMethod]) -> None:
    """As after growth: then only the mask tells them from pruned ones, and pruning adds none of those."""
    mask = {"weight": (torch.arange(400) >= 300).reshape(20, 20)}
    now = situation(linear(torch.zeros(20, 20)), mask, Moment(0, 100, 10))
    first = kind(0.75).update_mask(now)[0]["weight"]
    assert 0 < int(first.sum()) <= 100
    assert not (first & ~mask["weight"]).any()


@given(size=st.integers(1, 200), share=st.floats(0, 1), count=st.integers(0, 220))
def test_random_growth_is_exact(size: int, share: float, count: int) -> None:
    kept = torch.rand(size, generator=seeded(size)) < share
    grown = grow_random(kept, count, seeded(count))
    assert (grown | ~kept).all()
    assert int(grown.sum()) == min(size, int(kept.sum()) + count)


def test_random_growth_is_uniform() -> None:
    """5 places, 4 standard deviations around 400 hits of 2,000."""
    kept = torch.tensor([[True, False, False, True], [False, False, False, True]])
    generator, hits = seeded(0), torch.zeros(2, 4)
    for _ in range(2000):
        hits += (grow_random(kept, 1, generator) & ~kept).float()
    assert (hits[kept] == 0).all()
    assert ((hits[~kept] - 400).abs() < 4 * math.sqrt(2000 * 0.2 * 0.8)).all()


WRONG: list[tuple[Callable[[], MaskedMethod], str]] = [
    (lambda: Set(drop_fraction=1.2), "drop-fraction 1.2: expected a share"),
    (lambda: Set(interval=0.0), "interval 0.0: expected a positive number"),
    (lambda: Set(sparsity=1.0), "sparsity 1.0"),
    (lambda: Rigl(drop_fraction=-0.1), "drop-fraction -0.1"),
    (lambda: Rigl(update_interval=0), "update-interval 0: expected a positive"),
    (lambda: Rigl(stop=75.0), "stop 75.0: expected a share"),
    (lambda: Rigl(sparsity=1.0), "sparsity 1.0"),
    (lambda: Dsr(threshold=0.0), "threshold 0.0: expected a positive"),
    (lambda: Dsr(update_interval=-1), "update-interval -1"),
    (lambda: Dsr(prune_fraction=14.0), "prune-fraction 14.0: expected a share"),
    (lambda: Dsr(tolerance=float("nan")), "tolerance nan"),
    (lambda: Dsr(stop=2.0), "stop 2.0"),
    (lambda: Dsr(doublings=(0.1, 25.0)), "doublings 25.0"),
    (lambda: Dsr(sparsity=-1.0), "sparsity -1.0"),
    (lambda: MestEm(interval=-5.0), "interval -5.0"),
    (lambda: MestEm(switches=(0.7, 0.5)), "switches 0.7 0.5: expected ascending"),
    (lambda: MestEm(switches=(0.7, 1.0)), "switches 0.7 1.0: expected ascending"),
    (lambda: MestEm(lambda_g=-1.0), "lambda-g -1.0"),
    (lambda: MestEm(stages=(-0.1, 0.0, 0.0)), "stages -0.1"),
    (lambda: MestEm(0.9, stages=(0.1, 0.0, 0.0)), "stages 0.1: leaves nothing"),
    (lambda: MestEm(sparsity=1.0), "sparsity 1.0"),
    (lambda: MestEms(0.9, stages=(0.05, 0.02, 0.01)), "the last one 0"),
    (lambda: MestEms(0.1, stages=(0.2, 0.1, 0.0)), "shares up to the sparsity"),
]


@pytest.mark.parametrize(("build", "message"), WRONG)
def test_wrong_settings(build: Callable[[], MaskedMethod], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        build()


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", METHODS)
def test_masks_depend_on_no_device(name: str, device: str) -> None:
    """They are on the model's, and the same as on the CPU; scores are all different, so nothing is a tie."""
    method, found = METHODS[name], []
    for kind in ("cpu", device):
        model: nn.Module = tiny_net().to(kind)
        first = method.init_mask(model, NoData(), seeded(0))
        masks.apply_to_weights(model, first)
        gradients = {
            key: torch.randn(part.shape, generator=seeded(1)).to(kind) for key, part in first.items()
        }
        now = situation(model, first, Moment(8, STEPS, STEPS_PER_EPOCH), gradients)
        last = method.update_mask(now)[-1]
        assert all(part.device.type == kind for mask in (first, last) for part in mask.values())
        assert any(not torch.equal(part, first[key]) for key, part in last.items())
        found.append({key: part.cpu() for key, part in last.items()})
    assert all(torch.equal(part, found[1][key]) for key, part in found[0].items())
