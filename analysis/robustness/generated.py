"""Corrupted images made here, seeded by image: the same bits whatever was made before or beside it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from io import BytesIO
from typing import Any

import numpy as np
from numpy.random import PCG64, RandomState, SeedSequence
from numpy.typing import NDArray

from analysis.robustness.cifar import CIFAR, DEVIATIONS, SIZE
from analysis.robustness.cifar.imaging import to_bytes
from analysis.robustness.cifar.weather import frost_source
from analysis.robustness.corruption_names import CORRUPTIONS
from landscape.errors import UserError

SMALLEST = 128  # pixels of the short side from which on ImageNet's constants are used
PACKAGE = "imagecorruptions-imaug"
_PHOTOGRAPHS: dict[str, str] = {
    "motion_blur": "motion blur in Python, not ImageMagick's",
    "zoom_blur": "enlargements are cut to size at the right and below, not around the middle",
    "snow": "motion blur in Python, not ImageMagick's; flakes are cut to size at the right and below",
    "frost": "photographs of frost are scaled to the image's size first",
}
_SEEDED = ("impulse_noise", "glass_blur")  # take a seed; the others draw from NumPy's global generator


def corrupt(
    images: NDArray[np.uint8], corruption: str, severity: int, *, places: NDArray[np.int64], seed: int = 0
) -> NDArray[np.uint8]:
    """Corrupted versions of images.

    Parameters
    ----------
    images
        uint8 ``(N, height, width, 3)``: 32×32 get CIFAR-10-C's constants, 128 pixels and more ImageNet-C's,
        through the package imagecorruptions-imaug.
    corruption, severity
        A name of `CORRUPTIONS`, and 1 to 5.
    places
        int64 ``[N]``: each image's number in its data set, from which, with `seed`, corruption and severity,
        its draws come.
    seed
        0 to 2⁶⁴ - 1.

    Returns
    -------
    corrupted
        As `images`.

    Raises
    ------
    UserError
        For sizes without published constants, and where imagecorruptions-imaug is needed and missing.
    """
    kind = constants(images.shape[1:3])
    if corruption not in CORRUPTIONS or not 1 <= severity <= 5:
        raise UserError(f"{corruption!r} at severity {severity}: expected one of {', '.join(CORRUPTIONS)}")
    found = np.empty_like(images)
    for number, (image, place) in enumerate(zip(images, places, strict=True)):
        source = SeedSequence([seed, CORRUPTIONS.index(corruption), severity, int(place)])
        if kind == "cifar":
            draw = RandomState(PCG64(source))  # whose streams NumPy has frozen, unlike Generator's
            found[number] = to_bytes(CIFAR[corruption](image / 255, severity, draw))
        else:
            found[number] = _photograph(image, corruption, severity, source)
    return found


def constants(size: tuple[int, ...]) -> str:
    """Whose constants images of this height and width get: "cifar" or "imagenet".

    Raises
    ------
    UserError
        When none are published for it, or what makes them isn't installed.
    """
    if size == (SIZE, SIZE):
        return "cifar"
    if min(size) < SMALLEST:
        raise UserError(
            f"images of {size[0]}×{size[1]}: corruptions are published for {SIZE}×{SIZE} (CIFAR-10-C) and "
            f"for photographs of {SMALLEST} pixels and more (ImageNet-C); choose such data"
        )
    if importlib.util.find_spec("imagecorruptions") is None:
        raise UserError(
            f"corruptions of images of {size[0]}×{size[1]} are made by {PACKAGE}, which isn't installed; "
            "pip install 'sharpscape[corruptions]', or name ImageNet-C's own files: --data imagenetc:PATH"
        )
    return "imagenet"


def recipe(size: tuple[int, ...], seed: int) -> dict[str, Any]:
    """What determines generated images besides the clean ones; JSON types, for settings."""
    kind = constants(size)
    made: dict[str, Any] = {"constants": kind, "seed": seed, "recipe": 1}
    if kind == "cifar":
        return made | {"frost": frost_source()}
    return made | {"package": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"}


def deviations(size: tuple[int, ...]) -> dict[str, str]:
    """By corruption, what of generated images isn't as the published ones were made."""
    if constants(size) == "cifar":
        return DEVIATIONS | {"frost": f"pictures of frost: {frost_source()}"}
    return dict(_PHOTOGRAPHS)


def _photograph(image: NDArray[np.uint8], corruption: str, severity: int, source: SeedSequence) -> Any:
    """By imagecorruptions-imaug, which draws from NumPy's global generator; that is as before after it."""
    from imagecorruptions import corrupt as corrupted

    number = int(source.generate_state(1)[0] >> 1)
    before = np.random.get_state()
    try:
        np.random.seed(number)
        more = {"seed": number} if corruption in _SEEDED else {}
        found = corrupted(image, corruption_name=corruption, severity=severity, **more)
    finally:
        np.random.set_state(before)
    return _as_jpeg(found)


def _as_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As ImageNet-C's pictures were written: JPEG of quality 85."""
    from PIL import Image

    written = BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=85, optimize=True)
    with Image.open(written) as picture:
        return np.asarray(picture)
