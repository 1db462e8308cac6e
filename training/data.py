"""Training images on the device: held-out part, augmentation and batches, without a data loader.

A whole CIFAR is 180 MB as uint8, so it lives on the device; augmentation and normalization are a few tensor
operations per batch. All randomness is drawn on the CPU from named generators, so that it's the same
everywhere and needs no state when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def whole(batch: Tensor) -> Tensor:
    """All of a batch: the share of the only process."""
    return batch


@dataclass(frozen=True)
class Images:
    """A set of images on a device: ``pixels`` uint8 (N, H, W, 3), ``labels`` int64 (N,); mean, std (3,).

    ``training.photographs`` has the same of files, whose ``pixels`` are decoded when they are wanted.
    """

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def streamed(self) -> bool:
        """Whether images come from files, step by step; one that can't be read is found out there."""
        return False

    def first(self, count: int) -> Images:
        """The first `count` of them; all when there are fewer."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def head(self, count: int) -> Tensor:
        """The first `count` images (B, 3, H, W), as for evaluation."""
        return self.normalized(self.take(torch.arange(min(count, len(self)))))

    def take(self, index: Tensor) -> Tensor:
        """The pixels of some images, uint8 (B, H, W, 3) on the device; `index` is on the CPU."""
        # Without waiting for a GPU's step before: the copy is staged before the call returns.
        return self.pixels[index.to(self.labels.device, non_blocking=True)]

    def normalized(self, pixels: Tensor) -> Tensor:
        """Float images (B, 3, H, W) in channels-last memory, ``(pixel / 255 - mean) / std``."""
        return pixels.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` images and labels, without augmentation and without replacement."""
        chosen = torch.randperm(len(self), generator=generator)[: min(count, len(self))]
        return self.normalized(self.take(chosen)), self.labels[chosen.to(self.labels.device)]

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`per_class` images of each class, the classes interleaved (0, 1, …, 0, 1, …), not augmented.

        A class that has fewer gives all that it has.
        """
        labels = self.labels.cpu()
        members = [torch.nonzero(labels == label).squeeze(1) for label in torch.unique(labels)]
        chosen = [
            one[torch.randperm(len(one), generator=generator)[: min(per_class, len(one))]] for one in members
        ]
        turns = torch.cat([torch.arange(len(one)) for one in chosen])
        index = torch.cat(chosen)[turns.argsort(stable=True)]
        return self.normalized(self.take(index)), self.labels[index.to(self.labels.device)]

    def in_order(
        self, batch_size: int, part: Callable[[Tensor], Tensor] = whole
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images as they stand, for evaluation; of each batch this process's `part`."""
        for start in range(0, len(self), batch_size):
            index = part(torch.arange(start, min(start + batch_size, len(self))))
            span = slice(int(index[0]), int(index[-1]) + 1)
            yield self.normalized(self.pixels[span]), self.labels[span]

    def shuffled(
        self,
        batch_size: int,
        generator: torch.Generator,
        augmented: bool,
        *,
        start: int = 0,
        part: Callable[[Tensor], Tensor] = whole,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in random order, for training.

        Parameters
        ----------
        start
            Batches that were had already; those that follow are the same as if they were had now.
        part
            Cuts this process's part out of a batch.
        """
        _, height, width, _ = self.pixels.shape
        order = torch.randperm(len(self), generator=generator)
        for number, first in enumerate(range(0, len(self), batch_size)):
            index = order[first : first + batch_size]
            moves = Moves.drawn(len(index), height, width, generator) if augmented else None
            if number < start:
                continue
            pixels = part(self.take(index))
            if moves is not None:
                pixels = moves.part(part).of(pixels)
            yield self.normalized(pixels), self.labels[part(index).to(self.labels.device, non_blocking=True)]


@dataclass(frozen=True)
class Moves:
    """How a batch is shifted and mirrored: ``top`` and ``left`` int64 (B, 1), ``flip`` bool (B, 1)."""

    top: Tensor
    left: Tensor
    flip: Tensor

    @classmethod
    def drawn(cls, count: int, height: int, width: int, generator: torch.Generator) -> Moves:
        """Shifts by up to an eighth of the side; mirrored half the time."""
        top = torch.randint(2 * (height // 8) + 1, (count, 1), generator=generator)
        left = torch.randint(2 * (width // 8) + 1, (count, 1), generator=generator)
        return cls(top, left, torch.randint(2, (count, 1), generator=generator).bool())

    def part(self, part: Callable[[Tensor], Tensor]) -> Moves:
        """Of a part of the batch."""
        return Moves(part(self.top), part(self.left), part(self.flip))

    def of(self, pixels: Tensor) -> Tensor:
        """The images uint8 (B, H, W, 3), moved; black where nothing was."""
        count, height, width, _ = pixels.shape
        pad_y, pad_x = height // 8, width // 8
        columns = torch.arange(width)
        rows = (self.top + torch.arange(height)).to(pixels.device, non_blocking=True)
        columns = self.left + torch.where(self.flip, columns.flip(0), columns)
        columns = columns.to(pixels.device, non_blocking=True)
        padded = F.pad(pixels, (0, 0, pad_x, pad_x, pad_y, pad_y))
        image = torch.arange(count, device=pixels.device)
        return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its side, black outside; mirror it half the time.

    `pixels` is uint8 (B, H, W, 3); at 32 pixels this is the usual "pad 4, crop, flip" of CIFAR.
    """
    count, height, width, _ = pixels.shape
    return Moves.drawn(count, height, width, generator).of(pixels)


@dataclass(frozen=True)
class TrainingData:
    """The three parts of a run's data and what the checkpoint says about them.

    ``sha256`` is that of the whole training split, ``test_sha256`` of the test split (labels, then pixels).
    ``held_out`` and ``trained`` are ascending indices into the training split; ``trained`` is None where it's
    everything that wasn't held out. ``images`` is how those of a folder were resized and cropped,
    ``left_out`` how many of each split's were broken, where any was, ``classes`` their names by number, where
    they have any. Of photographs in files, labels, names and sizes stand for the pixels in both digests.
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
    left_out: dict[str, int] | None = None
    classes: tuple[str, ...] | None = None

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
    held_out, rest = divided(spec, train.labels, validation, seed, examples)
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
        classes=train.classes,
    )


def divided(
    spec: str,
    labels: NDArray[np.int64],
    validation: float,
    seed: int,
    examples: int | None,
    among: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending indices of the images held out and of those trained on; `among` are usable, or all.

    Raises
    ------
    UserError
        When nothing is left to train on, of all or of a class, or less than `examples`.
    """
    held_out = hold_out(labels, validation, seed)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if among is not None:
        held_out, rest = np.intersect1d(held_out, among), np.intersect1d(rest, among)
    if not len(rest):
        raise UserError(f"{spec}: no training image is left beside the {len(held_out)} held out")
    _check_classes_left(spec, labels, validation, held_out, rest)
    if examples is not None:
        if not 1 <= examples <= len(rest):
            raise UserError(f"examples {examples}: expected 1 to the {len(rest)} training images of {spec}")
        rest = balanced_subset(labels, rest, examples, seed)
    return held_out, rest


def check_held_out(data: TrainingData, validation: float) -> None:
    """Raise UserError where a share above 0 means no image: a new run would have nothing to look at."""
    if validation > 0 and not len(data.validation):
        raise UserError(
            f"validation {validation:g}: holds out none of the training images of {data.name}, so few are in "
            "each class; give a larger share, or 0"
        )


def _check_classes_left(
    spec: str,
    labels: NDArray[np.int64],
    validation: float,
    held_out: NDArray[np.int64],
    rest: NDArray[np.int64],
) -> None:
    """Raise UserError where the share is all that a class has."""
    taken = np.setdiff1d(labels[held_out], labels[rest])
    if len(taken):
        raise UserError(
            f"validation {validation:g}: leaves nothing to train on of {spec}'s class "
            f"{', '.join(map(str, taken[:5]))}; give a smaller share, or 0"
        )


def measure(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the pixels in 0..1; a constant channel gets 1."""
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    share = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return tuple(float(value) for value in mean), tuple(float(value) or 1.0 for value in std)
