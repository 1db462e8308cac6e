"""Every method and every optimizer through the real loop: what must hold whatever they are."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, Stop, assert_same, fit

from landscape.errors import UserError
from training import loop, masks
from training.config import RunConfig
from training.data import TrainingData, load_splits
from training.models import build_model
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS, Dense, Random

SETTINGS: dict[str, dict[str, Any]] = {
    "lt": {"prune_fraction": 0.6, "search_epochs": 1},
    "rigl": {"update_interval": 3},
    "mest_em": {"interval": 0.5},
    "mest_ems": {"interval": 0.5},
    "safe": {"dual_interval": 3},
    "chex": {"interval": 0.5},
    "chase": {"interval": 0.5, "channel_interval": 0.5},
}
"""Schedules for a training of three epochs of five steps, where the defaults would never come to act."""

KEPT_DENSE: dict[str, tuple[masks.Layer, ...]] = {
    "dsr": ("first", "shortcut"),
    "mest_em": ("first", "last", "shortcut"),
    "mest_ems": ("first", "last", "shortcut"),
}
"""What a method's authors neither mask nor count."""


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def configured(method: str, optimizer: str = "sgd") -> RunConfig:
    kind = METHODS[method]
    made = kind() if kind is Dense else kind(sparsity=0.8, **SETTINGS.get(method, {}))  # type: ignore[call-arg]
    return dataclasses.replace(SMALL, epochs=3, method=made, optimizer=OPTIMIZERS[optimizer](lr=0.05))


@pytest.mark.parametrize("method", METHODS)
def test_invariants_at_every_step(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Pruned weights are 0 without momentum; other tensors are trained; the end has the exact sparsity.

    That of `chex` is of channels: see its own tests.
    """
    original, steps = loop.train_step, 0

    def watched(run: loop.Run, *rest: Any) -> None:
        nonlocal steps
        original(run, *rest)
        steps += 1
        for name, mask in run.mask.items():
            weight = run.model.get_parameter(name)
            assert not weight[~mask].any()
            assert not torch.signbit(weight[~mask]).any()
            for value in run.optimizer.state.get(weight, {}).values():
                if isinstance(value, torch.Tensor) and value.shape == mask.shape:
                    assert not value[~mask].any()

    monkeypatch.setattr(loop, "train_step", watched)
    heard = Silent()
    checkpoint = fit(configured(method), data, tmp_path, heard)
    assert steps == 5 * len(heard.records) == 5 * heard.epochs
    model = build_model("resnet20", num_classes=4, widths=(4, 6, 8))
    if method == "dense":
        assert not checkpoint.mask
        assert checkpoint.metrics["sparsity"] == 0
        return
    weights = masks.prunable(model, KEPT_DENSE.get(method, ()))
    if method == "chex":
        weights = {name: weight for name, weight in weights.items() if name.startswith("layer")}
    total = sum(weight.numel() for weight in weights.values())
    assert set(checkpoint.mask) == set(weights)
    assert checkpoint.metrics["kept_weights"] == masks.kept(checkpoint.mask)
    assert method == "chex" or abs(checkpoint.metrics["sparsity"] - 0.8) < 1e-3
    assert 0.2 - 1e-3 <= checkpoint.metrics["exploration"] <= 1
    layers = checkpoint.metrics["layers"]
    assert sum(one["weights"] for one in layers.values()) == total
    assert all(one["kept"] <= one["ever_active"] <= one["weights"] for one in layers.values())
    untouched = [name for name in ("bn1.weight", "linear.bias") if not checkpoint.state_dict[name].all()]
    assert not untouched


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_runs_end_bit_identical(data: TrainingData, tmp_path: Path, method: str) -> None:
    config = configured(method, "s2sam")
    whole = fit(config, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "cut", Stop(2))
    assert_same(whole, fit(config, data, tmp_path / "cut"))


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow", "random"])
def test_static_masks_stay(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    seen: list[masks.Mask] = []
    original = loop.train_step

    def watched(run: loop.Run, *rest: Any) -> None:
        seen.append(run.mask)
        original(run, *rest)

    monkeypatch.setattr(loop, "train_step", watched)
    checkpoint = fit(configured(method), data, tmp_path)
    for mask in [*seen, checkpoint.mask]:
        assert all(torch.equal(part, seen[0][name]) for name, part in mask.items())
    assert checkpoint.metrics["exploration"] == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("method", ["set", "rigl", "dsr", "mest_em"])
def test_dynamic_masks_explore(data: TrainingData, tmp_path: Path, method: str) -> None:
    heard = Silent()
    checkpoint = fit(configured(method), data, tmp_path, heard)
    assert checkpoint.metrics["exploration"] > 0.21
    rates = [record["exploration"] for record in heard.records]
    assert rates == sorted(rates)
    assert sum(record["grown"] for record in heard.records) > 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(data: TrainingData, tmp_path: Path, optimizer: str) -> None:
    config = dataclasses.replace(configured("random", optimizer), epochs=8)
    checkpoint = fit(config, data, tmp_path)
    assert checkpoint.metrics["test_accuracy"] > 0.5  # chance is 0.25
    assert checkpoint.config["optimizer"]["name"] == optimizer


def test_s2sam_without_radius_is_sgd(data: TrainingData, tmp_path: Path) -> None:
    config = configured("rigl")
    plain = fit(config, data, tmp_path / "sgd")
    zero = dataclasses.replace(config, optimizer=OPTIMIZERS["s2sam"](lr=0.05, rho=0.0))  # type: ignore[call-arg]
    ours = fit(zero, data, tmp_path / "s2sam")
    for name, tensor in plain.state_dict.items():
        assert torch.equal(tensor, ours.state_dict[name]), name


def test_rounds_start_from_the_early_weights(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Survivors equal the stored weights, masks are nested and shrink by the fraction, schedules restart."""
    config = dataclasses.replace(
        SMALL,
        epochs=2,
        method=METHODS["lt"](sparsity=0.8, prune_fraction=0.5, rewind_step=3),  # type: ignore[call-arg]
    )
    stored: dict[str, torch.Tensor] = {}
    starts: list[tuple[int, masks.Mask, float]] = []
    original = loop.train_step

    def watched(run: loop.Run, epoch: Any, step: int, *rest: Any) -> None:
        if step == 3 and epoch.round == 0:
            stored.update({name: value.clone() for name, value in run.model.state_dict().items()})
        if step == 3 and epoch.round > 0:
            for name, value in run.model.state_dict().items():
                kept = run.mask.get(name, torch.ones_like(value, dtype=torch.bool))
                assert torch.equal(value, torch.where(kept, stored[name], torch.zeros_like(value))), name
            assert not run.optimizer.state
        original(run, epoch, step, *rest)
        if step == 3:
            starts.append((epoch.round, run.mask, run.optimizer.param_groups[0]["lr"]))
        assert step >= 3 or not epoch.round

    monkeypatch.setattr(loop, "train_step", watched)
    heard = Silent()
    checkpoint = fit(config, data, tmp_path, heard)
    assert [record["round"] for record in heard.records] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [number for number, _, _ in starts] == [0, 1, 2, 3]
    assert len({lr for _, _, lr in starts}) == 1
    levels = [masks.sparsity(mask) for _, mask, _ in starts]
    assert levels == pytest.approx([0, 0.5, 0.75, 0.8], abs=1e-3)
    for (_, before, _), (_, after, _) in itertools.pairwise(starts):
        assert all(bool((part <= before[name]).all()) for name, part in after.items())
    assert checkpoint.metrics["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_rewinding_beyond_a_round_is_refused(data: TrainingData, tmp_path: Path) -> None:
    method = METHODS["lt"](sparsity=0.8, rewind_step=10, search_epochs=1)  # type: ignore[call-arg]
    with pytest.raises(UserError, match="the shortest round has only 5 steps"):
        fit(dataclasses.replace(SMALL, method=method), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_empty_layers_warn_or_fail(data: TrainingData, tmp_path: Path) -> None:
    """At 99.7 % some uniform layer of this small network has less than half a weight left."""
    heard = Silent()
    config = dataclasses.replace(SMALL, epochs=1, method=Random(0.997, "uniform"))
    fit(config, data, tmp_path / "warns", heard)
    assert len(heard.notes) == 1
    assert heard.notes[0].startswith("no weight is kept in ")
    strict = dataclasses.replace(config, method=Random(0.997, "uniform", empty_layers="fail"))
    with pytest.raises(UserError, match=r"no weight is kept in .*choose a lower --sparsity"):
        fit(strict, data, tmp_path / "fails")
    assert not (tmp_path / "fails").exists()
