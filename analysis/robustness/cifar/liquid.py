"""Spatter: drops of water, or splashes of mud, on the lens."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from analysis.robustness.cifar.imaging import Pixels, filtered, smoothed

# Mean and deviation of the liquid, its blur, its threshold, strength of water or blur of mud, and mud or not.
SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1.0, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
WATER, MUD = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255
_MUDDY = 0.8  # cover below which there is no mud
_LOW, _HIGH = 50, 150  # of Canny's edges
_FARTHEST = 20.0  # pixels from an edge beyond which water looks alike
_RELIEF = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])  # light from one corner
_MEAN = np.full((3, 3), 1 / 9)


def spatter(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Water at severities 1 to 3, mud at 4 and 5."""
    mean, deviation, blur, threshold, strength, mud = SPATTER[severity - 1]
    layer = smoothed(draw.normal(mean, deviation, image.shape[:2]), blur)
    layer[layer < threshold] = 0
    if mud:
        cover = smoothed((layer > threshold).astype(np.float64), strength)
        cover[cover < _MUDDY] = 0
        return image * (1 - cover[..., None]) + MUD * cover[..., None]
    light = drops((np.clip(layer, 0, 1) * 255).astype(np.uint8))
    return image + strength * light[..., None] * WATER


def drops(layer: NDArray[np.uint8]) -> Pixels:
    """How light drops are, 0 to 1: a relief of the distance to their edges times the layer's thickness."""
    edge = edges(layer)
    distance = ndimage.distance_transform_edt(~edge) if edge.any() else np.full(layer.shape, _FARTHEST)
    near = np.floor(filtered(np.minimum(distance, _FARTHEST), _MEAN) + 1e-9)
    relief = np.clip(filtered(equalized(near.astype(np.uint8)).astype(np.float64), _RELIEF), 0, 255)
    light: Pixels = layer.astype(np.float64) * np.floor(filtered(relief, _MEAN) + 0.5)
    brightest = light.max()
    return light / brightest if brightest > 0 else light


def equalized(layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Histogram equalization as OpenCV defines it: the lowest value there is becomes 0, the highest 255."""
    counts = np.bincount(layer.reshape(-1), minlength=256)
    total, first = counts.cumsum(), counts[np.flatnonzero(counts)[0]]
    if first == layer.size:
        return layer
    table = np.rint((total - first) * (255 / (layer.size - first))).clip(0, 255)
    found: NDArray[np.uint8] = table.astype(np.uint8)[layer]
    return found


def edges(layer: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Canny's edges (PAMI 1986) as OpenCV's defaults find them: Sobel, sum of absolute slopes, 50 and 150."""
    values = layer.astype(np.int64)
    down, right = (ndimage.sobel(values, axis=axis, mode="nearest") for axis in (0, 1))
    steep = np.abs(down) + np.abs(right)
    around = np.pad(steep, 1)

    def neighbour(row: int, column: int) -> NDArray[np.int64]:
        height, width = steep.shape
        found: NDArray[np.int64] = around[1 + row : 1 + row + height, 1 + column : 1 + column + width]
        return found

    flat = np.abs(down) < np.tan(np.pi / 8) * np.abs(right)
    upright = np.abs(down) > np.tan(3 * np.pi / 8) * np.abs(right)
    rising = np.where((down < 0) != (right < 0), -1, 1) > 0
    before = np.select(
        [flat, upright, rising],
        [neighbour(0, -1), neighbour(-1, 0), neighbour(-1, -1)],
        neighbour(-1, 1),
    )
    after = np.select(
        [flat, upright, rising], [neighbour(0, 1), neighbour(1, 0), neighbour(1, 1)], neighbour(1, -1)
    )
    # Along an axis the later neighbour may be as steep; on a diagonal neither.
    ridge = (steep > before) & np.where(flat | upright, steep >= after, steep > after)
    weak, strong = ridge & (steep > _LOW), ridge & (steep > _HIGH)
    parts, _ = ndimage.label(weak, np.ones((3, 3)))
    found: NDArray[np.bool_] = np.isin(parts, np.unique(parts[strong])) & weak
    return found
