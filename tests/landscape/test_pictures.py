"""Pictures that stay in their files: the same bits as in memory, few of them decoded at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import surface
from PIL import Image
from torch import nn

import landscape.examples.pictures as rooms
from analysis.hessian import HessianOperator
from analysis.sharpness.objective import Objective
from landscape.data import load_data
from landscape.engine import Engine
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.images.prepare import Change
from landscape.losses import classification
from landscape.progress import _told_of_examples
from landscape.surface import load_surface
from training.models import build_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "few" / label).mkdir(parents=True)
        for number in range(9):
            pixels = draw.integers(0, 256, (20 + number, 30 - number, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "few" / label / f"{number}.png")
    return tmp_path / "few"


def both(folder: Path) -> tuple[Examples, Examples]:
    """In memory and in files."""
    first, second = (
        load_data(f"imagefolder:{folder}", change=Change(8), image_bytes=limit) for limit in (1e9, 0)
    )
    assert second.pictures is not None
    assert not len(second.inputs)
    assert torch.equal(first.normalized(), second.normalized())
    assert first.indices.tolist() == second.indices.tolist()
    assert first.mean is not None
    assert first.std is not None
    return (
        Examples.from_images(first.inputs, first.targets, first.mean, first.std),
        Examples.from_pictures(second.pictures, second.targets, first.mean, first.std),
    )


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(144, 2))


def test_examples_are_the_same_bits(folder: Path) -> None:
    memory, files = both(folder)
    assert files.digest() == memory.digest()
    place: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "channels_last": True}
    ours, theirs = files.to(**place).batches(5), memory.to(**place).batches(5)
    assert len(ours) == len(theirs) == 4
    for one, two in [*zip(ours, theirs, strict=True), (ours[2], theirs[2]), (ours[1:][0], theirs[1])]:
        assert torch.equal(one[0], two[0])
        assert one[0].stride() == two[0].stride()
        assert torch.equal(one[1], two[1])
    index = torch.tensor([5, 1])
    few = [one.pick(index).to(**place).batches(2)[0] for one in (files, memory)]
    assert all(torch.equal(one, two) for one, two in zip(*few, strict=True))


def test_losses_products_and_gradients_are_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than two batches are decoded ahead of the work."""
    memory, files = both(folder)
    model = small()
    way = {name: torch.ones_like(value) for name, value in model.named_parameters()}
    engines = [Engine(model, {"train": one}, classification, [way], batch_size=4) for one in (memory, files)]
    first, second = (one.losses([0.1])["train"] for one in engines)
    assert first.tolist() == second.tolist()
    operators = [HessianOperator(model, one, batch_size=4, memory=0) for one in (memory, files)]
    vector = np.ones(operators[0].size, dtype=np.float32)
    assert (operators[0] @ vector).tolist() == (operators[1] @ vector).tolist()
    objectives = [Objective(model, one, batch_size=4) for one in (memory, files)]
    gradients = [one.gradient()[1] for one in objectives]
    assert torch.equal(*gradients)
    seen: list[int] = []
    with _told_of_examples(seen.append):
        engines[1].losses([0.2])
    assert seen[-1] == 18
    decoded: list[int] = []
    original = rooms.Pictures.one

    def one(self: rooms.Pictures, number: int) -> torch.Tensor:
        decoded.append(number)
        return original(self, number)

    monkeypatch.setattr(rooms.Pictures, "one", one)
    batches = iter(files.to("cpu", torch.float32).batches(2))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(decoded) <= 4


def test_a_surface_of_many_pictures(folder: Path, tmp_path: Path) -> None:
    """The command's: a broken one is named, or left out; equal to that in memory, whose file it takes up."""
    torch.save(build_model("resnet20", widths=(2, 3, 4), num_classes=2).state_dict(), tmp_path / "net.pt")
    (folder / "a" / "3.png").write_bytes(b"no picture")
    line = [
        "net.pt",
        "--data",
        f"imagefolder:{folder}",
        "--image-size",
        "8",
        "--points",
        "3",
        "--threads",
        "1",
    ]
    files = surface(*line, "--image-memory", "0", "-o", "files.surface.h5", folder=tmp_path)
    assert "3.png can't be decoded" in files.error
    assert files.error.endswith("; --skip-broken leaves such pictures out and counts them")
    line.append("--skip-broken")
    files = surface(*line, "--image-memory", "0", "-o", "files.surface.h5", folder=tmp_path)
    assert files.code == 0, files.err
    assert (
        "1 of 18 pictures left out, broken: a/3.png; 17 pictures are decoded as they are needed" in files.err
    )
    memory = surface(*line, "-o", "memory.surface.h5", folder=tmp_path)
    assert memory.code == 0, memory.err
    one, two = (load_surface(tmp_path / f"{name}.surface.h5") for name in ("files", "memory"))
    assert np.array_equal(one.loss, two.loss)
    written = (tmp_path / "files.surface.h5").stat().st_mtime_ns
    again = surface(*line, "-o", "files.surface.h5", folder=tmp_path)
    assert again.code == 0, again.err
    assert (tmp_path / "files.surface.h5").stat().st_mtime_ns == written
    assert "expected GiB, 0 or more" in surface(*line, "--image-memory", "-1", folder=tmp_path).error


def test_as_many_targets_as_pictures(folder: Path) -> None:
    _, files = both(folder)
    assert files.pictures is not None
    with pytest.raises(UserError, match="18 pictures, 1 targets"):
        Examples.from_pictures(files.pictures, torch.zeros(1), (0.5,) * 3, (0.5,) * 3)
