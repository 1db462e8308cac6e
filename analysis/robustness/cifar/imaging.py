"""What several corruptions need of image processing, as OpenCV, scikit-image and ImageMagick define it."""

from __future__ import annotations

from functools import cache
from math import ceil, cos, radians, sin
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[np.float64]
"""Height × width × 3, or height × width for a layer; 0 is black, 1 is white."""
Edge = Literal["nearest", "reflect", "mirror"]
"""What lies beyond the edge, in scipy's words."""


def smoothed(image: Pixels, sigma: float, *, mode: Edge = "nearest", truncate: float = 4.0) -> Pixels:
    """Gaussian blur of each channel, with scikit-image's defaults."""
    both = (sigma, sigma, *[0.0] * (image.ndim - 2))
    found: Pixels = ndimage.gaussian_filter(image, both, mode=mode, truncate=truncate)
    return found


def filtered(image: Pixels, kernel: Pixels) -> Pixels:
    """Correlation of each channel with a kernel, mirrored at the edge pixels as OpenCV does."""
    shaped = kernel.reshape(*kernel.shape, *[1] * (image.ndim - 2))
    found: Pixels = ndimage.correlate(image, shaped, mode="mirror")
    return found


def motion_blurred(image: Pixels, radius: int, sigma: float, angle: float) -> Pixels:
    """ImageMagick's motion blur: half a Gaussian along a line of whole pixels, edge pixels repeated.

    Tap i of ``2·radius + 1`` lies ``round(i·cos)`` pixels to the right and ``round(i·sin)`` down and weighs
    ``exp(-i² / 2σ²)``, all together 1.

    Parameters
    ----------
    angle
        In degrees.
    """
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    across, along = sin(radians(angle)), cos(radians(angle))
    border = len(taps)
    padded = np.pad(image, [(border, border)] * 2 + [(0, 0)] * (image.ndim - 2), mode="edge")
    found = np.zeros_like(image)
    height, width = image.shape[:2]
    for tap, weight in zip(taps, weights, strict=True):
        down, right = (border + ceil(tap * part - 0.5) for part in (across, along))
        found += weight * padded[down : down + height, right : right + width]
    return found


@cache
def zooming(size: int, factor: float) -> Pixels:
    """The matrix ``[size, size]`` that cuts the middle out of a line of pixels and stretches it.

    The middle has ``ceil(size / factor)`` pixels, which linear interpolation brings to `factor` times as
    many. First and last stay where they are, and what is too long is cut at both ends: X becomes ``A X Aᵀ``.
    """
    middle = ceil(size / factor)
    length = round(middle * factor)
    places = np.arange(length) * ((middle - 1) / (length - 1))
    lower = np.minimum(places.astype(int), middle - 2)
    share = places - lower
    found = np.zeros((length, size))
    start = (size - middle) // 2
    found[np.arange(length), start + lower] = 1 - share
    found[np.arange(length), start + lower + 1] += share
    trim = (length - size) // 2
    return found[trim : trim + size]


def zoomed(image: Pixels, factor: float) -> Pixels:
    """The middle of an image, enlarged to the image's size."""
    matrix = zooming(len(image), factor)
    if image.ndim == 2:
        return matrix @ image @ matrix.T
    found: Pixels = np.einsum("ij,jkc,lk->ilc", matrix, image, matrix, optimize=True)
    return found


def to_bytes(image: Pixels) -> NDArray[np.uint8]:
    """Pixels as 8 bits: cut to 0..1, fractions dropped, as the published files were made."""
    # The little more keeps 255 · (v / 255), a rounding below v, at v.
    return (np.clip(image, 0, 1) * 255 + 1e-9).astype(np.uint8)
