"""Digital: contrast, elastic deformation, pixels, JPEG, saturation."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.random import RandomState
from scipy import ndimage

from analysis.robustness.cifar.imaging import Edge, Pixels, smoothed, to_bytes

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # distances from the mean are multiplied
SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # factor, and what is added
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # the side in between
JPEG = (80, 65, 58, 50, 40)  # quality
# Shares of the side: strength and smoothness of the deformation, how far the corners move.
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))


def contrast(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Each channel is drawn to its mean."""
    means = image.mean(axis=(0, 1), keepdims=True)
    found: Pixels = (image - means) * CONTRAST[severity - 1] + means
    return found


def saturate(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Colours fade (1 and 2) or glow (3 to 5): the saturation of HSV."""
    factor, more = SATURATE[severity - 1]
    value = image.max(axis=-1, keepdims=True)
    below = value - image  # how far each channel is below the largest one: saturation times value
    most = below.max(axis=-1, keepdims=True)
    wanted = np.minimum(most * factor + more * value, value)
    # Grey counts as red, whose green and blue are below.
    red = np.array([0.0, 1.0, 1.0])
    found: Pixels = value - np.where(most > 0, below * (wanted / np.where(most > 0, most, 1)), wanted * red)
    return found


def pixelate(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """Scaled down and up again, by means of boxes."""
    from PIL import Image

    side = len(image)
    small = int(side * PIXELATE[severity - 1])
    picture = Image.fromarray(to_bytes(image)).resize((small, small), Image.Resampling.BOX)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX)) / 255


def jpeg_compression(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """As JPEG and back."""
    from PIL import Image

    written = BytesIO()
    Image.fromarray(to_bytes(image)).save(written, "JPEG", quality=JPEG[severity - 1])
    with Image.open(written) as picture:
        return np.asarray(picture) / 255


def elastic_transform(image: Pixels, severity: int, draw: RandomState) -> Pixels:
    """An affine map that moves three points at random, then a smooth random displacement of each pixel."""
    side = len(image)
    strength, smoothness, reach = (side * part for part in ELASTIC[severity - 1])
    middle, arm = side // 2, side // 3
    points = np.array([[arm, arm], [arm, -arm], [-arm, -arm]]) + float(middle)
    moved = points + draw.uniform(-reach, reach, points.shape)
    # Rows and columns of the source by those of the result; the points are (column, row).
    inverse = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    across = inverse[0] * columns[..., None] + inverse[1] * rows[..., None] + inverse[2]
    warped = _sampled(image, across[..., 1], across[..., 0], "mirror")
    right, down = (
        strength * smoothed(draw.uniform(-1, 1, (side, side)), smoothness, mode="reflect", truncate=3)
        for _ in range(2)
    )
    return _sampled(warped, rows + down, columns + right, "reflect")


def _sampled(image: Pixels, rows: Pixels, columns: Pixels, mode: Edge) -> Pixels:
    """Each channel at these places, bilinear."""
    places = np.stack([rows, columns])
    channels = [
        ndimage.map_coordinates(image[..., channel], places, order=1, mode=mode)
        for channel in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)
