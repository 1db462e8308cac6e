"""Torchvision's networks in training: ResNets and MobileNet lose channels as our own do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU, SMALL, fit
from test_chex import DENSE

from landscape.checkpoint import load_checkpoint
from landscape.errors import UserError
from training.config import run_name
from training.data import TrainingData, load_splits
from training.models import ARCHITECTURES, build_model, full_arguments
from training.optimizers import OPTIMIZERS
from training.sparsity.chex import Chex


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU, examples=16)


def test_a_mobilenet_of_torchvisions(data: TrainingData, tmp_path: Path) -> None:
    config = replace(
        SMALL,
        model="torchvision:mobilenet_v2",
        widths=None,
        batch_size=8,
        epochs=1,
        method=Chex(0.5, of="flops", interval=0.5),
        optimizer=OPTIMIZERS["s2sam"](lr=0.05),
    )
    assert run_name(config.to_dict("tiny")).startswith("torchvision-mobilenet_v2-tiny-")
    metrics = fit(config, data, tmp_path, extras=DENSE).metrics
    assert metrics["shrunk_parameters"] < metrics["parameters"]
    final, small = (
        load_checkpoint(tmp_path / name, architectures=ARCHITECTURES) for name in ("final.pt", "shrunk.pt")
    )
    assert final.architecture == "torchvision:mobilenet_v2"
    images = data.test.normalized(data.test.pixels)[:4].double()
    with torch.no_grad():
        expected = final.model.double()(images)
        found = small.model.double()(images)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6 * max(1.0, float(expected.abs().max())))


def test_names() -> None:
    assert full_arguments("torchvision:resnet50", {"num_classes": 7}) == {"num_classes": 7}
    with pytest.raises(UserError, match=r"torchvision:resnet50 has no widths; its arguments: num_classes"):
        build_model("torchvision:resnet50", widths=(1, 2, 3))
    with pytest.raises(UserError, match="did you mean torchvision:resnet50"):
        build_model("torchvision:resnet5O")
