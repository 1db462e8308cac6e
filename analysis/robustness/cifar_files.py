"""CIFAR-10-C and CIFAR-100-C in the layout in which they are published.

A folder with ``labels.npy`` and one ``CORRUPTION.npy`` each: uint8 ``(5·M, 32, 32, 3)``, the M test images
(10,000 in the published ones) at severity 1, then 2, and so on. Arrays of Python objects are refused, for
unpickling runs code; pixels are read from the disk as they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.robustness.cifar import SIZE
from analysis.robustness.corruption_names import CORRUPTIONS, SEVERITIES
from analysis.robustness.result import Source
from analysis.robustness.versions import PART, Bytes, GeneratedImages, Indices, digest
from landscape.errors import UserError
from landscape.files import check_regular

PUBLISHED = 10_000  # images at each severity
_LONGEST_HEADER = 10_000


class CifarFiles:
    """Versions read from such a folder.

    Parameters
    ----------
    folder
        That with ``labels.npy``.
    classes
        10 or 100.
    corruptions
        Those that are wanted.
    chosen
        Given all M labels, places of the images to look at; by default all.
    clean
        The clean images at the chosen places, if at hand; with their labels.
    generate
        Make what has no file from these clean images, instead of refusing.
    name
        Of the data.

    Raises
    ------
    UserError
        When the folder or a file is missing, or is of another type or shape.
    """

    def __init__(
        self,
        folder: Path,
        classes: int,
        corruptions: tuple[str, ...] = CORRUPTIONS,
        *,
        chosen: Indices | None = None,
        clean: GeneratedImages | None = None,
        generate: bool = False,
        name: str = "",
    ) -> None:
        self.folder, self.classes = folder, classes
        self.name = name or f"cifar{classes}c"
        labels = read_labels(folder, classes)
        self.count = len(labels)
        self.places = np.arange(self.count, dtype=np.int64) if chosen is None else chosen
        self.labels = labels[self.places]
        self._clean = clean
        if clean is not None:
            check_clean(clean, self.places, self.labels, self.name)
        self._files: dict[str, NDArray[np.uint8]] = {}
        for one in corruptions:
            path = folder / f"{one}.npy"
            if path.exists():
                self._files[one] = self._opened(path)
            elif clean is None or not generate:
                raise UserError(missing(path, clean is not None))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Which images, and what missing ones are made by."""
        made = {} if self._clean is None else {"recipe": self._clean.settings["recipe"]}
        return {"images": digest(self.places, self.labels), "layout": self.name, "count": self.count} | made

    @property
    def remarks(self) -> Mapping[str, str]:
        """Of generated ones what isn't as published; and whether these are all images."""
        made = {} if self._clean is None else self._clean.remarks
        found = {name: text for name, text in made.items() if name not in self._files}
        if self.count != PUBLISHED:
            found[""] = f"{self.count} images at each severity, {PUBLISHED:,} in the published files"
        return found

    def source(self, corruption: str) -> Source | None:
        """From the files where there is one."""
        if corruption in self._files:
            return "files"
        return None if self._clean is None else "generated"

    def clean(self) -> Iterator[Bytes] | None:
        """Those that were given."""
        return None if self._clean is None else self._clean.clean()

    def corrupted(self, corruption: str, severity: int) -> Iterator[Bytes]:
        """A part of the file, or made here."""
        if corruption not in self._files:
            assert self._clean is not None
            yield from self._clean.corrupted(corruption, severity)
            return
        first = (severity - 1) * self.count
        for start in range(0, len(self.places), PART):
            yield np.array(self._files[corruption][first + self.places[start : start + PART]])

    def _opened(self, path: Path) -> NDArray[np.uint8]:
        found = open_array(path)
        wanted = (len(SEVERITIES) * self.count, SIZE, SIZE, 3)
        if found.dtype != np.uint8 or found.shape != wanted:
            raise UserError(
                f"{path}: {found.dtype} of shape {found.shape}; expected uint8 of shape {wanted}: "
                f"{self.count} images, as {self.folder / 'labels.npy'} says, at each of five severities"
            )
        return found


def read_labels(folder: Path, classes: int) -> Indices:
    """The M labels of the images at one severity; ``labels.npy`` has them five times.

    Raises
    ------
    UserError
        When they are missing, not that, or no classes.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; expected one with labels.npy and a CORRUPTION.npy each")
    path = folder / "labels.npy"
    if not path.exists():
        raise UserError(f"{path}: no such file; expected the folder of CIFAR-10-C or CIFAR-100-C unpacked")
    found = open_array(path)
    if found.dtype.kind not in "iu" or found.ndim != 1 or not found.size or found.size % len(SEVERITIES):
        raise UserError(
            f"{path}: {found.dtype} of shape {found.shape}; expected integers, as many for each of "
            f"{len(SEVERITIES)} severities (published: {5 * PUBLISHED:,})"
        )
    by_severity = np.asarray(found).reshape(len(SEVERITIES), -1).astype(np.int64)
    if (by_severity != by_severity[0]).any():
        raise UserError(f"{path}: labels differ between severities; expected the same images at all five")
    if by_severity.min() < 0 or by_severity.max() >= classes:
        raise UserError(
            f"{path}: labels run from {by_severity.min()} to {by_severity.max()}; expected 0 to {classes - 1}"
        )
    labels: Indices = by_severity[0]
    return labels


def open_array(path: Path) -> NDArray[Any]:
    """An array of a file, which stays on the disk.

    Raises
    ------
    UserError
        When it can't be read, or holds Python objects.
    """
    try:
        check_regular(path)
        with open(path, "rb") as file:
            plain = file.read(6) != b"\x93NUMPY"
        if plain:
            raise UserError(f"{path}: not a NumPy array file (.npy), perhaps a pickle, which could run code")
        found: NDArray[Any] = np.load(
            path, mmap_mode="r", allow_pickle=False, max_header_size=_LONGEST_HEADER
        )
    except (OSError, ValueError, SyntaxError, EOFError, TypeError) as error:
        if "object" in str(error).lower():
            raise UserError(
                f"{path}: holds pickled Python objects, which could run code; expected plain numbers"
            ) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: can't be read as a NumPy array ({reason}); copy it again") from error
    return found


def missing(path: Path, has_clean: bool) -> str:
    """What to do about a corruption without images."""
    make = "--generate-missing makes it from the clean images" + ("" if has_clean else " that --clean names")
    return f"{path}: no such file or folder; {make}, or --corruptions names those that are there"


def check_clean(clean: GeneratedImages, places: Indices, labels: Indices, name: str) -> None:
    """Refuse clean images that aren't those of the corrupted ones; UserError."""
    if not np.array_equal(clean.places, places) or not np.array_equal(clean.labels, labels):
        raise UserError(
            f"the clean images {clean.name} have other labels than {name}; name with --clean the test split "
            "that it was made from"
        )
