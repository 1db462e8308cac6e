"""Held-out part, augmentation against a slow oracle, batches, statistics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import UserError
from landscape.images import CIFAR10_STATISTICS
from training.data import Images, augment, divided, generator_for, hold_out, load_splits, measure

CPU = torch.device("cpu")


def some_images(count: int, height: int = 32, width: int = 32) -> Images:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    mean, std = (torch.tensor(values) for values in CIFAR10_STATISTICS)
    return Images(pixels, torch.arange(count) % 3, mean, std)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 24), (7, 9)])
def test_augmentation_against_one_image_at_a_time(height: int, width: int) -> None:
    images = some_images(50, height, width)
    fast = augment(images.pixels, torch.Generator().manual_seed(5)).numpy()
    generator = torch.Generator().manual_seed(5)
    pad_y, pad_x = height // 8, width // 8
    top = torch.randint(2 * pad_y + 1, (50, 1), generator=generator)
    left = torch.randint(2 * pad_x + 1, (50, 1), generator=generator)
    flip = torch.randint(2, (50, 1), generator=generator)
    for number, image in enumerate(images.pixels.numpy()):
        padded = np.zeros((height + 2 * pad_y, width + 2 * pad_x, 3), np.uint8)
        padded[pad_y : pad_y + height, pad_x : pad_x + width] = image
        y, x = int(top[number]), int(left[number])
        crop = padded[y : y + height, x : x + width]
        assert np.array_equal(fast[number], crop[:, ::-1] if flip[number] else crop)


def test_augmentation_uses_every_shift_and_both_flips() -> None:
    """One white pixel in the middle: where it lands says shift and flip."""
    pixels = torch.zeros(4000, 32, 32, 3, dtype=torch.uint8)
    pixels[:, 16, 16] = 255
    where = augment(pixels, torch.Generator().manual_seed(0))[..., 0].nonzero()
    assert len(where) == 4000
    rows, columns = np.unique(where[:, 1], return_counts=True), np.unique(where[:, 2], return_counts=True)
    assert rows[0].tolist() == list(range(12, 21))
    assert columns[0].tolist() == list(range(11, 21))  # 12..20 plain, 11..19 mirrored
    assert rows[1].min() > 350  # 444 expected


def test_normalization_and_memory_format() -> None:
    images = some_images(4)
    x = images.normalized(images.pixels)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in CIFAR10_STATISTICS)
    expected = (images.pixels.numpy().transpose(0, 3, 1, 2) / 255 - mean) / std
    assert x.dtype == torch.float32
    assert np.allclose(x.numpy(), expected, atol=1e-6)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_visits_every_image_once() -> None:
    images = some_images(23)
    batches = list(images.shuffled(5, torch.Generator().manual_seed(0), augmented=False))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    seen = torch.cat([x for x, _ in batches])
    ordered = torch.cat([x for x, _ in images.in_order(4)])
    distances = torch.cdist(seen.flatten(1), ordered.flatten(1))
    assert sorted(distances.argmin(1).tolist()) == list(range(23))
    assert not torch.equal(seen, ordered)
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, images.labels[distances.argmin(1)])


def test_draw_is_without_replacement() -> None:
    images = some_images(20)
    x, _ = images.draw(20, torch.Generator().manual_seed(1))
    assert len(torch.unique(x.flatten(1), dim=0)) == 20


def test_generators_are_independent_and_stable() -> None:
    first = torch.rand(3, generator=generator_for(0, "epoch", 1))
    assert torch.equal(first, torch.rand(3, generator=generator_for(0, "epoch", 1)))
    for other in (generator_for(0, "epoch", 2), generator_for(1, "epoch", 1), generator_for(0, "mask", 1)):
        assert not torch.equal(first, torch.rand(3, generator=other))
    assert not torch.equal(
        torch.rand(1, generator=generator_for(0)), torch.rand(1, generator=generator_for(1 << 40))
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.floats(0, 0.9), st.integers(0, 9))
def test_held_out_part_is_balanced(labels: list[int], share: float, seed: int) -> None:
    array = np.array(labels)
    held_out = hold_out(array, share, seed)
    assert len(set(held_out.tolist())) == len(held_out)
    for label in set(labels):
        members = (array == label).sum()
        assert (array[held_out] == label).sum() == round(share * members)
    assert np.array_equal(held_out, hold_out(array, share, seed))


def test_load_data(tiny_npz: Path) -> None:
    data = load_splits(f"npz:{tiny_npz}", 0.25, 0, CPU)
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 20, 20)
    assert np.bincount(data.validation.labels).tolist() == [5, 5, 5, 5]
    assert (data.name, data.num_classes) == ("tiny", 4)
    with np.load(tiny_npz) as file:
        pixels, labels = file["train_x"], file["train_y"]
    assert np.array_equal(data.validation.pixels.numpy(), pixels[data.held_out])
    assert np.array_equal(data.validation.labels.numpy(), labels[data.held_out])
    assert np.allclose(data.mean, (pixels / 255).mean((0, 1, 2)))
    assert np.allclose(data.std, (pixels / 255).std((0, 1, 2)))
    together = np.concatenate([data.train.pixels.numpy(), data.validation.pixels.numpy()])
    assert np.array_equal(np.sort(together.reshape(80, -1), axis=0), np.sort(pixels.reshape(80, -1), axis=0))


@pytest.mark.parametrize(
    ("counts", "share", "message"),
    [
        ([10, 10, 1], 0.6, "validation 0.6: leaves nothing to train on of x's class 2; give a smaller"),
        ([1, 10, 0, 2], 0.9, "leaves nothing to train on of x's class 0, 3;"),
        ([1, 1], 0.9, "no training image is left beside the 2 held out"),
    ],
)
def test_a_share_of_a_whole_class_is_refused(counts: list[int], share: float, message: str) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    with pytest.raises(UserError, match=message):
        divided("x", labels, share, 0, None)


def test_small_classes_may_have_nothing_held_out() -> None:
    """And classes whose numbers no image has, or whose images are unusable, aren't the share's doing."""
    labels = np.repeat([0, 1, 3], [20, 2, 2])
    held_out, rest = divided("x", labels, 0.1, 0, None, np.arange(22))
    assert labels[held_out].tolist() == [0, 0]
    assert labels[rest].tolist() == [0] * 18 + [1, 1]
    assert len(divided("x", labels, 0.1, 0, 2)[1]) == 2
    assert not len(divided("x", labels, 0.0, 0, None)[0])


def test_sample_has_the_statistics_of_cifar() -> None:
    data = load_splits("sample", 0.1, 0, CPU)
    assert (data.mean, data.std) == CIFAR10_STATISTICS
    mean, std = measure(np.concatenate([data.train.pixels.numpy(), data.test.pixels.numpy()]))
    assert np.allclose(mean, data.mean, atol=0.02)
    assert np.allclose(std, data.std, atol=0.02)


def test_constant_images_are_not_divided_by_zero() -> None:
    assert measure(np.zeros((2, 2, 2, 3), np.uint8))[1] == (1.0, 1.0, 1.0)


def test_splits_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    train, test = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 9, 8, 3), np.uint8)
    np.savez(path, train_x=train, train_y=np.arange(4), test_x=test, test_y=np.arange(4))
    with pytest.raises(UserError, match="must be alike"):
        load_splits(f"npz:{path}", 0.0, 0, CPU)
    np.savez(path, train_x=train, train_y=np.zeros(4, int), test_x=train, test_y=np.arange(4))
    with pytest.raises(UserError, match="in 1 classes"):
        load_splits(f"npz:{path}", 0.0, 0, CPU)
