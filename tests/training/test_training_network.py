"""Steps with a single image: where batch norm can't average anything, a run says so before it starts."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loop_helpers import CPU, SMALL, Silent, fit
from torch import nn

from landscape.errors import UserError
from training import loop, network
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


def test_a_share_that_holds_out_nothing_is_refused_where_a_run_begins(
    data: TrainingData, tmp_path: Path
) -> None:
    """What was begun before goes on."""
    empty = dataclasses.replace(
        data.validation, pixels=data.validation.pixels[:0], labels=data.validation.labels[:0]
    )
    none = dataclasses.replace(data, validation=empty)
    config = dataclasses.replace(SMALL, epochs=1, validation=0.1)
    with pytest.raises(UserError, match=r"validation 0\.1: holds out none of the training images of"):
        fit(config, none, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class CountsItsChannels(nn.Module):
    """Computes something else when its first layer has fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.last, self.head = nn.BatchNorm2d(8), nn.Conv2d(8, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.norm(self.first(x)).relu()) / self.second.out_channels
        found: torch.Tensor = self.head(self.last(x).relu()).mean((2, 3))
        return found


@pytest.mark.parametrize("method", ["chex", "chase"])
def test_what_cannot_be_made_smaller_is_refused_before_it_is_trained(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(network, "build_model", lambda *_, num_classes: CountsItsChannels())
    config = dataclasses.replace(SMALL, model="torchvision:resnet18", widths=None)
    chosen = METHODS[method](sparsity=0.5)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"CountsItsChannels .* depends on how many channels there are"):
        fit(dataclasses.replace(config, method=chosen), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_late_refusal_keeps_what_was_trained(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Silent()

    def refused(*_: object) -> None:
        raise UserError("it differs")

    monkeypatch.setattr(loop, "with_shrunk", refused)
    config = dataclasses.replace(SMALL, epochs=1, method=METHODS["chex"]())
    metrics = fit(config, data, tmp_path, reporter).metrics
    assert reporter.notes == [f"{tmp_path / 'shrunk.pt'} isn't written: it differs"]
    assert metrics["test_accuracy"] >= 0
    assert "shrunk_flops" not in metrics
    assert (tmp_path / "final.pt").exists()
    assert not (tmp_path / "shrunk.pt").exists()


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
