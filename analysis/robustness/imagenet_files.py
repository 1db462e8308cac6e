"""ImageNet-C in the layout in which it is published: CORRUPTION/SEVERITY/CLASS/PICTURE.JPEG.

The folders of the corruptions may lie below one more, as the archives are called (``noise``, ``blur``, …).
Pictures are 224×224, or all of one other size as in Tiny ImageNet-C, and taken as they are. A few are decoded
at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.robustness.cifar_files import missing
from analysis.robustness.corruption_names import CORRUPTIONS, SEVERITIES
from analysis.robustness.generated import corrupt, deviations, recipe
from analysis.robustness.result import Source
from analysis.robustness.versions import Bytes, Indices, digest
from landscape.errors import UserError
from landscape.images.prepare import PHOTOGRAPHS, Preparation, decode, native_size

PUBLISHED = 50_000  # pictures at each severity
SIZE = (224, 224)
_ENDINGS = (".jpeg", ".jpg", ".png")
_PART = 64
_STAMPED = 64

Pictures = Mapping[str, Sequence[str]]
"""Sorted file names by sorted class."""


class ImageNetFiles:
    """Versions read from such a folder.

    Parameters
    ----------
    folder
        That with the corruptions.
    corruptions
        Those that are wanted.
    choose
        Given all labels, places of the pictures to look at; by default all.
    clean
        Folder of the clean pictures, CLASS/PICTURE of the same names, or one with ``val`` or ``test`` in it.
    preparation
        Of clean pictures, where the corrupted ones are 224×224: the short side to 256 and the middle. Where
        these have another size, clean ones must have it, too.
    generate, seed
        Make what has no folder from the clean pictures, with these draws.

    Raises
    ------
    UserError
        When a folder is missing, or its pictures aren't those of the others.
    """

    name = "imagenetc"

    def __init__(
        self,
        folder: Path,
        corruptions: tuple[str, ...] = CORRUPTIONS,
        *,
        choose: Callable[[Indices], Indices] | None = None,
        clean: Path | None = None,
        preparation: Preparation = PHOTOGRAPHS,
        generate: bool = False,
        seed: int = 0,
    ) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; expected CORRUPTION/SEVERITY/CLASS/PICTURE.JPEG in it")
        self._folders = {one: found for one in corruptions if (found := _folder_of(folder, one)) is not None}
        gone = [one for one in corruptions if one not in self._folders]
        if gone and not (generate and clean is not None):
            raise UserError(missing(folder / gone[0], clean is not None))
        self._generated = bool(gone)
        self._clean = None if clean is None else _validation(clean)
        self.seed = seed
        self._pictures, first = self._agreed(corruptions)
        self.class_names = tuple(self._pictures)
        self.classes = len(self._pictures)
        every = [(one, name) for one, names in self._pictures.items() for name in names]
        numbers = {one: number for number, one in enumerate(self._pictures)}
        labels = np.array([numbers[one] for one, _ in every], dtype=np.int64)
        if not len(labels):
            raise UserError(f"{first}: no picture in its folders; expected CLASS/PICTURE.JPEG")
        self.count = len(labels)
        self.places = np.arange(len(labels), dtype=np.int64) if choose is None else choose(labels)
        self.labels = labels[self.places]
        self._chosen = [Path(*every[place]) for place in self.places]
        self.size = SIZE
        if self._folders:
            self.size = native_size(first / self._chosen[0]) or SIZE
        self._as_they_are = Preparation(self.size, (0, 0), source="as published")
        self._preparation = preparation if self.size == SIZE else self._as_they_are
        if self._clean is not None:
            lacking = next((one for one in self._chosen if not (self._clean / one).is_file()), None)
            if lacking is not None:
                raise UserError(f"{self._clean / lacking}: no such clean picture; {first} has it")

    @property
    def settings(self) -> Mapping[str, Any]:
        """Which pictures, and what missing ones are made by."""
        names = hashlib.sha256("\n".join(map(str, self._chosen)).encode()).hexdigest()[:16]
        found: dict[str, Any] = {"images": digest(self.places, self.labels), "names": names}
        if self._clean is not None:
            found["clean"] = self._preparation.record
        if self._generated:
            found["recipe"] = recipe(self._preparation.size, self.seed)
        return found

    @property
    def remarks(self) -> Mapping[str, str]:
        """Of generated ones what isn't as published; and whether these are all pictures."""
        made = deviations(self._preparation.size) if self._generated else {}
        found = {name: text for name, text in made.items() if name not in self._folders}
        told = []
        if self.count != PUBLISHED:
            told.append(f"{self.count} pictures at each severity, {PUBLISHED:,} in the published data")
        if self.size != SIZE:
            told.append("pictures of {}×{}, 224×224 in the published data".format(*self.size))
        return found | ({"": "; ".join(told)} if told else {})

    def stamp(self, corruption: str, severity: int) -> str:
        """A digest of some of the files, spread over all: whether they are still those that were answered.

        An empty corruption means the clean ones, and so do those that are made of these.
        """
        folder = self._clean
        if corruption in self._folders:
            folder = self._folders[corruption] / str(severity)
        assert folder is not None
        sha = hashlib.sha256()
        for place in np.unique(np.linspace(0, len(self._chosen) - 1, _STAMPED).astype(int)):
            path = folder / self._chosen[place]
            try:
                sha.update(path.read_bytes())
            except OSError as error:
                raise UserError(f"{path} can't be read: {error.strerror}") from error
        return sha.hexdigest()[:16]

    def source(self, corruption: str) -> Source | None:
        """From the pictures where there is a folder."""
        if corruption in self._folders:
            return "files"
        return None if self._clean is None else "generated"

    def clean(self) -> Iterator[Bytes] | None:
        """Decoded, resized and cropped."""
        return None if self._clean is None else self._decoded(self._clean, self._preparation)

    def corrupted(self, corruption: str, severity: int) -> Iterator[Bytes]:
        """Decoded, or made here."""
        if corruption in self._folders:
            yield from self._decoded(self._folders[corruption] / str(severity), self._as_they_are)
            return
        assert self._clean is not None
        done = 0
        for part in self._decoded(self._clean, self._preparation):
            places = self.places[done : done + len(part)]
            yield corrupt(part, corruption, severity, places=places, seed=self.seed)
            done += len(part)

    def _decoded(self, folder: Path, preparation: Preparation) -> Iterator[Bytes]:
        for start in range(0, len(self._chosen), _PART):
            few = [folder / one for one in self._chosen[start : start + _PART]]
            if preparation is self._as_they_are:
                self._check_sizes(few)
            yield np.stack([decode(one, preparation) for one in few])

    def _check_sizes(self, paths: Sequence[Path]) -> None:
        for one in paths:
            size = native_size(one)  # None: decoding says why
            if size not in (None, self.size):
                here, there = ("×".join(map(str, sides)) for sides in (size, self.size))
                raise UserError(
                    f"{one} is of {here} pixels, others of {there}; "
                    "corrupted pictures are taken as they are: expected one size, and clean ones of it"
                )

    def _agreed(self, corruptions: Sequence[str]) -> tuple[Pictures, Path]:
        """The pictures, the same at every severity of every corruption, and the folder that was first."""
        if not self._folders:
            assert self._clean is not None
            return _pictures(self._clean), self._clean
        agreed: Pictures | None = None
        first = Path()
        for one in corruptions:
            for severity in SEVERITIES if one in self._folders else ():
                path = self._folders[one] / str(severity)
                if not path.is_dir():
                    raise UserError(f"{path}: no such folder; expected severities 1 to 5 in {path.parent}")
                found = _pictures(path)
                if agreed is None:
                    agreed, first = found, path
                elif found != agreed:
                    raise UserError(f"{path} has other pictures than {first}: {_differing(found, agreed)}")
        assert agreed is not None
        return agreed, first


def _folder_of(root: Path, corruption: str) -> Path | None:
    if (root / corruption).is_dir():
        return root / corruption
    return next((one for one in sorted(root.glob(f"*/{corruption}")) if one.is_dir()), None)


def _validation(folder: Path) -> Path:
    """The folder of classes in a data set's folder."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; expected the clean pictures, one folder per class")
    return next((folder / one for one in ("val", "test") if (folder / one).is_dir()), folder)


def _pictures(folder: Path) -> Pictures:
    classes = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    return {
        name: sorted(one.name for one in (folder / name).iterdir() if one.suffix.lower() in _ENDINGS)
        for name in classes
    }


def _differing(found: Pictures, agreed: Pictures) -> str:
    """The first difference, in words."""
    for name in sorted({*found, *agreed}):
        if (name in found) != (name in agreed):
            return f"the class {name} is only in {'the former' if name in found else 'the latter'}"
        if found[name] != agreed[name]:
            (one, *_) = sorted({*found[name]} ^ {*agreed[name]})
            return f"{name}/{one} is only in {'the former' if one in found[name] else 'the latter'}"
    return "in another order"
