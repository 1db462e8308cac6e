"""Noise: Gaussian, of few photons, of broken pixels, speckle."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from analysis.robustness.cifar.imaging import Pixels

GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation
SHOT = (500, 250, 100, 75, 50)  # photons of a white pixel
IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of values
SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)  # standard deviation of a white pixel


def gaussian_noise(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """A normal number is added to each value."""
    return image + draw.normal(0, GAUSSIAN[severity - 1], image.shape)


def shot_noise(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Each value is a count of photons with Poisson's distribution."""
    photons = SHOT[severity - 1]
    return draw.poisson(image * photons) / photons


def impulse_noise(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Some values become 0 or 1, each channel by itself."""
    hit = draw.random_sample(image.shape) <= IMPULSE[severity - 1]
    return np.where(hit, draw.random_sample(image.shape) <= 0.5, image)


def speckle_noise(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Normal noise that grows with the value."""
    return image * (1 + draw.normal(0, SPECKLE[severity - 1], image.shape))
