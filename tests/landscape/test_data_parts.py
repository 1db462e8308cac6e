"""Training images are those that the network was trained on, and held-out ones have a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from landscape.checkpoint import load_checkpoint
from landscape.checkpoint.format import Checkpoint, encode
from landscape.commandline.options import DataOptions
from landscape.commandline.subject import load_examples
from landscape.data import load_data
from landscape.errors import UserError
from landscape.images import ImageSet, sample_origin
from landscape.images.prepare import Preparation
from landscape.images.selection import balanced_subset, fingerprint, hold_out
from training.data import load_splits as load_training_data
from training.models import build_model

CLASSES, PER_CLASS = 4, 20


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set in which each image tells its own number: pixel (0, 0, 0) of image i is i."""
    monkeypatch.chdir(tmp_path)
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(CLASSES), PER_CLASS))
    pixels = np.random.default_rng(4).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels))
    np.savez("data.npz", train_x=pixels, train_y=labels, test_x=pixels[:8], test_y=labels[:8])
    return "npz:data.npz"


def trained_and_held_out(spec: str, examples: int | None) -> tuple[set[int], set[int], dict[str, Any]]:
    """What training really takes, read off the pixels; and what it writes into its checkpoint."""
    data = load_training_data(spec, 0.25, 5, torch.device("cpu"), examples=examples)
    trained, held_out = (set(part.pixels[:, 0, 0, 0].tolist()) for part in (data.train, data.validation))
    return trained, held_out, {"sha256": data.sha256, "selection": data.selection(5)}


def numbers(spec: str, split: str, stored: dict[str, Any], **more: Any) -> set[int]:
    data = load_data(spec, split=split, stored=stored, **more)
    found = set(data.inputs[:, 0, 0, 0].tolist())
    assert found == set(data.indices.tolist())
    return found


@pytest.mark.parametrize("examples", [None, 24])
def test_train_is_what_was_trained_on_and_validation_what_was_held_out(
    images: str, examples: int | None
) -> None:
    trained, held_out, stored = trained_and_held_out(images, examples)
    assert numbers(images, "train", stored) == trained
    assert numbers(images, "validation", stored) == held_out
    assert len(numbers(images, "train", stored, examples=12)) == 12
    assert numbers(images, "train", stored, examples=12) <= trained
    data = load_data(images, split="train", stored=stored, examples=8)
    assert data.targets.bincount().tolist() == [2] * CLASSES
    assert data.drawn_from == f"the {len(trained)} of 80 training images that the network was trained on"
    assert f"8 of the {len(trained)} of 80" in data.how


def test_a_checkpoint_that_states_number_and_seed_only_is_drawn_again(images: str) -> None:
    trained, _, stored = trained_and_held_out(images, 24)
    earlier = {key: value for key, value in stored["selection"].items() if key != "trained"}
    assert numbers(images, "train", stored | {"selection": earlier | {"examples": 24}}) == trained


def test_other_images_are_not_what_it_was_trained_on(images: str) -> None:
    _, _, stored = trained_and_held_out(images, 24)
    other = stored | {"sha256": "0" * 64}
    assert len(numbers(images, "train", other)) == 80
    data = load_data(images, split="train", stored=other)
    assert "other images than" in data.drawn_from
    assert "80 of 80 examples (other images than" in data.how
    with pytest.raises(UserError, match="validation: these are other images"):
        load_data(images, split="validation", stored=other)


def test_of_a_foreign_checkpoint_it_is_not_known(images: str) -> None:
    assert load_data(images, split="train").drawn_from.endswith("isn't known")
    with pytest.raises(UserError, match="doesn't say which images were held out; use train or test"):
        load_data(images, split="validation")


def test_several_networks_share_what_each_was_trained_on(images: str) -> None:
    trained, held_out, stored = trained_and_held_out(images, 24)
    data = load_training_data(images, 0.25, 6, torch.device("cpu"), examples=40)
    second = {"sha256": data.sha256, "selection": data.selection(6)}
    both = trained & set(data.train.pixels[:, 0, 0, 0].tolist())
    assert 0 < len(both) < len(trained)
    assert numbers(images, "train", stored, others=[second]) == both
    assert numbers(images, "validation", stored, others=[second]) == held_out & set(data.held_out.tolist())
    text = load_data(images, split="train", stored=stored, others=[{}]).drawn_from
    assert "was trained on" in text
    assert "isn't known" in text


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"held_out": [0, 80]}, "selects image 80, but there are 80"),
        ({"held_out": [3, 3]}, "repeats"),
        ({"held_out": [-1]}, "negative"),
        ({"held_out": [0.5]}, "expected whole numbers"),
        ({"held_out": [[1]]}, "expected whole numbers"),
        ({"held_out": [0], "trained": [0, 1]}, "both as trained on and as held out"),
        ({"held_out": [0], "examples": 80, "seed": 0}, "1 to 79 examples"),
        ({"held_out": [0], "examples": "many", "seed": 0}, "expected whole numbers"),
        ({"held_out": list(range(80))}, "was trained on none of these"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(images: str, selection: Any, message: str) -> None:
    digest = load_training_data(images, 0.25, 5, torch.device("cpu")).sha256
    with pytest.raises(UserError, match=message):
        load_data(images, split="train", stored={"sha256": digest, "selection": selection})


def test_nothing_held_out_is_said(images: str) -> None:
    data = load_training_data(images, 0.0, 5, torch.device("cpu"))
    stored = {"sha256": data.sha256, "selection": data.selection(5)}
    assert len(numbers(images, "train", stored)) == 80
    with pytest.raises(UserError, match="held no images out"):
        load_data(images, split="validation", stored=stored)


def test_images_of_the_sample_are_told_by_their_places_in_cifar() -> None:
    origin, whole = sample_origin("train")
    held_out = np.sort(origin[::4])
    stored = {"sha256": whole, "selection": {"held_out": torch.from_numpy(held_out)}}
    data = load_data("sample", split="train", stored=stored)
    assert len(data.targets) == 750
    assert not np.isin(origin[data.indices], held_out).any()
    validation = load_data("sample", split="validation", stored=stored)
    assert np.array_equal(np.sort(origin[validation.indices]), held_out)
    chosen = {"held_out": held_out, "trained": origin[1:9]}
    some = load_data("sample", split="train", stored=stored | {"selection": chosen})
    assert set(origin[some.indices]) == set(origin[1:9])
    redrawn = {"held_out": held_out, "examples": 500, "seed": 0}  # of labels that aren't here
    unknown = load_data("sample", split="train", stored=stored | {"selection": redrawn})
    assert unknown.drawn_from.endswith("isn't known")


def test_a_network_trained_on_the_sample_itself() -> None:
    data = load_training_data("sample", 0.2, 1, torch.device("cpu"), examples=100)
    stored = {"sha256": data.sha256, "selection": data.selection(1)}
    assert data.trained is not None
    train = load_data("sample", split="train", stored=stored)
    assert set(train.indices.tolist()) == set(data.trained.tolist())
    assert len(load_data("sample", split="validation", stored=stored).indices) == 200


def test_the_result_of_a_command_says_which(images: str, tmp_path: Path) -> None:
    """An earlier checkpoint, with the number in its config; every command loads its examples so."""
    trained, held_out, stored = trained_and_held_out(images, 24)
    del stored["selection"]["trained"]
    model = build_model("resnet20", num_classes=CLASSES)
    told = {"name": "data", "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": CLASSES}
    content = encode(
        Checkpoint(
            "resnet20", {"num_classes": CLASSES}, model.state_dict(), {}, told | stored, {"examples": 24}
        )
    )
    torch.save(content, tmp_path / "net.pt")
    from training.models import ARCHITECTURES

    loaded = load_checkpoint(tmp_path / "net.pt", architectures=ARCHITECTURES)
    examples, about = load_examples(loaded, DataOptions(data=images, split="train"))
    assert set(examples["train"].tensors[0][:, 0, 0, 0].tolist()) == trained
    assert "the 24 of 80 training images" in about["data"]["drawn_from"]["train"]
    examples, about = load_examples(loaded, DataOptions(data=images, split="validation"))
    assert set(examples["validation"].tensors[0][:, 0, 0, 0].tolist()) == held_out
    assert "held out" in about["data"]["drawn_from"]["validation"]
    examples, _ = load_examples(loaded, DataOptions(data=images), like={"seed": 0})
    assert len(examples["train"].tensors[0]) == 80


def test_the_draw_of_a_seed_never_changes() -> None:
    """Checkpoints that state the seed only depend on it."""
    labels = np.arange(40, dtype=np.int64) % 4
    held_out = hold_out(labels, 0.2, 7)
    rest: NDArray[np.int64] = np.setdiff1d(np.arange(40), held_out)
    assert held_out.tolist() == PINNED_HELD_OUT
    assert balanced_subset(labels, rest, 6, 7).tolist() == PINNED_SUBSET
    blank = ImageSet(np.zeros((40, 1, 1, 3), np.uint8), labels, None, "x", "train")
    assert fingerprint(blank).startswith(PINNED_DIGEST)


PINNED_HELD_OUT = [5, 7, 8, 14, 24, 25, 30, 39]
PINNED_SUBSET = [1, 6, 9, 11, 12, 16]
PINNED_DIGEST = "1f809842b1aa7add"


def test_a_folder_is_what_was_trained_on_only_where_the_checkpoint_can_mean_it(tmp_path: Path) -> None:
    """A network of a file of images, and pictures of somebody else: their numbers mean nothing there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    spec, prepared = f"imagefolder:{tmp_path}", {"images": Preparation((8, 8), (8, 8)).record}
    inside: dict[str, Any] = {"sha256": "0" * 64, "selection": {"held_out": [0, 10]}}
    beyond: dict[str, Any] = {"sha256": "0" * 64, "selection": {"held_out": [0, 20]}, **prepared}
    for stored in (inside, beyond):
        data = load_data(spec, split="train", stored=stored)
        assert len(data.targets) == 20
        assert data.drawn_from == "other images than those that the checkpoint was trained on"
        with pytest.raises(UserError, match="other images than those"):
            load_data(spec, split="validation", stored=stored)
    assert set(load_data(spec, split="validation", stored=inside | prepared).indices.tolist()) == {0, 10}
