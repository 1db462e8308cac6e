"""Mean and standard deviation by which a network's pixels are normalized, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.images import IMAGENET_STATISTICS, STATISTICS, Split, read_images

Channels = tuple[float, ...]
Normalization = tuple[Channels, Channels]


GIVEN = "as given"
CHECKPOINTS = "the checkpoint's"


def known_normalization(
    given: Normalization | None, stored: Mapping[str, Any]
) -> tuple[Normalization, str] | None:
    """What the caller says, else what the checkpoint says; with its source. None where neither does.

    Raises
    ------
    UserError
        When there aren't as many finite means as positive deviations, one or three of each.
    """
    mean, std = given if given is not None else (stored.get("mean"), stored.get("std"))
    if mean is None or std is None:
        return None
    source = GIVEN if given is not None else CHECKPOINTS
    try:
        numbers = tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"normalization ({source}): {error}; expected numbers, one for each channel"
        ) from error
    usable = (
        np.isfinite(numbers).all() and min(numbers[1]) > 0 if len(numbers[0]) == len(numbers[1]) else False
    )
    if not usable or len(numbers[0]) not in (1, 3):
        raise UserError(
            f"normalization ({source}) has mean {list(numbers[0])}, std {list(numbers[1])}; "
            "expected a finite mean and a positive deviation for each of 1 or 3 channels"
        )
    return numbers, source


def per_channel(normalization: Normalization, channels: int) -> Normalization:
    """One mean and deviation for each channel; a single one counts for all.

    Raises
    ------
    UserError
        When there are neither one nor `channels` of them.
    """
    mean, std = normalization
    if len(mean) not in (1, channels):
        raise UserError(f"images have {channels} channels, the normalization {len(mean)}; expected as many")
    repeat = channels // len(mean)
    return mean * repeat, std * repeat


def usual_normalization(spec: str, name: str, split: Split, root: Path) -> tuple[Normalization, str]:
    """What training on a set of images commonly uses, and its source.

    Parameters
    ----------
    spec, name, split
        The data set as `landscape.images.read_images` takes it, its name, and the split at hand.
    root
        Folder of the data sets.
    """
    if name in STATISTICS:
        return STATISTICS[name], "the data set's published one"
    if spec.startswith("imagefolder:"):
        return IMAGENET_STATISTICS, "ImageNet's"
    try:
        return measure(read_images(spec, "train", root).images), "measured on the train split"
    except UserError:  # the file has but the split at hand
        return measure(read_images(spec, split, root).images), f"measured on the {split} split"


def measure(images: NDArray[np.uint8]) -> Normalization:
    """Mean and deviation (1 for a constant) per channel of uint8 pixels (N, H, W, C), scaled to 0..1."""
    mean, std = [], []
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
        values = np.arange(256) / 255
        mean.append(float(np.average(values, weights=counts)))
        std.append(float(np.sqrt(np.average((values - mean[-1]) ** 2, weights=counts))) or 1.0)
    return tuple(mean), tuple(std)
