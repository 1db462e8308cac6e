"""Chase: its schedules in closed form, its invariants in the real loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_loop import seeded
from loop_helpers import CPU, SMALL, fit
from test_chex import DENSE, Images, network, tensors_of
from torch import Tensor, nn

from landscape.checkpoint import load_checkpoint
from landscape.errors import UserError
from training import masks, step
from training.data import TrainingData, load_splits
from training.models import ARCHITECTURES, build_model
from training.optimizers import OPTIMIZERS
from training.run import Run
from training.sparsity.base import Moment, Situation
from training.sparsity.chase import Chase

WIDTHS = (8, 10, 12)
TOTAL = 9 * 8 * 3 + 6 * 9 * 64 + 9 * 80 + 5 * 9 * 100 + 9 * 120 + 5 * 9 * 144 + 12 * 4
"""Weights of the convolutions and the classifier."""


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def test_schedules_as_published() -> None:
    """160 epochs of 500 steps: weights every 1000 steps, channels 500 before these, up to epoch 130."""
    method, steps = Chase(0.9), 80_000
    moments = [Moment(number, steps, 500) for number in range(0, steps, 250)]
    weights = [one.step for one in moments if method.weights_due(one)]
    channels = [one.step for one in moments if method.channels_due(one)]
    assert weights == list(range(1000, 80_000, 1000))
    assert channels == [*range(500, 65_000, 1000), 65_000]
    assert method.density(Moment(0, steps, 500)) == pytest.approx(0.15)
    assert method.density(Moment(32_500, steps, 500)) == pytest.approx(0.125)
    assert method.density(Moment(65_000, steps, 500)) == pytest.approx(0.1)
    assert method.removed_share(Moment(32_500, steps, 500)) == pytest.approx(0.5 * 7 / 8)
    assert method.removed_share(Moment(70_000, steps, 500)) == 0.5
    assert method.exchanged(Moment(40_000, steps, 500)) == pytest.approx(0.2525)


def changes(
    config: Any, data: TrainingData, path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[dict[str, Any]]]:
    """A training, and the state before and after each change of the mask."""
    seen: list[dict[str, Any]] = []
    original = step._change_mask

    def watched(run: Run, epoch: Any, moment: Moment) -> None:
        seen.append(
            {
                "moment": moment,
                "before": run.mask,
                "weights": {name: run.model.get_parameter(name).detach().clone() for name in run.mask},
                "gradients": {name: value.clone() for name, value in run.gradients().items()},
            }
        )
        original(run, epoch, moment)
        seen[-1] |= {"after": run.mask, "removed": {k: v.clone() for k, v in run.memory.items()}}
        for key, gone in seen[-1]["removed"].items():
            layer = key.removeprefix("removed ")
            for name in tensors_of(layer)[:3]:
                assert not run.model.get_parameter(name)[gone].any()
            assert not run.model.get_parameter(layer.replace("conv1", "conv2") + ".weight")[:, gone].any()
            assert run.model.get_parameter(tensors_of(layer)[1])[~gone].all()

    monkeypatch.setattr(step, "_change_mask", watched)
    return fit(config, data, path, extras=DENSE), seen


@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "sam"])
def test_invariants(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    method = Chase(0.8, interval=0.4, channel_interval=0.6, least=0.8)
    config = replace(SMALL, widths=WIDTHS, method=method, optimizer=OPTIMIZERS[optimizer](lr=0.1))
    checkpoint, seen = changes(config, data, tmp_path, monkeypatch)
    assert sum(part.numel() for part in checkpoint.mask.values()) == TOTAL
    gone: dict[str, Tensor] = {}
    for change in seen:
        moment, removed = change["moment"], change["removed"]
        for key, part in removed.items():
            assert not (gone.get(key, part) & ~part).any()  # they never come back
            layer = key.removeprefix("removed ")
            assert not change["after"][f"{layer}.weight"][part].any()
            assert not change["after"][layer.replace("conv1", "conv2") + ".weight"][:, part].any()
            assert int((~part).sum()) >= int(len(part) * 0.5 * 0.8)
        if method.channels_due(moment):
            count = sum(int(part.sum()) for part in removed.values())
            assert count == round(method.removed_share(moment) * 90)
        if method.weights_due(moment) and moment.step <= method.last_step(moment):
            assert masks.kept(change["after"]) == round(method.density(moment) * TOTAL)
        elif method.weights_due(moment):
            assert masks.kept(change["after"]) == masks.kept(change["before"])
        gone = removed
    assert sum(int(part.sum()) for part in gone.values()) == 45
    assert masks.kept(checkpoint.mask) == round(0.2 * TOTAL)


def test_whole_layers_compete(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One threshold for all weights that drop, one for all gradients that grow; channels aside."""
    method = Chase(0.8, interval=0.4, channel_sparsity=0.0)
    _, seen = changes(replace(SMALL, widths=WIDTHS, method=method), data, tmp_path, monkeypatch)
    first = next(change for change in seen if method.weights_due(change["moment"]))
    flat = {
        key: torch.cat([first[key][name].flatten() for name in first["before"]])
        for key in ("before", "weights", "gradients", "after")
    }
    size = flat["weights"].abs().masked_fill(~flat["before"], -1)
    survivors = torch.zeros_like(flat["before"])
    survivors[size.argsort(descending=True)[: round(0.2 * TOTAL)]] = True
    grown = flat["after"] & ~survivors
    others = ~flat["after"]
    assert (flat["after"] >= survivors).all()
    assert int(grown.sum()) == round(method.density(first["moment"]) * TOTAL) - round(0.2 * TOTAL)
    assert flat["gradients"].abs()[grown].min() >= flat["gradients"].abs()[others].max()


@pytest.mark.parametrize("score", ["all", "kept"])
def test_the_weakest_channels_go(score: Any) -> None:
    """By the mean of all weights of a filter, or of the kept ones, over all layers; by brute force."""
    model = network()
    method = Chase(0.6, interval=2, channel_interval=2, least=0.0, score=score)
    mask = method.init_mask(model, Images(), seeded(0))
    masks.apply_to_weights(model, mask)
    moment = Moment(10, 160, 10)
    assert method.channels_due(moment)
    assert not method.weights_due(moment)
    memory: dict[str, Any] = {}
    (after,) = method.update_mask(Situation(model, mask, moment, {}, Images(), seeded(0), memory))
    scores = []
    for key in memory:
        name = f"{key.removeprefix('removed ')}.weight"
        for channel, filters in enumerate(model.get_parameter(name).detach().abs().double()):
            kept = mask[name][channel]
            mean = filters[kept].mean() if score == "kept" else filters.mean()
            scores.append((float(mean), name, channel))
    count = round(method.removed_share(moment) * 90)
    found = {(f"{key[8:]}.weight", int(one)) for key, gone in memory.items() for one in gone.nonzero()}
    assert count > 3
    assert found == {(name, channel) for _, name, channel in sorted(scores)[:count]}
    assert all(not after[name][channel].any() for name, channel in found)


def test_the_result_is_smaller(data: TrainingData, tmp_path: Path) -> None:
    """With a mask of what is pruned within it."""
    method = Chase(0.8, interval=0.4, channel_interval=0.6, channel_sparsity=0.6)
    metrics = fit(replace(SMALL, widths=WIDTHS, method=method), data, tmp_path, extras=DENSE).metrics
    final, small = (
        load_checkpoint(tmp_path / name, architectures=ARCHITECTURES) for name in ("final.pt", "shrunk.pt")
    )
    assert small.mask is not None
    assert sum(int(part.sum()) for part in small.mask.values()) <= metrics["kept_weights"]
    assert sum(metrics["channels"].values()) <= 90 - 54
    assert metrics["flops"] < metrics["shrunk_flops"] < metrics["flops_dense"]
    images = data.test.normalized(data.test.pixels).double()
    with torch.no_grad():
        expected = final.model.double()(images)
        assert torch.allclose(small.model.double()(images), expected, rtol=0, atol=1e-6)


def test_channels_between_two_convolutions() -> None:
    """Of VGG all but the last; those that a layer kept dense makes or reads stay."""
    vgg = build_model("vgg19")
    assert len(Chase(0.9).groups(vgg, torch.zeros(1, 3, 32, 32))) == 15
    assert len(Chase(0.9, keep_dense=("first",)).groups(vgg, torch.zeros(1, 3, 32, 32))) == 14
    with pytest.raises(UserError, match=r"no channel of this Sequential .*those of 0: not exactly one conv"):
        Chase(0.9).init_mask(
            nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 2)), Images(), seeded(0)
        )


@pytest.mark.parametrize("setting", ["least", "channel_sparsity", "soft_bound", "stop"])
def test_bad_settings(setting: str) -> None:
    values: dict[str, Any] = {setting: 1.5}
    with pytest.raises(UserError, match=f"{setting.replace('_', '-')} 1.5: expected a share"):
        Chase(**values)
