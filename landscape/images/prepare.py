"""How pictures become arrays of one size: resized, cropped, and read from any of the modes that files have.

Resizing and cropping are torchvision's and, for what it lacks, timm's. Only numpy is needed to import this.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.files import check_regular

Mode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")

LOOKED_AT = 1000  # headers that are read to find the size that most pictures have
_LARGEST = 1 << 14  # pixels along a side
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")  # of Pillow's, those that are data
_PHOTO = 256  # shortest side from which on a picture counts as a photograph


@dataclass(frozen=True)
class Change:
    """What a user says of a preparation.

    Attributes
    ----------
    size, crop, interpolation
        Side in pixels, the share of it that is cut out, how it is scaled.
    skip_broken
        Whether a folder's pictures that can't be decoded are left out, counted and named, instead of refused.
    """

    size: int | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    skip_broken: bool = False

    @property
    def scales(self) -> bool:
        """Whether pictures become other ones."""
        return self != Change(skip_broken=self.skip_broken)


@dataclass(frozen=True)
class Preparation:
    """What is done to every picture, whichever others are drawn with it.

    Attributes
    ----------
    size
        Height and width of the result.
    resize
        Height and width to which a picture is scaled before the middle is cut out. "center": so that it
        covers both; (0, 0) stands for `size`, and a picture that has it stays as it is. "squash": to just
        these, whatever its own ratio. "border": so that it fits into them, and what is missing is filled.
    mode
        One of these three.
    interpolation
        Of resizing; smoothed when shrinking.
    fill
        Colour of the border, 0 to 255 per channel.
    source
        Who says so, in a few words.
    """

    size: tuple[int, int]
    resize: tuple[int, int]
    mode: Mode = "center"
    interpolation: Interpolation = "bilinear"
    fill: tuple[int, ...] = ()
    source: str = ""

    @property
    def text(self) -> str:
        """One line for people."""
        height, width = self.size
        how = {
            "center": f"short side to {min(self.covered)}, middle cut out",
            "squash": f"both sides scaled to {'×'.join(map(str, self.resize))}",
            "border": f"long side to {max(self.resize)}, border filled",
        }[self.mode]
        same = "" if self.resize[0] else "others: "
        return f"images {height}×{width} ({same}{how}, {self.interpolation}; {self.source})"

    @property
    def record(self) -> dict[str, Any]:
        """For result files: JSON types."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Preparation:
        """The inverse of `record`.

        Raises
        ------
        UserError
            When it isn't one.
        """
        try:
            height, width, tall, wide = (int(one) for one in (*record["size"], *record["resize"]))
            found = cls(
                (height, width),
                (tall, wide),
                record["mode"],
                record["interpolation"],
                tuple(int(one) for one in record.get("fill", ())),
                str(record.get("source", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"preparation of images {record!r}: {error!r}; expected size and resize"
            ) from error
        known = found.mode in ("center", "squash", "border") and found.interpolation in INTERPOLATIONS
        sensible = (
            min(found.size) > 0 and min(found.resize) >= 0 and max(found.size + found.resize) <= _LARGEST
        )
        if not (known and sensible):
            raise UserError(f"preparation of images {record!r}: expected sizes, a mode and an interpolation")
        return found

    def changed(self, change: Change | None) -> Preparation:
        """With what the user says instead."""
        if change is None or not change.scales:
            return self
        share = change.crop or self.size[0] / self.covered[0]
        wanted = (change.size, change.size) if change.size else self.size
        resize = self.resize
        if change.size or change.crop:
            resize = math.floor(wanted[0] / share), math.floor(wanted[1] / share)
        interpolation = change.interpolation or self.interpolation
        return replace(self, size=wanted, resize=resize, interpolation=interpolation, source="as given")

    def apply(self, image: Any) -> Any:
        """A PIL image of the wanted size out of any."""
        from torchvision.transforms import InterpolationMode, functional

        how = InterpolationMode(self.interpolation)
        if self.mode == "border":
            from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio

            # timm annotates them more narrowly than they are
            pad: Any = CenterCropOrPad
            keep: Any = ResizeKeepRatio
            scaled = keep(self.resize, interpolation=self.interpolation, longest=1.0)(image)
            return pad(list(self.size), fill=self.fill)(scaled)
        if self.mode == "squash":
            scaled = functional.resize(image, list(self.resize), how)
        elif self.covered[0] == self.covered[1]:
            scaled = functional.resize(image, [self.covered[0]], how)
        else:
            ratio = min(image.height / self.covered[0], image.width / self.covered[1])
            scaled = functional.resize(
                image, [round(one / ratio) for one in (image.height, image.width)], how
            )
        return functional.center_crop(scaled, list(self.size))

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of which a picture has to cover both, before the middle is cut out."""
        return self.resize if self.resize[0] else self.size


PHOTOGRAPHS = Preparation((224, 224), (256, 256), source="as ImageNet's evaluation, for photographs")


def usual_preparation(paths: Sequence[Path]) -> Preparation:
    """What becomes of a folder's pictures where nobody says it, told from their sizes.

    The size that more than half of them have is kept, and others are brought to it, where it is smaller than
    photographs; else all become 224×224 as in ImageNet's evaluation. At most 1,000 pictures, evenly spaced
    through the sorted `paths`, are looked at, whichever are drawn later.

    Raises
    ------
    UserError
        When a picture can't be opened.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int))
    sizes = Counter(size for place in places if (size := native_size(paths[place])) is not None)
    (size, count), *_ = sizes.most_common(1) or [((0, 0), 0)]
    if 2 * count <= sum(sizes.values()) or min(size) >= _PHOTO or not count:
        return PHOTOGRAPHS
    looked = "the images" if len(places) == len(paths) else f"{len(places):,} images"
    share = "all" if count == len(places) else f"{100 * count / len(places):.3g} %"
    return Preparation(size, (0, 0), source=f"that of {share} of {looked}")


def _opened(path: Path) -> Any:
    """A picture in one of the formats that are data, whatever its name ends in.

    Without that list Pillow would hand a file that begins as PostScript to Ghostscript, which runs it.
    """
    from PIL import Image

    check_regular(path)
    return Image.open(path, formats=_FORMATS)


def native_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the header; None where it can't be read, which is said when it is drawn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(path) as image:
                return image.height, image.width
    except Exception:
        return None


class BrokenPictureError(UserError):
    """A picture that can't be decoded."""


class Prepares(Protocol):
    """What makes every picture one of the same size."""

    def apply(self, image: Any) -> Any:
        """A PIL image of the wanted size out of any."""


def decode(path: Path, preparation: Prepares) -> NDArray[np.uint8]:
    """One picture as uint8 ``(height, width, 3)``.

    Raises
    ------
    BrokenPictureError
        When it can't be decoded or has pixels that don't say what is white.
    """
    try:
        with warnings.catch_warnings():
            # Large pictures and palettes with transparency are warned of; what is too large is an error.
            warnings.simplefilter("ignore")
            with _opened(path) as image:
                return np.asarray(preparation.apply(to_rgb(image)))
    except UserError as error:
        raise BrokenPictureError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error and more
        raise BrokenPictureError(f"{path} can't be decoded: {error or type(error).__name__}") from error


def to_rgb(image: Any) -> Any:
    """8-bit RGB as torchvision's ImageFolder reads it, and right where that clips: more than 8 bits of grey.

    Transparency is dropped, the colours beneath stay; EXIF's orientation is not applied; of several frames
    the first counts. 16-bit grey is scaled from 0..65535, 32-bit integers likewise unless all are below 256;
    floating point is taken as 0..255 where a value is above 1, else as 0..1.

    Raises
    ------
    UserError
        For values outside these ranges.
    """
    from PIL import Image

    if not (image.mode.startswith("I") or image.mode == "F"):
        return image.convert("RGB")
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535) or (image.mode == "F" and high > 255):  # NaN is refused, too
        raise UserError(
            f"grey values of {low:g} to {high:g} (mode {image.mode}) don't say what is white; expected 8 or "
            "16 bits, or floating point in 0..1 or 0..255; convert the image"
        )
    if image.mode == "F":
        scale = 255.0 if high <= 1 else 1.0
    else:
        eight = image.mode == "I" and high <= 255 and image.format != "PNG"  # whose integers are 16-bit grey
        scale = 1.0 if eight else 255 / 65535
    grey = np.floor(values * scale + 0.5).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def prepared(images: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """Arrays ``(N, height, width, 3)`` as if they had been pictures in files."""
    from PIL import Image

    made = [np.asarray(preparation.apply(Image.fromarray(one))) for one in images]
    return np.stack(made) if made else np.empty((0, *preparation.size, 3), np.uint8)
