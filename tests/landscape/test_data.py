"""Data by name, found, or from a user's factory; balanced subsets; normalization; bad input."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from landscape.data import check_model_takes, load_data
from landscape.data.choice import on_disk
from landscape.data.normalization import measure
from landscape.data.subset import balanced_subset
from landscape.errors import UserError
from landscape.factories import import_factory
from landscape.images import read_images

Factory = Callable[[Callable[[str], Any]], str]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARPSCAPE_DATA", raising=False)


def write_npz(path: Path, per_class: int = 3, classes: int = 4, size: int = 8) -> Path:
    """Noise images, class by class; the test split is half as large."""
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for split, count in (("train", per_class), ("test", max(1, per_class // 2))):
        labels = np.repeat(np.arange(classes), count)
        arrays[f"{split}_x"] = generator.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
        arrays[f"{split}_y"] = labels
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


# Subsets


@given(
    st.integers(1, 12),
    st.integers(1, 20),
    st.integers(1, 300),
    st.integers(0, 2**31),
    st.data(),
)
def test_balanced_subset(classes: int, per_class: int, count: int, seed: int, data: st.DataObject) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), per_class))
    chosen = balanced_subset(labels, count, seed)
    assert len(chosen) == min(count, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.array_equal(chosen, balanced_subset(labels, count, seed))
    start = data.draw(st.integers(0, len(chosen) - 1))
    stop = data.draw(st.integers(start + 1, len(chosen)))
    for block in (labels[chosen], labels[chosen[start:stop]]):
        counts = np.bincount(block, minlength=classes)
        assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 200), st.integers(0, 100))
def test_unequal_classes_share_as_equally_as_they_can(sizes: list[int], count: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)) * 7, sizes)
    chosen = balanced_subset(labels, count, seed)
    assert len(set(chosen.tolist())) == min(count, len(labels))
    counts = np.array([np.count_nonzero(labels[chosen] == 7 * label) for label in range(len(sizes))])
    unexhausted = counts[counts < sizes]
    if len(unexhausted):
        assert counts.max() - unexhausted.min() <= 1


def test_small_classes_are_spread_over_the_order() -> None:
    labels = np.repeat([0, 1], [900, 100])
    order = labels[balanced_subset(labels, None, 0)]
    assert [int(part.sum()) for part in np.split(order, 10)] == [10] * 10


def test_subset_of_a_seed_never_changes() -> None:
    labels = np.repeat(np.arange(4), 5)
    pinned = [0, 5, 16, 12, 3, 6]
    assert balanced_subset(labels, 6, 3).tolist() == pinned
    assert balanced_subset(labels, 6, 4).tolist() != pinned


# The shipped sample and what is on disk


def test_nothing_named_takes_the_sample_and_says_why() -> None:
    data = load_data(examples=50, stored={"name": "cifar10", "mean": [0.5] * 3, "std": [0.25] * 3})
    assert "shipped CIFAR-10 sample (checkpoint says cifar10; none under data; --data-root" in data.how
    assert "50 of 1000 examples" in data.how
    assert data.how.endswith("normalization: the checkpoint's")
    assert data.inputs.shape == (50, 3, 32, 32)
    assert data.inputs.dtype == torch.uint8
    assert data.targets.bincount().tolist() == [5] * 10
    assert (data.mean, data.std, data.num_classes) == ((0.5,) * 3, (0.25,) * 3, 10)
    pixels = data.normalized(3, 5)
    assert torch.allclose(pixels, (data.inputs[3:5] / 255 - 0.5) / 0.25)


def test_indices_name_the_examples() -> None:
    everything = load_data("sample", split="train")
    some = load_data("sample", split="train", examples=33, seed=5)
    place = {int(index): row for row, index in enumerate(everything.indices)}
    rows = [place[int(index)] for index in some.indices]
    assert torch.equal(everything.inputs[rows], some.inputs)
    assert torch.equal(everything.targets[rows], some.targets)
    other = load_data("sample", split="train", examples=33, seed=6)
    assert not np.array_equal(other.indices, some.indices)


def test_more_examples_than_there_are_is_said() -> None:
    assert "1000 of 1000 examples (all there are; 5000 asked for)" in load_data("sample", examples=5000).how


def test_root_by_argument_by_variable_and_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored = {"name": "mine"}
    write_npz(tmp_path / "elsewhere/mine.npz", per_class=2)
    write_npz(tmp_path / "variable/mine.npz", per_class=4)
    write_npz(tmp_path / "data/mine.npz", per_class=6)
    assert len(load_data(stored=stored, split="train").targets) == 24
    monkeypatch.setenv("SHARPSCAPE_DATA", "variable")
    assert len(load_data(stored=stored, split="train").targets) == 16
    found = load_data(stored=stored, split="train", root="elsewhere")
    assert len(found.targets) == 8
    assert "mine (checkpoint says mine; found under elsewhere)" in found.how


def write_cifar(folder: Path) -> None:
    """A CIFAR-10 of random pixels as torchvision stores it; 20 images a batch."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        pixels = generator.integers(0, 256, (20, 3072), dtype=np.uint8)
        content = {"data": pixels, "labels": list(range(10)) * 2}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))


def test_cifar_in_torchvisions_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.datasets import CIFAR10, cifar

    write_cifar(tmp_path / "data/cifar-10-batches-py")
    monkeypatch.setattr(cifar, "check_integrity", lambda *args: True)  # the MD5 are those of the real images
    data = load_data(num_classes=10, split="train", examples=30)
    assert "cifar10 (checkpoint names no data; found under data)" in data.how
    assert "the data set's published one" in data.how
    assert data.targets.bincount().tolist() == [3] * 10
    original = CIFAR10("data", train=True).data[data.indices]
    assert torch.equal(data.inputs, torch.from_numpy(original).permute(0, 3, 1, 2))


def test_cifar10_may_lie_there_as_npz(tmp_path: Path) -> None:
    write_npz(tmp_path / "data/cifar10.npz", classes=10, size=32)
    assert load_data("cifar10", split="train").name == "cifar10"


def test_npz_is_measured_on_its_train_split(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz")
    data = load_data(f"npz:{path}")
    with np.load(path) as file:
        pixels = file["train_x"].reshape(-1, 3) / 255
    assert data.mean == pytest.approx(pixels.mean(axis=0))
    assert data.std == pytest.approx(pixels.std(axis=0))
    assert "measured on the train split" in data.how
    np.savez("half.npz", test_x=np.zeros((2, 4, 4, 3), np.uint8), test_y=np.array([0, 1]))
    half = load_data("npz:half.npz", split="test")
    assert "measured on the test split" in half.how
    assert half.std == (1.0, 1.0, 1.0)


def test_given_normalization_wins() -> None:
    given = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    data = load_data("sample", examples=2, stored={"mean": [0.5], "std": [0.5]}, normalization=given)
    assert (data.mean, data.std) == given
    gray = load_data("sample", examples=2, stored={"mean": [0.5], "std": [0.25]})
    assert (gray.mean, gray.std) == ((0.5,) * 3, (0.25,) * 3)


@given(st.integers(0, 100))
@settings(max_examples=10)
def test_measured_statistics(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    mean, std = measure(images)
    flat = images.reshape(-1, 3) / 255
    assert mean == pytest.approx(flat.mean(axis=0))
    assert std == pytest.approx(flat.std(axis=0))


# Image folders


def test_a_checkpoints_word_for_its_data_is_no_path(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "mine").mkdir(parents=True)
    assert on_disk("mine", root) == f"imagefolder:{root / 'mine'}"
    for name in ("..", ".", "../data", str(root), "", "mine/..", "a\0b"):
        assert on_disk(name, root) is None


def write_folder(root: Path, size: tuple[int, int], classes: int = 3, count: int = 2) -> None:
    for label in range(classes):
        folder = root / "val" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, (80 * label, 10 * number, 0)).save(folder / f"{number}.png")


@pytest.mark.parametrize(("size", "expected"), [((32, 32), (32, 32)), ((400, 300), (224, 224))])
def test_image_folder(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    write_folder(tmp_path / "photos", size)
    data = load_data("imagefolder:photos", split="test", examples=4)
    assert data.inputs.shape == (4, 3, *expected)
    assert data.mean == (0.485, 0.456, 0.406)
    assert "normalization: ImageNet's" in data.how
    assert data.name == "photos"
    assert [int(pixel) // 80 for pixel in data.inputs[:, 0, 0, 0]] == data.targets.tolist()


# Factories


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Factory:
    """Write a module into the current folder whose ``make`` is the given callable."""
    name = "data_of_a_user"
    (tmp_path / f"{name}.py").write_text("def make(split): return None\n")

    def use(make: Callable[[str], Any]) -> str:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys.modules[import_factory(f"{name}:make").__module__], "make", make)
        return f"{name}:make"

    return use


class _Squares(Dataset[Any]):
    """Examples read one by one; counts how many."""

    def __init__(self, with_targets: bool) -> None:
        self.read = 0
        self.classes = ["even", "odd"]
        if with_targets:
            self.targets = [index % 2 for index in range(40)]

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return torch.full((2,), float(index)), index % 2


def test_factory_of_tensors(factory: Factory) -> None:
    inputs = torch.arange(60.0).reshape(30, 2)
    data = load_data(factory(lambda split: (inputs, torch.arange(30) % 3)), examples=6, split="train")
    assert torch.equal(data.inputs, inputs[data.indices])
    assert data.targets.bincount().tolist() == [2, 2, 2]
    assert data.mean is None
    assert torch.equal(data.normalized(), data.inputs)
    assert (data.num_classes, data.classes_known) == (3, False)
    assert "inputs taken as they are" in data.how


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.uint64])
def test_factory_of_unsigned_labels(factory: Factory, kind: torch.dtype) -> None:
    labels = torch.arange(12).remainder(3)
    spec = factory(lambda split: (torch.ones(12, 5), labels.to(kind)))
    data = load_data(spec, examples=12, split="test")
    assert torch.equal(data.targets, labels[data.indices])


def test_factory_gets_the_split(factory: Factory) -> None:
    sizes = {"train": 8, "test": 4}
    spec = factory(lambda split: (np.zeros((sizes[split], 5), np.float32), np.zeros(sizes[split], np.int32)))
    assert [len(load_data(spec, split=split).targets) for split in ("train", "test")] == [8, 4]


@pytest.mark.parametrize(("with_targets", "reads"), [(True, 10), (False, 40)])
def test_factory_of_a_dataset(factory: Factory, with_targets: bool, reads: int) -> None:
    made = _Squares(with_targets)
    data = load_data(factory(lambda split: made), examples=10)
    assert data.inputs[:, 0].tolist() == data.indices.tolist()
    assert data.targets.tolist() == (data.indices % 2).tolist()
    assert made.read == reads
    assert (data.num_classes, data.classes_known) == (2, True)


def test_factory_of_batches_and_pixels(factory: Factory) -> None:
    pixels = torch.randint(256, (10, 3, 4, 4), dtype=torch.uint8)
    loader = DataLoader(TensorDataset(pixels, torch.arange(10) % 2), batch_size=4)
    spec = factory(lambda split: loader)
    plain = load_data(spec)
    assert torch.equal(plain.inputs, pixels[plain.indices])
    assert plain.mean == (0.0, 0.0, 0.0)
    stored = load_data(spec, stored={"mean": [0.5] * 3, "std": [0.5] * 3})
    assert stored.mean == (0.5, 0.5, 0.5)
    gray = factory(lambda split: (pixels[:, :1], torch.arange(10) % 2))
    with pytest.raises(UserError, match="images have 1 channels, the normalization 3"):
        load_data(gray, stored={"mean": [0.5] * 3, "std": [0.5] * 3})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (5, "returned a int; expected"),
        ([], "there are no batches"),
        ([(1, 2, 3)], "a batch is a tuple; expected a pair"),
        ((torch.zeros(3, 2), torch.zeros(4).long()), "3 inputs but 4 targets"),
        ((torch.zeros(0, 2), torch.zeros(0).long()), "the data set is empty"),
        ((torch.zeros(3, 2), torch.zeros(3)), r"targets are torch.float32 of shape \[3\]"),
        ((torch.zeros(3, 2), torch.zeros(3, 2).long()), r"of shape \[3, 2\]; expected one integer"),
        ((torch.zeros(3, 2), torch.tensor([0, -1, 2])), "smallest label is -1"),
        ((torch.zeros(3, 4, 4, 3, dtype=torch.uint8), torch.arange(3)), r"of shape \[3, 4, 4, 3\]; expected"),
        ((torch.zeros(3, 2).long(), torch.arange(3)), "inputs are torch.int64"),
    ],
)
def test_factory_of_something_else(factory: Factory, made: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_data(factory(lambda split: made))


def test_factory_that_fails_is_one_line_with_its_place(factory: Factory) -> None:
    def make(split: str) -> None:
        raise KeyError("no such file")

    with pytest.raises(UserError, match=r"failed: KeyError: 'no such file' \(test_data.py:\d+\)$"):
        load_data(factory(make))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "sample", "num_classes": 100}, "the model has 100 classes, sample has 10"),
        ({"num_classes": 100}, "checkpoint names no data, and none of 100 classes"),
        ({"stored": {"name": "cifar100"}}, "checkpoint says cifar100, and none lie under data"),
        ({"spec": "cifar10"}, "cifar-10-batches-py does not exist"),
        ({"spec": "cifr10"}, "unknown data 'cifr10' .did you mean cifar10"),
        ({"spec": "npz:missing.npz"}, "no file missing.npz"),
        ({"spec": "imagefolder:missing"}, "no folder missing"),
        ({"spec": "no_such_package.data:make"}, "no module 'no_such_package.data'"),
        ({"spec": "sample", "examples": 0}, "examples must be at least 1, got 0"),
        ({"spec": "sample", "split": "val"}, "unknown split 'val'; expected train, validation or test"),
        ({"spec": "sample", "stored": {"mean": [0.5], "std": [0.0]}}, "a positive deviation"),
        ({"spec": "sample", "stored": {"mean": ["x"], "std": [1.0]}}, "expected numbers"),
        ({"spec": "sample", "stored": {"mean": [0.5] * 2, "std": [1.0] * 3}}, "1 or 3 channels"),
    ],
)
def test_bad_input_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_data(**arguments)
    assert "\n" not in str(caught.value)


def test_empty_data_is_refused(tmp_path: Path) -> None:
    np.savez("none.npz", test_x=np.zeros((0, 4, 4, 3), np.uint8), test_y=np.zeros(0, np.int64))
    with pytest.raises(UserError, match="empty"):
        load_data("npz:none.npz", split="test")


def test_model_that_does_not_take_the_data(factory: Factory) -> None:
    data = load_data("sample", examples=10)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    check_model_takes(flat, data)
    with pytest.raises(UserError, match=r"can't take inputs of shape \[3, 32, 32\] of sample: mat1"):
        check_model_takes(nn.Linear(5, 10), data)
    with pytest.raises(UserError, match="the model has 7 classes, sample has 10"):
        check_model_takes(nn.Sequential(nn.Flatten(), nn.Linear(3072, 7)), data)
    with pytest.raises(UserError, match=r"returns \[2, 3, 32, 32\] for two examples"):
        check_model_takes(nn.ReLU(), data)
    few = load_data(factory(lambda split: (torch.zeros(4, 6), torch.tensor([0, 1, 1, 0]))))
    check_model_takes(nn.Linear(6, 5), few)


def test_a_split_that_is_none_is_not_taken_for_the_test_images(tmp_path: Path) -> None:
    for spec in ("cifar10", "cifar100", "sample"):
        with pytest.raises(UserError, match="unknown split 'validation'; expected one of train, test"):
            read_images(spec, "validation", tmp_path)  # type: ignore[arg-type]
