"""Image folders as torchvision reads them: one folder per class, below train, test or val where these are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.images.prepare import BrokenPictureError, Change, Preparation, decode, usual_preparation

if TYPE_CHECKING:
    from landscape.images import Choose, ImageSet, Split

_SPLITS = ("train", "test", "val")
NAMED = 5  # pictures that were left out, by name


@dataclass(frozen=True)
class Listing:
    """The pictures of one split of an image folder, none of them decoded.

    ``files`` and ``labels`` (int64 ``[N]``) are in the order of the class folders and their names; ``usual``
    is what becomes of the pictures where nobody says it; ``remark`` is what could make labels other than a
    person thinks. ``name`` is free of paths.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str
    usual: Preparation
    remark: str


def list_folder(path: Path, split: Split, preparation: Preparation | None = None) -> Listing:
    """Look through one split without decoding a picture.

    The classes are those of the train folder where there is one: a class that the split lacks would otherwise
    shift the labels of all that follow. The usual preparation looks at the train folder, too, so that both
    splits are treated alike; it isn't looked for where there is a `preparation`.

    Raises
    ------
    UserError
        When there is no such folder or split, no picture in it, or a class that the train folder lacks.
    """
    folder = _split_folder(path, split)
    tree, reference = _tree(folder), path / "train"
    training = tree if folder == reference or not reference.is_dir() else _tree(reference)
    classes = training.classes
    unknown = [name for name in tree.classes if name not in classes]
    if unknown:
        raise UserError(
            f"{folder} has the class {unknown[0]!r}, {reference} hasn't; both need the same class folders"
        )
    place = {number: classes.index(name) for number, name in enumerate(tree.classes)}
    labels = np.asarray([place[number] for number in tree.targets], dtype=np.int64)
    usual = preparation or usual_preparation([Path(name) for name, _ in training.samples])
    files = tuple(Path(name) for name, _ in tree.samples)
    name = path.resolve().name
    return Listing(folder, files, labels, tuple(classes), name, usual, _remark(classes, training))


def read_folder(
    path: Path,
    split: Split,
    choose: Choose | None,
    preparation: Preparation | None,
    change: Change | None = None,
) -> ImageSet:
    """One split, of which only the chosen pictures are decoded; see `list_folder`.

    Raises
    ------
    UserError
        As `list_folder`, and when a picture can't be decoded.
    """
    from landscape.images import ImageSet

    found = list_folder(path, split, preparation)
    keep = np.arange(len(found.labels)) if choose is None else choose(found.labels)
    how = found.usual.changed(change)
    paths = [found.files[index] for index in keep]
    images, broken = _decoded(paths, how, skip_broken=change is not None and change.skip_broken)
    skipped = said_of_skipped([paths[number] for number in broken], len(paths))
    return ImageSet(
        np.stack(images) if images else np.empty((0, *how.size, 3), np.uint8),
        found.labels[np.delete(keep, broken)],
        found.classes,
        found.name,
        split,
        how,
        "; ".join(filter(None, (found.remark, skipped))),
        tuple(broken),
    )


def _decoded(
    paths: Sequence[Path], how: Preparation, *, skip_broken: bool
) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """The pictures, and the numbers of those that can't be decoded."""
    images: list[NDArray[np.uint8]] = []
    broken: list[int] = []
    for number, path in enumerate(paths):
        try:
            images.append(decode(path, how))
        except BrokenPictureError:
            if not skip_broken:
                raise
            broken.append(number)
    if broken and not images:
        raise UserError(f"none of the {len(paths)} pictures can be decoded, {paths[0]} is the first of them")
    return images, broken


def said_of_skipped(paths: Sequence[Path], among: int) -> str:
    """What was left out, in words; the folder is the class."""
    names = ", ".join("/".join(path.parts[-2:]) for path in paths[:NAMED])
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{len(paths)} of {among} pictures left out, broken: {names}{more}" if paths else ""


def _tree(folder: Path) -> Any:
    """Torchvision's view of a folder; classes without a picture are kept, hidden ones of these left out."""
    from torchvision.datasets import ImageFolder

    class Tree(ImageFolder):  # type: ignore[misc]
        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            names, _ = super().find_classes(directory)
            names = [one for one in names if not one.startswith(".")]
            return names, {name: number for number, name in enumerate(names)}

    try:
        tree = Tree(str(folder), allow_empty=True)
    except OSError as error:
        raise UserError(f"{folder} is no image folder: {error}") from error
    places = {(os.path.dirname(name), label) for name, label in tree.samples}
    real = [(os.path.realpath(name), label) for name, label in places]
    if len(set(real)) < len(real):
        again = next(name for name, _ in sorted(places) if os.path.realpath(name) != os.path.abspath(name))
        raise UserError(f"{again} leads by a link to pictures that are there already; remove the link")
    if not tree.samples:
        raise UserError(
            f"{folder} is no image folder: no picture in its {len(tree.classes)} folders; expected one "
            f"folder of pictures ({', '.join(tree.extensions or ())}) per class"
        )
    return tree


def _remark(classes: list[str], training: Any) -> str:
    """What could make labels other than a person thinks."""
    parts = []
    counts = np.bincount(training.targets, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        parts.append(f"no picture of class {', '.join(empty[:3])}{' …' if empty[3:] else ''}")
    if all(name.isdecimal() for name in classes) and classes != sorted(classes, key=int):
        parts.append(f"classes sorted as text, as torchvision does: {', '.join(classes[:4])} …")
    return "; ".join(parts)


def _split_folder(path: Path, split: Split) -> Path:
    if not path.is_dir():
        raise UserError(f"no folder {path}; expected one folder of images per class")
    wanted = ("train",) if split == "train" else ("test", "val")
    there = [name for name in _SPLITS if (path / name).is_dir()]
    for name in wanted:
        if name in there:
            return path / name
    if there:
        raise UserError(
            f"{path} has {', '.join(there)} but no {' or '.join(wanted)} folder for split {split}"
        )
    return path
