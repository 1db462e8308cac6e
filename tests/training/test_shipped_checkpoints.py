"""The checkpoints in examples: safe to load, exactly as sparse as said, and right on the shipped sample."""

from pathlib import Path

import pytest
import torch

from landscape.checkpoint.format import decode
from training import loop, masks
from training.data import load_splits
from training.models import build_model

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "checkpoints"


@pytest.mark.parametrize(("name", "kept", "accuracy"), [("erk90", 26_834, 0.80), ("erk98", 5_367, 0.60)])
def test_shipped_checkpoint(name: str, kept: int, accuracy: float) -> None:
    checkpoint = decode(torch.load(FOLDER / f"resnet20-cifar10-{name}.pt", weights_only=True))
    assert checkpoint.metrics["test_accuracy"] >= accuracy
    assert checkpoint.data["name"] == checkpoint.config["data"] == "cifar10"
    assert masks.kept(checkpoint.mask) == kept
    model = build_model(checkpoint.architecture, **checkpoint.arguments)
    model.load_state_dict(checkpoint.state_dict)
    masks.check(model, checkpoint.mask)
    sample = load_splits("sample", 0.0, 0, torch.device("cpu")).test
    loss, found = loop.evaluate(model, sample)
    # 1,000 of the 10,000 test images: within four standard errors of the value on all.
    assert found == pytest.approx(checkpoint.metrics["test_accuracy"], abs=0.06)
    assert loss == pytest.approx(checkpoint.metrics["test_loss"], abs=0.15)
    assert f"{100 * checkpoint.metrics['test_accuracy']:.2f}" in (FOLDER / "README.md").read_text()


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.pt")) <= 1_000_000
