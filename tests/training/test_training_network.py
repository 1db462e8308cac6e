"""Steps with a single image: where batch norm can't average anything, a run says so before it starts."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loop_helpers import CPU, SMALL, fit
from torch import nn

from landscape.errors import UserError
from training import network
from training.data import Images, TrainingData, load_splits
from training.network import smallest_piece
from training.sparsity import METHODS


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def shrunk(data: TrainingData, side: int) -> TrainingData:
    """The same with the upper left `side` pixels: 72 training images."""

    def cut(part: Images) -> Images:
        return dataclasses.replace(part, pixels=part.pixels[:, :side, :side].contiguous())

    parts = {name: cut(getattr(data, name)) for name in ("train", "validation", "test")}
    return dataclasses.replace(data, **parts)


class Heads(nn.Module):
    """As torchvision's GoogLeNet: logits in evaluation, in training those of an auxiliary head, too."""

    def __init__(self, both: bool = True) -> None:
        super().__init__()
        self.conv, self.norm, self.both = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), both

    def forward(self, x: torch.Tensor) -> Any:
        x = self.norm(self.conv(x)).mean((2, 3))
        return (x, x) if self.training and self.both else x


def test_auxiliary_heads_are_refused(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "build_model", lambda *_, num_classes: Heads())
    config = dataclasses.replace(SMALL, model="torchvision:googlenet", widths=None, method=METHODS["dense"]())
    with pytest.raises(UserError, match="torchvision:googlenet gives tuple in training, expected logits"):
        fit(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    plain = Heads(both=False)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    network._check_outputs("torchvision:other", plain, data)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    "settings", [{"batch_size": 71}, {"batch_size": 16, "accumulate": 16}], ids=["last step", "pieces"]
)
def test_a_map_of_one_pixel_needs_two_images(
    data: TrainingData, tmp_path: Path, settings: dict[str, int]
) -> None:
    """Two strides of 2 leave one pixel of four, and batch norm one value per channel."""
    config = dataclasses.replace(SMALL, epochs=1, **settings)  # type: ignore[arg-type]
    with pytest.raises(
        UserError,
        match=rf"72 training images in steps of {config.batch_size}, .*too few for batch norm.*--batch",
    ):
        fit(config, shrunk(data, 4), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit(dataclasses.replace(SMALL, epochs=1), shrunk(data, 4), tmp_path / "even")


@pytest.mark.parametrize("settings", [{"batch_size": 71}, {"batch_size": 1, "examples": 3}])
def test_larger_maps_take_single_images(tiny_npz: Path, tmp_path: Path, settings: dict[str, int]) -> None:
    data = load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU, examples=settings.get("examples"))
    config = dataclasses.replace(SMALL, epochs=1, **settings)  # type: ignore[arg-type]
    assert fit(config, data, tmp_path).metrics["train_loss"] > 0


def test_the_trial_leaves_no_trace(data: TrainingData, tmp_path: Path) -> None:
    """The first weights, statistics and numbers drawn are the same with and without it."""
    config = dataclasses.replace(SMALL, epochs=1, batch_size=71)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    checkpoint = fit(config, data, tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert checkpoint.state_dict["bn1.num_batches_tracked"] == 2  # one step of 71 images, one of 1


@pytest.mark.parametrize(
    ("method", "settings"), [("snip", {"images_per_batch": 1}), ("grasp", {"chunks": 40})]
)
def test_methods_that_score_single_images(
    data: TrainingData, tmp_path: Path, method: str, settings: dict[str, int]
) -> None:
    more = {"norm_statistics": "batch"} if method == "snip" else {}
    chosen = METHODS[method](**settings, **more)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the method's images, seen singly: too few for batch norm"):
        fit(dataclasses.replace(SMALL, method=chosen), shrunk(data, 4), tmp_path)


@given(images=st.integers(1, 60), batch=st.integers(1, 70), size=st.integers(1, 4), pieces=st.integers(1, 9))
def test_the_smallest_piece_is_that_of_an_epoch(images: int, batch: int, size: int, pieces: int) -> None:
    """Against cutting an epoch as the closure does."""
    found = []
    for step in torch.arange(images).split(batch):
        parts = [step] if len(step) < size else step.tensor_split(size)
        found += [len(one) for part in parts for one in part.tensor_split(min(pieces, len(part)))]
    assert smallest_piece(images, batch, size, pieces) == min(found)
