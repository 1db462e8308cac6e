"""Versions of the same images: clean, and by corruption and severity; classes that make or read them.

All pixels are uint8 ``(n, height, width, 3)``, in parts of a bounded size, always in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.robustness.corruption_names import CORRUPTIONS
from analysis.robustness.generated import corrupt, deviations, recipe
from analysis.robustness.result import Source
from landscape.errors import UserError

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]
PART = 256  # images at a time


class Versions(Protocol):
    """N images of a data set and their corrupted versions."""

    @property
    def name(self) -> str:
        """Of the data, without paths."""

    @property
    def places(self) -> Indices:
        """``[N]``: their numbers in the data set."""

    @property
    def labels(self) -> Indices:
        """``[N]``: their classes."""

    @property
    def classes(self) -> int:
        """How many there are."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What determines the pixels; JSON types."""

    @property
    def remarks(self) -> Mapping[str, str]:
        """By corruption, what isn't as published; "" as a key for all of them."""

    def source(self, corruption: str) -> Source | None:
        """Where this corruption's images come from; None where there are none."""

    def clean(self) -> Iterator[Bytes] | None:
        """The images without corruption, None where they aren't at hand."""

    def corrupted(self, corruption: str, severity: int) -> Iterator[Bytes]:
        """The images with it."""


@dataclass(frozen=True, eq=False)
class GeneratedImages:
    """Versions made here of clean images.

    Parameters
    ----------
    images
        uint8 ``(N, height, width, 3)``: 32×32, or 128 pixels and more; see `generated.corrupt`.
    labels
        int64 ``(N,)``.
    places
        Their numbers in the data set, which the draws depend on; by default 0, 1, …
    seed
        Of the corruptions.
    name
        Of the data.
    classes
        How many there are; by default the largest label and one.

    Raises
    ------
    UserError
        For other types and shapes, and sizes without published constants.
    """

    images: Bytes
    labels: Indices
    places: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    seed: int = 0
    name: str = "images"
    classes: int = 0

    def __post_init__(self) -> None:
        """Check and fill in."""
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise UserError(
                f"{self.name}: images are {images.dtype} of shape {images.shape}; corruptions are of pixels: "
                "expected uint8 of shape (N, height, width, 3)"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise UserError(
                f"{self.name}: labels are {labels.dtype} of shape {labels.shape}; "
                f"expected integers of shape ({len(images)},)"
            )
        classes = self.classes or int(labels.max()) + 1
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise UserError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}"
            )
        places = self.places if len(self.places) else np.arange(len(images), dtype=np.int64)
        _ = recipe(images.shape[1:3], self.seed)  # refused at once
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "classes", classes)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Digests, and what the pixels are made by."""
        return {
            "images": digest(self.places, self.labels, self.images),
            "recipe": recipe(self.images.shape[1:3], self.seed),
        }

    @property
    def remarks(self) -> Mapping[str, str]:
        """What of each corruption isn't as published."""
        return deviations(self.images.shape[1:3])

    def source(self, corruption: str) -> Source | None:
        """Made here, all of them."""
        return "generated" if corruption in CORRUPTIONS else None

    def clean(self) -> Iterator[Bytes] | None:
        """As they were given."""
        return (self.images[start : start + PART] for start in range(0, len(self.images), PART))

    def corrupted(self, corruption: str, severity: int) -> Iterator[Bytes]:
        """Made one by one, each with draws of its own."""
        for start in range(0, len(self.images), PART):
            part = slice(start, start + PART)
            yield corrupt(self.images[part], corruption, severity, places=self.places[part], seed=self.seed)


def digest(*arrays: NDArray[Any]) -> str:
    """Short SHA-256 over shapes, types and bytes."""
    sha = hashlib.sha256()
    for one in arrays:
        sha.update(f"{one.dtype} {one.shape}\n".encode())
        sha.update(np.ascontiguousarray(one).data)
    return sha.hexdigest()[:16]
