"""Weather: snow, frost, fog, brightness."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from analysis.robustness.cifar.imaging import Pixels, motion_blurred, smoothed, to_bytes, zoomed
from analysis.robustness.cifar.plasma import plasma

# Mean and deviation of the flakes, zoom, threshold, radius and sigma of their motion, how much colour stays.
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
)
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # weight of image and of frost
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, decay of its roughness
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV
GREY = np.array([0.299, 0.587, 0.114])

_PACKAGE = "imagecorruptions"
_PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # the sixth isn't drawn
_EVERY = (
    5  # they are scaled to a fifth; OpenCV's bilinear scaling then hits every fifth pixel, from the third
)
_TEXTURES, _SIDE = 5, 256


def snow(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Drifting flakes over a paler image, and the same flakes turned by 180 degrees."""
    mean, deviation, zoom, threshold, radius, sigma, kept = SNOW[severity - 1]
    layer = zoomed(draw.normal(mean, deviation, image.shape[:2]), zoom)
    layer[layer < threshold] = 0
    flakes = motion_blurred(to_bytes(layer) / 255, radius, sigma, draw.uniform(-135, -45))
    flakes = np.floor(flakes * 255 + 0.5)[..., None] / 255
    pale = np.maximum(image, (image @ GREY)[..., None] * 1.5 + 0.5)
    found: Pixels = kept * image + (1 - kept) * pale + flakes + np.rot90(flakes, 2)
    return found


def frost(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Part of a picture of frost laid over it: see `frost_source`."""
    of_image, of_frost = FROST[severity - 1]
    pictures = frost_pictures()
    picture = pictures[draw.randint(len(pictures))]
    height, width = image.shape[:2]
    top = draw.randint(0, len(picture) - height)
    left = draw.randint(0, picture.shape[1] - width)
    laid_over: Pixels = of_frost * picture[top : top + height, left : left + width] / 255
    return of_image * image + laid_over


@cache
def frost_pictures() -> tuple[NDArray[np.uint8], ...]:
    """The benchmark's photographs of frost where imagecorruptions-imaug is installed, else made ones."""
    folder = _photographs()
    if folder is None:
        return tuple(_texture(number) for number in range(_TEXTURES))
    from PIL import Image

    found = []
    for name in _PHOTOGRAPHS:
        with Image.open(folder / name) as picture:
            found.append(np.asarray(picture.convert("RGB"))[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY])
    return tuple(found)


def frost_source() -> str:
    """Which pictures of frost are used, in words."""
    if _photographs() is not None:
        return "the benchmark's photographs, from imagecorruptions-imaug"
    return "made textures, not the benchmark's photographs, which the extra `corruptions` brings"


@cache
def _photographs() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)  # doesn't import it
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if all((Path(place) / "frost" / name).is_file() for name in _PHOTOGRAPHS):
            return Path(place) / "frost"
    return None


def _texture(number: int) -> NDArray[np.uint8]:
    """Branching ridges of white on blue grey: where a rough surface crosses its middle height."""
    draw = RandomState(np.random.PCG64(np.random.SeedSequence([number, _SIDE])))
    fine, coarse = plasma(_SIDE, 1.9, draw), plasma(_SIDE, 3.0, draw)
    ridges = 1 - np.minimum(1, 12 * np.abs(fine - np.median(fine)))
    light = np.clip(0.35 * coarse + 0.75 * smoothed(ridges, 0.6), 0, 1)
    tint = np.array([0.80, 0.90, 1.0])
    return to_bytes(light[..., None] * tint)


def fog(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """A fractal cloud is added, and the brightest stays as bright."""
    thickness, decay = FOG[severity - 1]
    brightest = image.max()
    cloud = plasma(len(image), decay, draw)[..., None]
    found: Pixels = (image + thickness * cloud) * brightest / (brightest + thickness)
    return found


def brightness(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Lighter: the value of HSV is raised."""
    value = image.max(axis=-1, keepdims=True)
    raised = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    # Hue and saturation stay where the channels keep their ratios; black has none and becomes grey.
    found: Pixels = np.where(value > 0, image * (raised / np.where(value > 0, value, 1)), raised)
    return found
