"""Checkpoints of every form that carries checksums, a training's state, and image files, for `flip_bits`.

The legacy form of PyTorch and safetensors are missing: they have no checksums, so that a flip in a weight
can't be seen there, and loading says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from landscape.checkpoint import load_checkpoint
from landscape.checkpoint.format import Checkpoint, encode
from landscape.checkpoint.integrity import digest_of
from landscape.images import read_images
from training.checkpoint import RunFolder, save
from training.models import ARCHITECTURES

Read = Callable[[Path], object]
ARGUMENTS = {"num_classes": 3, "widths": [2, 3, 4], "shortcut": "A"}


def network() -> nn.Module:
    """A ResNet-20 of a thousand weights with a tenth of its first layers' weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ARCHITECTURES["resnet20"](num_classes=3, widths=(2, 3, 4), shortcut="A")


def sparse() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Its state and a mask."""
    state = {name: value.clone() for name, value in network().state_dict().items()}
    mask = {}
    for name in ("conv1.weight", "layer3.2.conv2.weight"):
        mask[name] = state[name].abs() > state[name].abs().quantile(0.5)
        state[name] *= mask[name]
    return state, mask


def read_checkpoint(path: Path) -> object:
    """Everything that a command takes from a checkpoint, as one digest."""
    loaded = load_checkpoint(path, architectures=ARCHITECTURES)
    content = {
        "state": loaded.model.state_dict(),
        "mask": loaded.mask or {},
        "data": loaded.data,
        "config": loaded.config,
        "metrics": loaded.metrics,
        "model": [loaded.architecture, loaded.arguments, loaded.num_classes],
    }
    return digest_of(content)


def ours(folder: Path) -> tuple[Path, Read]:
    """A finished sparse network of our own."""
    state, mask = sparse()
    data = {"name": "cifar10", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "num_classes": 3}
    content = encode(
        Checkpoint(
            "resnet20", ARGUMENTS, state, mask, data, {"lr": 0.1}, {"test_accuracy": 0.5}, {"torch": "2"}
        )
    )
    save(content, folder / "final.pt")
    return folder / "final.pt", read_checkpoint


def foreign(folder: Path) -> tuple[Path, Read]:
    """A state_dict beside its optimizer, as torch.save writes it."""
    model = network()
    content = {"state_dict": model.state_dict(), "epoch": 3, "args": {"lr": 0.1, "name": "a"}}
    torch.save(content, folder / "net.pth")
    return folder / "net.pth", read_checkpoint


def script(folder: Path) -> tuple[Path, Read]:
    """A TorchScript archive, whose weights are read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network().eval(), torch.zeros(1, 3, 8, 8)).save(folder / "net.ts")  # type: ignore[no-untyped-call]
    return folder / "net.ts", read_checkpoint


def state(folder: Path) -> tuple[Path, Read]:
    """What a training saves after each epoch."""
    weights, mask = sparse()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sum(one.sum() for one in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    content = {
        "epoch": 1,
        "history": [{"epoch": 1, "train_loss": 1.0}],
        "notes": [],
        "model": weights,
        "mask": mask,
        "ever_active": mask,
        "memory": {},
        "rewind": {},
        "optimizer": optimizer.state_dict(),
        "data_sha256": "0" * 64,
    }
    RunFolder(folder, {"lr": 0.1}).save_state(content)

    def read(path: Path) -> object:
        found = RunFolder(path.parent, {"lr": 0.1}).load_state(torch.device("cpu"))
        assert found is not None
        return digest_of(found)

    return folder / "last.pt", read


def images(folder: Path) -> tuple[Path, Read]:
    """Images and labels as NumPy packs them."""
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (20, 8, 8, 3), np.uint8), np.arange(20) % 4
    np.savez_compressed(folder / "images.npz", train_x=pixels, train_y=labels)

    def read(path: Path) -> object:
        found = read_images(f"npz:{path}", "train")
        return found.images.tobytes() + found.labels.tobytes() + str(found.classes).encode()

    return folder / "images.npz", read


KINDS = {"checkpoint": ours, "foreign": foreign, "torchscript": script, "last.pt": state, "npz": images}
