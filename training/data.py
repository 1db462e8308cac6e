"""Training images on the device: held-out part, augmentation and batches, without a data loader.

A whole CIFAR is 180 MB as uint8, so it lives on the device; augmentation and normalization are a few tensor
operations per batch. All randomness is drawn on the CPU from named generators, so that it's the same
everywhere and needs no state when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import UserError
from landscape.images import STATISTICS, ImageSet, read_images
from landscape.images.selection import balanced_subset as balanced_subset
from landscape.images.selection import fingerprint
from landscape.images.selection import generator_for as generator_for
from landscape.images.selection import hold_out as hold_out


@dataclass(frozen=True)
class Images:
    """A set of images on a device: ``pixels`` uint8 (N, H, W, 3), ``labels`` int64 (N,); mean, std (3,)."""

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Images:
        """The first `count` of them; all when there are fewer."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def normalized(self, pixels: Tensor) -> Tensor:
        """Float images (B, 3, H, W) in channels-last memory, ``(pixel / 255 - mean) / std``."""
        return pixels.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` images and labels, without augmentation and without replacement."""
        chosen = torch.randperm(len(self), generator=generator)[:count].to(self.labels.device)
        return self.normalized(self.pixels[chosen]), self.labels[chosen]

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`per_class` images of each class, the classes interleaved (0, 1, …, 0, 1, …), not augmented."""
        labels = self.labels.cpu()
        members = [torch.nonzero(labels == label).squeeze(1) for label in torch.unique(labels)]
        few = min(per_class, *(len(one) for one in members))
        chosen = [one[torch.randperm(len(one), generator=generator)[:few]] for one in members]
        index = torch.stack(chosen, dim=1).reshape(-1).to(self.labels.device)
        return self.normalized(self.pixels[index]), self.labels[index]

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images as they stand, for evaluation."""
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.normalized(self.pixels[part]), self.labels[part]

    def shuffled(
        self, batch_size: int, generator: torch.Generator, augmented: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in random order, for training."""
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self), batch_size):
            # Without waiting for a GPU's step before: the copy is staged before the call returns.
            index = order[start : start + batch_size].to(self.labels.device, non_blocking=True)
            pixels = self.pixels[index]
            if augmented:
                pixels = augment(pixels, generator)
            yield self.normalized(pixels), self.labels[index]


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its side, black outside; mirror it half the time.

    `pixels` is uint8 (B, H, W, 3); at 32 pixels this is the usual "pad 4, crop, flip" of CIFAR.
    """
    count, height, width, _ = pixels.shape
    pad_y, pad_x = height // 8, width // 8
    top = torch.randint(2 * pad_y + 1, (count, 1), generator=generator)
    left = torch.randint(2 * pad_x + 1, (count, 1), generator=generator)
    flip = torch.randint(2, (count, 1), generator=generator).bool()
    columns = torch.arange(width)
    rows = (top + torch.arange(height)).to(pixels.device, non_blocking=True)
    columns = (left + torch.where(flip, columns.flip(0), columns)).to(pixels.device, non_blocking=True)
    padded = F.pad(pixels, (0, 0, pad_x, pad_x, pad_y, pad_y))
    image = torch.arange(count, device=pixels.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class TrainingData:
    """The three parts of a run's data and what the checkpoint says about them.

    ``sha256`` is that of the whole training split, ``test_sha256`` of the test split (labels, then pixels).
    ``held_out`` and ``trained`` are ascending indices into the training split; ``trained`` is None where it's
    everything that wasn't held out. ``images`` is how those of a folder were resized and cropped.
    """

    train: Images
    validation: Images
    test: Images
    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    held_out: NDArray[np.int64]
    sha256: str
    test_sha256: str = ""
    trained: NDArray[np.int64] | None = None
    images: dict[str, Any] | None = None

    def selection(self, seed: int) -> dict[str, Any]:
        """What the checkpoint says of the training split: the images held out, and those trained on."""
        found = {
            "split": "train",
            "rule": "last epoch; held-out images are only reported",
            "seed": seed,
            "held_out": torch.from_numpy(self.held_out).to(torch.int32),
        }
        if self.trained is not None:  # else all that weren't held out
            found["trained"] = torch.from_numpy(self.trained).to(torch.int32)
        return found


def load_splits(
    spec: str,
    validation: float,
    seed: int,
    device: torch.device,
    root: str | Path | None = None,
    download: bool = False,
    examples: int | None = None,
) -> TrainingData:
    """Read training and test split of `spec`, hold a part out, and put everything on the device.

    With `examples`, so many of the training images that are left are used, class-balanced.

    Raises
    ------
    UserError
        As :func:`landscape.images.read_images`; when the splits differ in size or classes; or when
        nothing is left to train on, or less than `examples`.
    """
    train = read_images(spec, "train", root, download=download)
    test = read_images(spec, "test", root, download=download)
    if train.images.shape[1:] != test.images.shape[1:] or test.num_classes > train.num_classes:
        raise UserError(
            f"{spec}: training images {train.images.shape[1:]} in {train.num_classes} classes, "
            f"test images {test.images.shape[1:]} in {test.num_classes}; they must be alike"
        )
    mean, std = STATISTICS.get(train.name) or measure(train.images)
    held_out = hold_out(train.labels, validation, seed)
    rest = np.setdiff1d(np.arange(len(train)), held_out)
    if not len(rest):
        raise UserError(f"{spec}: no training image is left beside the {len(held_out)} held out")
    if examples is not None:
        if not 1 <= examples <= len(rest):
            raise UserError(f"examples {examples}: expected 1 to the {len(rest)} training images of {spec}")
        rest = balanced_subset(train.labels, rest, examples, seed)
    statistics = (torch.tensor(mean, device=device), torch.tensor(std, device=device))

    def images(part: ImageSet, chosen: NDArray[np.int64] | slice) -> Images:
        pixels = torch.from_numpy(np.ascontiguousarray(part.images[chosen])).to(device)
        return Images(pixels, torch.from_numpy(part.labels[chosen]).to(device), *statistics)

    return TrainingData(
        train=images(train, rest),
        validation=images(train, held_out),
        test=images(test, slice(None)),
        name=train.name,
        num_classes=train.num_classes,
        mean=mean,
        std=std,
        held_out=held_out,
        sha256=fingerprint(train),
        test_sha256=fingerprint(test),
        trained=None if examples is None else rest,
        images=None if train.preparation is None else train.preparation.record,
    )


def measure(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the pixels in 0..1; a constant channel gets 1."""
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    share = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return tuple(float(value) for value in mean), tuple(float(value) or 1.0 for value in std)
