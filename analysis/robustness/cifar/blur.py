"""Blur: out of focus, through frosted glass, of motion, of zooming, Gaussian."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import RandomState
from scipy import ndimage

from analysis.robustness.cifar.imaging import Pixels, filtered, motion_blurred, smoothed, zooming

DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))  # radius of the disk, blur of its edge
GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # blur before and after, rounds
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, sigma
ZOOM = (6, 11, 16, 21, 26)  # enlargements 1, 1.01, …: how many
GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)  # sigma
_GRID = 8  # the disk's kernel reaches so far


def gaussian_blur(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """A Gaussian blur."""
    return smoothed(image, GAUSSIAN[severity - 1])


def defocus_blur(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Each point becomes a disk with a soft edge."""
    return filtered(image, disk(*DEFOCUS[severity - 1]))


@cache
def disk(radius: float, edge: float) -> Pixels:
    """A disk of sum 1 on 17×17 pixels, blurred over 3×3 with a Gaussian of deviation `edge`."""
    line = np.arange(-_GRID, _GRID + 1)
    found = (line**2 + line[:, None] ** 2 <= radius**2).astype(np.float64)
    near = np.exp(-np.array([1, 0, 1]) / (2 * edge**2))
    for axis in (0, 1):
        found = ndimage.correlate1d(found, near / near.sum(), axis=axis, mode="mirror")
    kernel: Pixels = found / found.sum()
    return kernel


def glass_blur(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Pixels take the place of neighbours, between two Gaussian blurs.

    A pixel gets the value of itself or of one of its neighbours above, to the left, or both. The published
    program means to exchange the two, but copies one: NumPy's views make a swap of pixels a copy, and with
    that the published images were made.
    """
    sigma, rounds = GLASS[severity - 1]
    found = np.floor(smoothed(image, sigma) * 255 + 1e-9)
    height, width = image.shape[:2]
    down, right = np.mgrid[2:height, 2:width]
    for _ in range(rounds):
        shift = draw.randint(-1, 1, (2, height - 2, width - 2))
        # Whole rows at once: a pixel reads only from places that its round hasn't reached yet.
        found[2:, 2:] = found[down + shift[0], right + shift[1]]
    return smoothed(found / 255, sigma)


def motion_blur(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Drawn along a line that leans by up to 45 degrees; 8 bits, as ImageMagick gives them."""
    radius, sigma = MOTION[severity - 1]
    found = motion_blurred(image, radius, sigma, draw.uniform(-45, 45))
    return np.floor(found * 255 + 0.5) / 255


def zoom_blur(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """The mean of the image and of enlargements of its middle, the smallest of which is by 1."""
    count, side = ZOOM[severity - 1], len(image)
    matrices = _zooming(side, count)
    rows = (matrices @ image.reshape(side, -1)).reshape(count, side, side, 3)
    # The sum over enlargements and columns is one product.
    total = np.tensordot(rows, matrices, axes=([0, 2], [0, 2])).transpose(0, 2, 1)
    found: Pixels = (image + total) / (count + 1)
    return found


@cache
def _zooming(side: int, count: int) -> Pixels:
    """The matrices ``[count, side, side]`` of enlargements by 1, 1.01, …; see `zooming`."""
    return np.stack([zooming(side, 1 + number / 100) for number in range(count)])
