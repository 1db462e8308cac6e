"""CHEX: its formulas against NumPy and closed forms, its invariants in the real loop."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_loop import seeded
from loop_helpers import CPU, SMALL, fit
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from landscape.checkpoint import load_checkpoint
from landscape.errors import UserError
from training import loop, step
from training.data import TrainingData, load_splits
from training.flops import forward_flops
from training.masks import Mask
from training.models import ARCHITECTURES, build_model
from training.network import first_network
from training.optimizers import OPTIMIZERS
from training.run import Run
from training.sparsity.base import Moment, Situation
from training.sparsity.channels import Cost, count_to_remove, left
from training.sparsity.chex import Chex, column_scores, residuals

WIDTHS = (8, 10, 12)
DENSE = loop.Extras(sparse="off")  # new kernels for every mask would take most of the time


class Images:
    """A source of one kind of image."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 3, 8, 8), torch.zeros(count, dtype=torch.long)

    draw_balanced = draw


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model("resnet20", num_classes=4, widths=WIDTHS)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.1, 2)
        return model


def channels_of(mask: Mask) -> dict[str, Tensor]:
    """Channels that a mask keeps, by their layer: a filter is there as a whole or not at all."""
    found = {}
    for name, part in mask.items():
        if name.endswith("conv1.weight"):
            rows = part.flatten(1).any(1)
            reader = mask[name.replace("conv1", "conv2")]
            assert torch.equal(reader.transpose(0, 1).flatten(1).any(1), rows)
            assert torch.equal(part, rows[:, None, None, None].expand_as(part))
            assert torch.equal(reader, rows[None, :, None, None].expand_as(reader))
            found[name.removesuffix(".weight")] = rows
    return found


@pytest.mark.parametrize("count", [1, 5, 11, 12])
def test_leverage_scores(count: int) -> None:
    matrix = torch.randn(30, 12, dtype=torch.float64, generator=seeded(0))
    right = np.linalg.svd(matrix.numpy())[2][:count]
    assert np.allclose(column_scores(matrix, count), np.linalg.norm(right, axis=0))


def test_more_filters_than_weights_are_ranked_by_l1() -> None:
    matrix = torch.randn(3, 4, dtype=torch.float64, generator=seeded(0))
    assert torch.equal(column_scores(matrix, 2), matrix.abs().sum(0))
    assert not torch.equal(column_scores(matrix[:, :3], 2), matrix[:, :3].abs().sum(0))


def test_residuals_of_projections() -> None:
    """Against least squares, a zero column and a dependent one among those kept."""
    columns = torch.randn(9, 7, dtype=torch.float64, generator=seeded(1))
    kept = torch.cat([columns[:, :2], columns[:, :1] * 2, torch.zeros(9, 1)], 1)
    fitted = np.linalg.lstsq(kept.numpy(), columns.numpy(), rcond=None)[0]
    expected = np.linalg.norm(columns.numpy() - kept.numpy() @ fitted, axis=0)
    assert np.allclose(residuals(columns, kept), expected, atol=1e-12)
    assert np.allclose(residuals(columns, torch.zeros(9, 2).double()), columns.norm(dim=0))


@pytest.mark.parametrize(("sparsity", "first"), [(0.5, 0.2), (0.7, 0.3), (0.1, 0.0)])
def test_regrowing_falls_to_nothing(sparsity: float, first: float) -> None:
    """The published δ₀, and half a cosine to exactly 0 at T_max."""
    method, steps = Chex(sparsity), 2500
    assert method.first_regrow == pytest.approx(first)
    assert method.returning(Moment(0, steps, 10)) == pytest.approx(first)
    assert method.returning(Moment(900, steps, 10)) == pytest.approx(first / 2)
    assert method.returning(Moment(450, steps, 10)) == pytest.approx(first * (1 + math.sqrt(0.5)) / 2)
    assert method.returning(Moment(1800, steps, 10)) == 0


def test_changes_as_published() -> None:
    """Every second epoch from the second on, of 250 to the 180th."""
    due = [step for step in range(2500) if Chex().update_due(Moment(step, 2500, 10))]
    assert due == list(range(20, 1801, 20))
    assert [step for step in range(15) if Chex(interval=1).update_due(Moment(step, 15, 5))] == [5, 10, 11]


def test_layers_lose_by_their_scales_and_keep_by_their_filters() -> None:
    """The threshold over all layers, then int(C (1 − r)) filters of the largest leverage, by NumPy."""
    model, method = network(), Chex(0.6, regrow=0.0)
    scales = {
        name.replace("bn1", "conv1").removesuffix(".weight"): value.detach().abs().double().numpy()
        for name, value in model.named_parameters()
        if name.startswith("layer") and name.endswith("bn1.weight")
    }
    every = np.sort(np.concatenate(list(scales.values())))
    threshold = every[round(0.6 * len(every)) - 1]
    full = {
        name: torch.ones_like(part) for name, part in method.init_mask(model, Images(), seeded(0)).items()
    }
    moment = Moment(100, 100, 10)
    now = Situation(model, full, moment, {}, Images(), seeded(3), method.first_memory(model, full))
    (mask,) = method.update_mask(now)
    found = channels_of(mask)
    assert list(found) == list(scales)
    for name, rows in found.items():
        ratio = (scales[name] <= threshold).mean()
        count = max(1, int(len(rows) * (1 - ratio) + 1e-9))
        filters = model.get_parameter(f"{name}.weight").detach().double().flatten(1).T.numpy()
        best = np.linalg.norm(np.linalg.svd(filters)[2][:count], axis=0).argsort()[::-1][:count]
        assert rows.nonzero().flatten().tolist() == sorted(best.tolist())


def test_some_return_at_random() -> None:
    """As many as δ_t allows, among all that weren't kept, by the generator."""
    model, method = network(), Chex(0.6, regrow=0.3)
    full = {
        name: torch.ones_like(part) for name, part in method.init_mask(model, Images(), seeded(0)).items()
    }
    found = []
    for seed in (0, 1, 0):
        memory = method.first_memory(model, full)
        now = Situation(model, full, Moment(0, 100, 10), {}, Images(), seeded(seed), memory)
        found.append(channels_of(method.update_mask(now)[0]))
    total = sum(len(rows) for rows in found[0].values())
    for one in found:
        assert sum(int(rows.sum()) for rows in one.values()) == total - round(0.3 * total)
    assert all(torch.equal(rows, found[2][name]) for name, rows in found[0].items())
    assert any(not torch.equal(rows, found[1][name]) for name, rows in found[0].items())


def test_first_filters_by_l1() -> None:
    model, method = network(), Chex(0.6, regrow=0.3)
    for name, rows in channels_of(method.init_mask(model, Images(), seeded(0))).items():
        norms = model.get_parameter(f"{name}.weight").detach().abs().flatten(1).sum(1)
        assert abs(int(rows.sum()) - 0.7 * len(rows)) <= 1
        assert norms[rows].min() > norms[~rows].max()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_fewest_channels_that_save_the_flops(share: float) -> None:
    model = network()
    image = torch.zeros(1, 3, 8, 8)
    groups = Chex().groups(model, image)
    scores = [torch.rand(group.size, generator=seeded(2)) for group in groups]
    cost = Cost(groups, forward_flops(model, image))
    count = count_to_remove(groups, scores, share, "flops", cost)
    assert cost(left(groups, scores, count)) <= 1 - share < cost(left(groups, scores, count - 1))
    with pytest.raises(
        UserError, match=r"sparsity 0.99: only 0\.\d+ of the FLOPs go with all channels but one"
    ):
        count_to_remove(groups, scores, 0.99, "flops", cost)


def tensors_of(layer: str) -> list[str]:
    """Filters, scale, bias and statistics of a block's first convolution."""
    norm = layer.replace("conv1", "bn1")
    return [
        f"{layer}.weight",
        *(f"{norm}.{key}" for key in ("weight", "bias", "running_mean", "running_var")),
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "sam"])
def test_invariants(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Gone channels are exactly 0 at every step; returning ones are what they were when last present."""
    config = replace(
        SMALL, widths=WIDTHS, method=Chex(0.6, interval=0.4), optimizer=OPTIMIZERS[optimizer](lr=0.1)
    )
    used = {key: value.clone() for key, value in first_network(config, data, CPU, 1)[0].state_dict().items()}
    change, train_step, returned = step._change_mask, loop.train_step, 0

    def changed(run: Run, *rest: Any) -> None:
        nonlocal returned
        state, before = run.model.state_dict(), channels_of(run.mask)
        for layer, rows in before.items():
            reader = layer.replace("conv1", "conv2") + ".weight"
            used[reader][:, rows] = state[reader][:, rows]
            for key in tensors_of(layer):
                used[key][rows] = state[key][rows]
        change(run, *rest)
        for layer, rows in channels_of(run.mask).items():
            back = rows & ~before[layer]
            returned += int(back.sum())
            reader = layer.replace("conv1", "conv2") + ".weight"
            assert torch.equal(state[reader][:, back], used[reader][:, back])
            for key in tensors_of(layer):
                assert torch.equal(state[key][back], used[key][back])

    def watched(run: Run, *rest: Any) -> None:
        train_step(run, *rest)
        for layer, rows in channels_of(run.mask).items():
            for key in tensors_of(layer)[:3]:
                parameter = run.model.get_parameter(key)
                assert not parameter[~rows].any()
                assert parameter[rows].any()
                for one in run.optimizer.state.get(parameter, {}).values():
                    assert not isinstance(one, Tensor) or not one.dim() or not one[~rows].any()

    monkeypatch.setattr(step, "_change_mask", changed)
    monkeypatch.setattr(loop, "train_step", watched)
    checkpoint = fit(config, data, tmp_path, extras=DENSE)
    assert returned > 3
    found = channels_of(checkpoint.mask)
    total = sum(len(rows) for rows in found.values())
    assert sum(int(rows.sum()) for rows in found.values()) == total - round(0.6 * total)
    assert {layer: int(rows.sum()) for layer, rows in found.items()} == checkpoint.metrics["channels"]


def test_the_result_is_smaller(data: TrainingData, tmp_path: Path) -> None:
    """Half of the FLOPs, counted by torch on the smaller network, which computes the same."""
    method = Chex(0.5, of="flops", interval=0.4)
    metrics = fit(replace(SMALL, widths=WIDTHS, method=method), data, tmp_path, extras=DENSE).metrics
    final, small = (
        load_checkpoint(tmp_path / name, architectures=ARCHITECTURES) for name in ("final.pt", "shrunk.pt")
    )
    assert small.mask is None
    assert small.how.startswith("shrunk(model=resnet20, arguments=")
    images = data.test.normalized(data.test.pixels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small.model(images[:1])
    assert counter.get_total_flops() == metrics["flops"] == metrics["shrunk_flops"]
    assert 0.45 < metrics["flops"] / metrics["flops_dense"] <= 0.5
    assert sum(one.numel() for one in small.model.parameters()) == metrics["shrunk_parameters"]
    with torch.no_grad():
        assert torch.allclose(small.model(images), final.model(images), atol=1e-5)
        expected = final.model.double()(images.double())
        assert torch.allclose(small.model.double()(images.double()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)), "1: no batch norm"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)),
            "0: it is the first layer",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)),
            "0: they go into GroupNorm",
        ),
    ],
)
def test_networks_without_such_channels_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=f"no channel of this Sequential can be removed .*{message}") as error:
        Chex().init_mask(model, Images(), seeded(0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "sparsity 1.0: expected a share of at least 0 and below 1"),
        ({"regrow": 0.6}, "regrow 0.6: expected 0 to the sparsity 0.5"),
        ({"interval": 0.0}, "interval 0.0: expected a positive number"),
        ({"stop": 1.5}, "stop 1.5: expected a share"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Chex(**settings)
