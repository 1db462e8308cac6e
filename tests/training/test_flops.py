"""Floating-point operations: by hand, RigL's published factors, and totals of trainings in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from loop_helpers import CPU, SMALL, Stop, assert_same, fit
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from landscape.checkpoint.integrity import sealed
from landscape.checkpoint.read import read_file
from training.checkpoint import save
from training.data import TrainingData, load_splits
from training.flops import ForwardFlops, forward_flops
from training.masks import prunable
from training.optimizers import OPTIMIZERS, SGD, S2SAMConfig
from training.sparsity import METHODS, Random
from training.sparsity.distribution import layer_counts
from training.sparsity.lt import LotteryTicket
from training.sparsity.magnitude import Magnitude
from training.sparsity.rigl import Rigl


class Odd(nn.Module):
    """Stride, groups, a layer that is called twice, a product of activations, a weight used from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
        self.twice = nn.Linear(8, 8)
        self.outside = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(F.relu(self.norm(self.conv(x)))).mean((2, 3))
        x = self.twice(self.twice(x))
        return F.linear(x @ (x.T @ x), self.outside.weight)


def odd() -> tuple[Odd, ForwardFlops]:
    torch.manual_seed(0)
    model = Odd()
    return model, forward_flops(model, torch.randn(1, 3, 8, 8))


def test_by_hand() -> None:
    _, found = odd()
    assert found.layers == {
        "conv.weight": 2 * 4 * 4 * 4 * 3 * 9,
        "grouped.weight": 2 * 4 * 4 * 8 * 2 * 9,
        "twice.weight": 2 * 2 * 8 * 8,
        "outside.weight": 0,
    }
    assert found.other == 2 * 8 * 8 + 2 * 8 * 8 + 2 * 8 * 5
    assert found.dense == sum(found.layers.values()) + found.other


def test_masked_layers_cost_their_density() -> None:
    model, found = odd()
    mask = {"conv.weight": torch.zeros(4, 3, 3, 3, dtype=torch.bool)}
    assert found.under({}) == found.dense
    assert found.under(mask) == found.dense - found.layers["conv.weight"]
    mask["conv.weight"].view(-1)[:27] = True
    mask["twice.weight"] = torch.rand(8, 8) < 0.3
    kept = int(mask["twice.weight"].sum())
    expected = found.dense - found.layers["conv.weight"] * 3 // 4 - 2 * 2 * (64 - kept)
    assert found.under(mask) == expected
    assert found.step(mask) == 3 * expected
    assert found.step(mask, dense_gradient=True) == 2 * expected + found.dense
    assert set(found.weights) == set(prunable(model))


def test_counting_changes_nothing() -> None:
    torch.manual_seed(0)
    model, image = Odd().train(), torch.randn(1, 3, 8, 8)
    before, state = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    forward_flops(model, image)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture(scope="module")
def published() -> tuple[nn.Module, ForwardFlops]:
    """Torchvision's ResNet-50 at 224 pixels."""
    with torch.device("meta"):
        model = resnet50()
        return model, forward_flops(model, torch.empty(1, 3, 224, 224))


def densities(model: nn.Module, sparsity: float, distribution: str) -> dict[str, float]:
    """RigL's "uniform" leaves the first convolution dense and doesn't make up for it."""
    shapes = {name: tuple(weight.shape) for name, weight in prunable(model).items()}
    first = next(iter(shapes))
    if distribution == "uniform":
        del shapes[first]
    counts = layer_counts(shapes, sparsity, "erk" if distribution == "erk" else "uniform")
    return {first: 1.0} | {name: counts[name] / math.prod(shape) for name, shape in shapes.items()}


def by_rigl(model: nn.Module, found: ForwardFlops, density: Mapping[str, float]) -> float:
    """Operations as RigL's notebook counts them, by a count of our own.

    The first convolution sees the image with its padding of 3 and pads it once more, 115² outputs for 112²;
    a bias and a ReLU follow every layer, so that an output costs 2·n + 1 operations for n kept inputs.
    """
    total = 0.0
    for name, weight in prunable(model).items():
        inputs = weight.numel() // len(weight)
        outputs = found.layers[name] / (2 * inputs)
        if weight.shape[-1] == 7:
            outputs *= 115**2 / 112**2
        total += outputs * (2 * inputs * density[name] + 1)
    return total


RIGL = [
    # sparsity, distribution, published share of an image, published training of five times the steps
    (0.8, "erk", 0.42, 2.09),
    (0.8, "uniform", 0.23, 1.14),
    (0.9, "erk", 0.24, 1.23),
    (0.9, "uniform", 0.13, 0.66),
    (0.95, "erk", 0.12, 0.63),
    (0.95, "uniform", 0.08, 0.42),
    (0.965, "uniform", 0.07, 0.34),
]


def test_size_of_resnet50(published: tuple[nn.Module, ForwardFlops]) -> None:
    """25.56 million parameters, and the 8.2e9 operations that RigL states."""
    model, found = published
    dense = dict.fromkeys(found.layers, 1.0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_557_032
    assert found.other == 0
    assert found.dense == 8_178_368_512
    assert f"{by_rigl(model, found, dense):.1e}" == "8.2e+09"


@pytest.mark.parametrize(("sparsity", "distribution", "image", "training"), RIGL)
def test_factors_that_rigl_published(
    published: tuple[nn.Module, ForwardFlops],
    sparsity: float,
    distribution: str,
    image: float,
    training: float,
) -> None:
    """To their two digits by their rules; the plain count is within 0.003 of that."""
    model, found = published
    density = densities(model, sparsity, distribution)
    share = by_rigl(model, found, density) / by_rigl(model, found, dict.fromkeys(density, 1.0))
    assert round(share, 2) == image
    # 100 sparse steps, then one of two sparse passes and a dense one, against 3 dense passes each.
    step = (100 * 3 * share + 2 * share + 1) / (101 * 3)
    assert abs(5 * step - training) < 0.006
    plain = sum(found.layers[name] * density[name] for name in density) / found.dense
    assert abs(plain - share) < 0.003


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU)


def run(data: TrainingData, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return fit(replace(SMALL, **changes), data, tmp_path / "run").metrics


EXAMPLES = 3 * 72  # epochs of 5 steps, the last of 8 images


def test_static_masks_cost_three_passes(data: TrainingData, tmp_path: Path) -> None:
    metrics = run(data, tmp_path)
    assert metrics["examples_trained"] == EXAMPLES
    assert metrics["training_flops"] == 3 * metrics["flops"] * EXAMPLES
    assert metrics["training_flops_dense"] == 3 * metrics["flops_dense"] * EXAMPLES
    assert metrics["flops"] < 0.5 * metrics["flops_dense"]


def test_a_dense_training_is_the_unit(data: TrainingData, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, method=METHODS["dense"]())
    assert metrics["flops"] == metrics["flops_dense"]
    assert metrics["training_flops"] == metrics["training_flops_dense"]


@pytest.mark.parametrize(
    ("optimizer", "passes"),
    [("s2sam", 1), ("sam", 2), ("asam", 2)],
)
def test_optimizers_cost_their_passes(
    data: TrainingData, tmp_path: Path, optimizer: str, passes: int
) -> None:
    metrics = run(data, tmp_path, optimizer=OPTIMIZERS[optimizer](lr=0.05), accumulate=2)
    assert metrics["training_flops"] == passes * 3 * metrics["flops"] * EXAMPLES


def test_moving_pruned_weights_is_dense_training(data: TrainingData, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, optimizer=S2SAMConfig(0.05, perturb_pruned=True))
    assert metrics["training_flops"] == metrics["training_flops_dense"]


def test_growing_by_gradients_takes_a_dense_one(data: TrainingData, tmp_path: Path) -> None:
    """Steps 0, 4 and 8 of 15 change the mask, as RigL's formula has it; 0 to 14 of 8 or 16 images."""
    method = Rigl(0.7, update_interval=4, drop_fraction=0.3)
    metrics = run(data, tmp_path, method=method)
    images = [16, 16, 16, 16, 8] * 3
    changes = [step for step in range(15) if step % 4 == 0 and step <= method.stop * 15]
    dense = sum(images[step] for step in changes)
    expected = 3 * metrics["flops"] * EXAMPLES + (metrics["flops_dense"] - metrics["flops"]) * dense
    assert changes
    assert metrics["training_flops"] == expected


def test_dense_phases_count_as_such(data: TrainingData, tmp_path: Path) -> None:
    """A third of the steps dense, then sparse: one cut at step 5 of 15."""
    metrics = run(data, tmp_path, method=Magnitude(0.7, begin=1 / 3, end=1 / 3))
    assert metrics["training_flops"] == 3 * (metrics["flops_dense"] + 2 * metrics["flops"]) * 72


def test_rounds_count_with_their_density(data: TrainingData, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, method=LotteryTicket(0.6, prune_fraction=0.6))
    assert metrics["training_flops"] == 3 * (metrics["flops_dense"] + metrics["flops"]) * EXAMPLES
    assert metrics["training_flops"] > metrics["training_flops_dense"]


def test_interrupted_runs_have_counted_the_same(data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, method=Rigl(0.7, update_interval=4))
    whole = fit(config, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "parts", Stop(2))
    assert_same(whole, fit(config, data, tmp_path / "parts"))


def test_what_an_earlier_version_began_is_unknown(data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, method=Random(0.7), optimizer=SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "run", Stop(1))
    path = tmp_path / "run" / "last.pt"
    content = read_file(path).content
    assert isinstance(content, dict)
    state = {key: value for key, value in content.items() if key != "digest"}
    state["history"] = [{key: v for key, v in one.items() if key != "flops"} for one in state["history"]]
    save(sealed(state), path)
    metrics = fit(config, data, tmp_path / "run").metrics
    assert metrics["training_flops"] is None
    assert metrics["flops"] < metrics["flops_dense"]


def test_plain_counter_agrees(data: TrainingData, tmp_path: Path) -> None:
    """The library's own count of a training step, forward and backward, of the dense network but its stem.

    No gradient of the images is needed, which the rule of three passes charges all the same.
    """
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 5))
    found = forward_flops(model, torch.randn(1, 3, 8, 8))
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert counter.get_total_flops() == 4 * (found.step({}) - found.layers["0.weight"])
