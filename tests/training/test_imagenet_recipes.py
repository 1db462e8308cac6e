"""ImageNet's recipes as the authors' code has them, and what only these need: milestones, mixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from loop_helpers import SMALL
from torch import nn

from landscape.checkpoint.models import find_architecture
from landscape.errors import UserError
from training.config import RunConfig, difference
from training.models import ARCHITECTURES, build_model
from training.schedule import lr_factor
from training.step import Part
from training.sweep.plan import load_plan

RECIPES = {  # epochs, batch, lr, decay, warm-up, smoothing, milestones
    "rigl": (100, 4096, 1.6, 1e-4, 0, 0.1, (30, 70, 90)),
    "grasp": (90, 256, 0.1, 1e-4, 0, 0.0, (30, 60)),
    "dsr": (100, 256, 0.1, 1e-4, 0, 0.0, (30, 60, 90)),
    "lt": (90, 1024, 0.4, 1e-4, 5, 0.0, (30, 60, 80)),
    "chase": (100, 512, 0.512, 1e-4, 8, 0.1, ()),
    "chex": (250, 1024, 1.024, 3.05e-5, 8, 0.1, ()),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    for run in load_plan(f"{name}-imagenet").runs:
        config: Any = run.config
        optimizer = config.optimizer
        assert RECIPES[name] == (
            *(config.epochs, config.batch_size, optimizer.lr, optimizer.weight_decay),
            *(config.warmup, config.label_smoothing, config.milestones),
        )
        assert (optimizer.nesterov, config.mixup, optimizer.decay_all) == (
            name == "dsr",
            0.2 if name == "chex" else 0,
            name != "chex",
        )
        assert optimizer.momentum == (0.875 if name == "chex" else 0.9)
        assert getattr(optimizer, "rho", 1.0) == 1.0
    for run in load_plan("s2sam-imagenet").runs:
        assert run.config.epochs == 150
        assert getattr(run.config.optimizer, "rho", 1.0) == 1.0


def test_milestones() -> None:
    found = [lr_factor(step, 4, 10, 1, (2.5, 5), 0.2) for step in range(40)]
    assert found[:4] == [0.2, 0.4, 0.6, 0.8]
    assert set(found[4:10]) == {1.0}
    assert set(found[10:20]) == {0.2}
    assert found[20:] == pytest.approx([0.04] * 20)
    for wrong in ((3.0, 2.0), (0.0,), (3.0,)):
        with pytest.raises(UserError, match=r"milestones .*: expected ascending epochs between 0 and 3"):
            replace(SMALL, milestones=wrong)


@torch.no_grad()
def test_mixtures() -> None:
    """Each image with the one as far from the end, and the loss of both labels, piece by piece."""
    torch.manual_seed(0)
    images, labels, model = torch.randn(5, 3, 4, 4), torch.tensor([0, 1, 2, 3, 0]), nn.Linear(48, 4)
    mixed = Part(images, labels, 5).mixed(0.7)
    assert torch.allclose(mixed.images[1], 0.7 * images[1] + 0.3 * images[3])
    wanted = 0.0
    for number in range(5):
        scores = model((0.7 * images[number] + 0.3 * images[4 - number]).reshape(1, -1)).log_softmax(1)[0]
        wanted -= float(0.7 * scores[labels[number]] + 0.3 * scores[labels[4 - number]])
    found = sum(float(one.loss(model(one.images.flatten(1)), 0.0)) for one in mixed.pieces(2))
    assert found == pytest.approx(wanted, rel=1e-5)
    plain = Part(images, labels, 5)
    scores = model(images.flatten(1))
    assert torch.equal(
        plain.loss(scores, 0.1), F.cross_entropy(scores, labels, reduction="sum", label_smoothing=0.1)
    )


def test_names_of_torchvisions_networks() -> None:
    counts = {"resnet34": 21_797_672, "resnet50": 25_557_032, "mobilenet_v2": 3_504_872}
    counts["efficientnet_b0"] = 5_288_548  # as torchvision documents them
    for name, count in counts.items():
        assert replace(SMALL, model=name, widths=None).model == f"torchvision:{name}"
        assert find_architecture(name, ARCHITECTURES)[0].name == f"torchvision:{name}"
        with torch.device("meta"):
            model = build_model(name, num_classes=1000)
        assert sum(one.numel() for one in model.parameters()) == count


def test_runs_of_earlier_versions_go_on() -> None:
    """They don't have the settings that came later."""
    now = RunConfig().to_dict("cifar10")
    before = {
        key: value
        for key, value in now.items()
        if key not in ("image_size", "mixup", "milestones", "lr_drop")
    }
    assert difference(before, now) == []
    other = replace(RunConfig(), mixup=0.2).to_dict("cifar10")
    assert difference(before, other) == ["mixup 0.0, now 0.2"]
