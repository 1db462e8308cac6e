"""Corrupted images that several networks are shown: made once, kept on disk until the command ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from analysis.robustness.corruption_names import SEVERITIES
from analysis.robustness.result import Source
from analysis.robustness.versions import PART, Bytes, GeneratedImages, Indices

LARGEST = 4 << 30  # bytes of all of them; more are made anew for each network


class Remembered:
    """Generated images, each made when it is first asked for; with room for none they are made each time.

    Parameters
    ----------
    images
        What makes them.
    corruptions
        How many.
    """

    def __init__(self, images: GeneratedImages, corruptions: int) -> None:
        self._images = images
        self._known: dict[tuple[str, int], int] = {}
        shape = (corruptions * len(SEVERITIES), *images.images.shape)
        self._room: np.memmap[Any, np.dtype[np.uint8]] | None = None
        if int(np.prod(shape, dtype=np.int64)) <= LARGEST:
            # The name is gone at once: nothing is left behind, however the command ends.
            with tempfile.TemporaryFile(prefix="sharpscape-") as file:
                file.truncate(int(np.prod(shape, dtype=np.int64)))
                self._room = np.memmap(file, np.uint8, "r+", shape=shape)

    @property
    def name(self) -> str:
        """Of the data."""
        return self._images.name

    @property
    def places(self) -> Indices:
        """As the images'."""
        return self._images.places

    @property
    def labels(self) -> Indices:
        """As the images'."""
        return self._images.labels

    @property
    def classes(self) -> int:
        """As the images'."""
        return self._images.classes

    @property
    def settings(self) -> Mapping[str, Any]:
        """As the images'."""
        return self._images.settings

    @property
    def remarks(self) -> Mapping[str, str]:
        """As the images'."""
        return self._images.remarks

    def source(self, corruption: str) -> Source | None:
        """As the images'."""
        return self._images.source(corruption)

    def clean(self) -> Iterator[Bytes] | None:
        """As the images'."""
        return self._images.clean()

    def corrupted(self, corruption: str, severity: int) -> Iterator[Bytes]:
        """From the disk, or made and put there."""
        key = corruption, severity
        if self._room is None:
            yield from self._images.corrupted(corruption, severity)
            return
        if key in self._known:
            kept = self._room[self._known[key]]
            yield from (np.array(kept[start : start + PART]) for start in range(0, len(kept), PART))
            return
        number, done = len(self._known), 0
        if number == len(self._room):  # one that an earlier run answered, looked at again beside those wanted
            yield from self._images.corrupted(corruption, severity)
            return
        for part in self._images.corrupted(corruption, severity):
            self._room[number, done : done + len(part)] = part
            done += len(part)
            yield part
        self._known[key] = number  # only what was made to the end
