"""Files of networks with fewer channels: read, refused, and loaded by PyTorch alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_channels import pruned
from torch import nn
from torchvision import models

from landscape.channels import Shrunk, shrink
from landscape.checkpoint import load_checkpoint
from landscape.checkpoint.format import Checkpoint, encode
from landscape.errors import UserError
from training.models import ARCHITECTURES, build_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def written(path: Path, small: Shrunk, model: str, **changes: Any) -> Path:
    """A checkpoint of ours with a smaller network."""
    shapes = {name: list(shape) for name, shape in small.shapes.items()}
    arguments = {"model": model, "arguments": {"num_classes": 10}, "shapes": shapes} | changes
    state = dict(small.model.state_dict())
    torch.save(encode(Checkpoint("shrunk", arguments, state, {}, {"num_classes": 10})), path)
    return path


@pytest.fixture(scope="module")
def small() -> Shrunk:
    torch.manual_seed(0)
    return shrink(pruned(build_model("resnet20", shortcut="B"))[0], IMAGES)


def test_reading_gives_the_same_network(small: Shrunk, tmp_path: Path) -> None:
    settings = {"arguments": {"num_classes": 10, "shortcut": "B"}}
    state = torch.get_rng_state()
    loaded = load_checkpoint(
        written(tmp_path / "small.pt", small, "resnet20", **settings), architectures=ARCHITECTURES
    )
    assert torch.equal(loaded.model(IMAGES), small.model.eval()(IMAGES))
    assert torch.equal(state, torch.get_rng_state())
    assert (loaded.architecture, loaded.num_classes) == ("shrunk", 10)
    assert loaded.arguments["shapes"]["conv1.weight"] == list(small.shapes["conv1.weight"])


def test_pytorch_alone_reads_it(tmp_path: Path) -> None:
    """A file of a MobileNet into torchvision's, by a loop over its tensors."""
    torch.manual_seed(0)
    network = shrink(pruned(models.mobilenet_v2(num_classes=10))[0], IMAGES)
    path = written(tmp_path / "small.pt", network, "torchvision:mobilenet_v2")
    content = torch.load(path, weights_only=True)
    model = models.mobilenet_v2(num_classes=10).eval()
    for name, value in content["state_dict"].items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, key, nn.Parameter(value) if key in ("weight", "bias") else value)
        if key == "weight" and getattr(module, "groups", 1) > 1:
            module.groups = len(value)
    with torch.no_grad():
        expected = network.model.eval()(IMAGES)
        assert torch.equal(model(IMAGES), expected)
        assert torch.equal(load_checkpoint(path).model(IMAGES), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "antigravity:x"}, "'antigravity:x' may not stand in a file"),
        ({"model": "shrunk"}, "'shrunk' may not"),
        ({"shapes": {"conv1.weight": [8, 3, 3]}}, r"a shape \[8, 3, 3\] of 'conv1.weight'"),
        ({"shapes": {"conv9.weight": [8]}}, "of 'conv9.weight', which the network doesn't have"),
        ({"shapes": {"conv1.weight": [1 << 40, 3, 3, 3]}}, "isn't smaller than"),
        ({"shapes": {"conv1.weight": [0, 3, 3, 3]}}, "isn't smaller than"),
        ({"shapes": {"conv1.weight": ["a", 3, 3, 3]}}, "isn't smaller than"),
        ({"shapes": {}}, "doesn't fit shrunk"),
        ({"shapes": [1]}, "its shapes are a list, expected a dict"),
        ({"shapes": {"conv1.weight": 3}}, "of 'conv1.weight'"),
        ({"extra": 1}, "takes no argument 'extra'"),
    ],
)
def test_impossible_files_are_refused(
    small: Shrunk, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changes = {"arguments": {"num_classes": 10, "shortcut": "B"}} | changes
    path = written(tmp_path / "small.pt", small, changes.pop("model", "resnet20"), **changes)
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(path, architectures=ARCHITECTURES)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert "antigravity" not in sys.modules
