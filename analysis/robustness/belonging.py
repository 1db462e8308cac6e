"""Whether clean images are those that files of corrupted ones were made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.robustness.images_interval import FloatArray
from analysis.robustness.versions import Bytes, Versions
from landscape.errors import UserError

FEW = 64  # images
APART = 0.2  # correlation with its own image, beyond that with another one
_FAITHFUL = ("jpeg_compression", "pixelate", "brightness", "gaussian_noise", "defocus_blur")


def check_clean_belongs(versions: Versions, wanted: Sequence[str]) -> None:
    """Compare a few clean images with corrupted ones of a file at severity 1, pixel by pixel.

    Another order of the same classes has the same labels, and its clean accuracy would be of other images.

    Raises
    ------
    UserError
        When they resemble their own clean image no more than another one.
    """
    of_files = [one for one in wanted if versions.source(one) == "files"]
    clean = versions.clean()
    if clean is None or not of_files:
        return
    name = next((one for one in _FAITHFUL if one in of_files), of_files[0])
    first, second = (_shapes(next(iter(part))) for part in (clean, versions.corrupted(name, 1)))
    count = min(len(first), len(second))
    if count < 2 or first.shape[1] != second.shape[1]:
        return
    first, second = first[:count], second[:count]
    told = (np.abs(first).sum(1) > 0) & (np.abs(second).sum(1) > 0)
    own, other = (first * second).sum(1), (first * np.roll(second, 1, axis=0)).sum(1)
    if told.any() and float((own - other)[told].mean()) < APART:
        raise UserError(
            f"the clean images aren't those of {name} in {versions.name}: their pixels are alike to "
            f"{own[told].mean():.2f}, those of different images to {other[told].mean():.2f}; "
            "name the right ones with --clean, or leave the wrong ones away"
        )


def _shapes(images: Bytes) -> FloatArray:
    """Brightness by place, ``[n, height·width]``, of mean 0 and length 1; zeros for an even surface."""
    grey = images[:FEW].mean(axis=-1).reshape(len(images[:FEW]), -1)
    grey -= grey.mean(axis=1, keepdims=True)
    length: FloatArray = np.linalg.norm(grey, axis=1, keepdims=True)
    shapes: FloatArray = np.divide(grey, length, out=np.zeros_like(grey), where=length > 1e-6)
    return shapes
