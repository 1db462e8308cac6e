"""Image data sets as arrays in memory: CIFAR in torchvision's layout, ``npz:``, ``imagefolder:``, the sample.

Only numpy is needed to import this module; Pillow and torchvision are imported where they are used.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.files.archives import read_npz
from landscape.images.prepare import Change, Preparation, prepared

Split = Literal["train", "test"]
Channels = tuple[float, float, float]
Choose = Callable[[NDArray[np.int64]], NDArray[np.int64]]

CIFAR10_STATISTICS: tuple[Channels, Channels] = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_STATISTICS: tuple[Channels, Channels] = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
IMAGENET_STATISTICS: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATISTICS: dict[str, tuple[Channels, Channels]] = {
    "cifar10": CIFAR10_STATISTICS,
    "cifar100": CIFAR100_STATISTICS,
    "sample": CIFAR10_STATISTICS,
}
"""Mean and standard deviation per channel (R, G, B) of the training split, for pixels in 0..1."""

SAMPLE_FOLDER = Path(__file__).with_name("sample")
_MOST_CLASSES = 1_000_000  # a larger label is no class number
DEFAULT_ROOT = Path("data")
KINDS = ("cifar10", "cifar100", "sample", "npz:PATH", "imagefolder:PATH")


@dataclass(frozen=True)
class ImageSet:
    """One split of an image data set, wholly in memory.

    ``images`` is uint8 of shape (N, height, width, 3), ``labels`` int64 of shape (N,); ``classes`` are
    the class names where known; ``name`` is free of paths (``cifar10``, or the stem of the file or folder).
    ``preparation`` is what was done to each image, None where they are as in the file; ``remark`` says what a
    person should know of the classes. ``left_out`` has the places, among those chosen, of pictures that can't
    be decoded, where these are skipped.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] | None
    name: str
    split: str
    preparation: Preparation | None = None
    remark: str = ""
    left_out: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, keep: NDArray[np.int64]) -> ImageSet:
        """The images at these places, in their order."""
        return replace(self, images=self.images[keep], labels=self.labels[keep])

    def prepared(self, preparation: Preparation | None, change: Change | None) -> ImageSet:
        """Images of a file, resized and cropped where that is asked for."""
        if preparation is None and (change is None or not change.scales):
            return self
        as_they_are = Preparation(
            (self.images.shape[1], self.images.shape[2]), (0, 0), source="as in the file"
        )
        how = (preparation or as_they_are).changed(change)
        return replace(self, images=prepared(self.images, how), preparation=how)

    @property
    def num_classes(self) -> int:
        """Number of classes: of the names where known, else the largest label plus one."""
        return len(self.classes) if self.classes else int(self.labels.max()) + 1


def read_images(
    spec: str,
    split: Split,
    root: str | Path | None = None,
    *,
    download: bool = False,
    choose: Choose | None = None,
    preparation: Preparation | None = None,
    change: Change | None = None,
) -> ImageSet:
    """Read one split of the data set that `spec` names.

    Parameters
    ----------
    spec
        ``cifar10`` or ``cifar100`` (torchvision's folder layout under `root`), ``npz:PATH`` (``train_x``,
        ``train_y``, ``test_x``, ``test_y``: uint8 NHWC and integer labels; optional ``classes``),
        ``imagefolder:PATH`` (one folder per class, below ``train``, ``test`` or ``val`` where these
        exist), or ``sample`` (real CIFAR-10 images that come with the package).
    root
        Folder that holds ``cifar-10-batches-py`` and its like; ``./data`` by default.
    download
        Let torchvision download CIFAR into `root` when it isn't there.
    choose
        Given all labels, the indices to keep, in the order wanted. Image folders decode only these.
    preparation
        How images are resized and cropped. By default those of a file stay as they are, and a folder's
        become what `prepare.usual_preparation` says.
    change
        What is different from that, and whether a folder's broken pictures are left out.

    Raises
    ------
    UserError
        When the name is unknown, or files are missing, damaged, empty or not of this form.
    """
    kind, _, path = spec.partition(":")
    if kind == "npz" and path:
        return _chosen(_read_npz(Path(path), split), choose).prepared(preparation, change)
    if kind == "imagefolder" and path:
        from landscape.images.folder import read_folder

        return _checked(read_folder(Path(path), split, choose, preparation, change), path)
    if spec in ("cifar10", "cifar100", "sample") and split not in get_args(Split):
        raise UserError(f"unknown split {split!r}; expected one of {', '.join(get_args(Split))}")
    if spec in ("cifar10", "cifar100"):
        found = _read_cifar(spec, split, Path(root or DEFAULT_ROOT), download)
        return _chosen(found, choose).prepared(preparation, change)
    if spec == "sample":
        return _chosen(_read_sample(split), choose).prepared(preparation, change)
    raise unknown_data(spec)


def unknown_data(spec: str, *others: str) -> UserError:
    """That a data set isn't known, and which are, `others` among them."""
    return UserError(
        f"unknown data {spec!r}{_nearest(spec.partition(':')[0])}; known: {', '.join((*KINDS, *others))}"
    )


def _nearest(kind: str) -> str:
    names = {known.partition(":")[0]: known for known in KINDS}
    match = difflib.get_close_matches(kind.lower().replace("-", ""), names, n=1)
    return f" (did you mean {names[match[0]]}?)" if match else ""


def _chosen(data: ImageSet, choose: Choose | None) -> ImageSet:
    if choose is None:
        return data
    return data.only(choose(data.labels))


def _checked(data: ImageSet, source: object) -> ImageSet:
    """Refuse arrays that aren't N > 0 RGB images with one label each inside the classes."""
    images, labels = data.images, data.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(
            f"{source}: the {data.split} images are {images.dtype} of shape {images.shape}; "
            "expected uint8 of shape (N, height, width, 3)"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{source}: the {data.split} labels are {labels.dtype} of shape {labels.shape}; "
            f"expected integers of shape ({len(images)},)"
        )
    if not len(labels):
        raise UserError(f"{source}: the {data.split} split is empty; at least one image is needed")
    if 0 in images.shape:
        raise UserError(f"{source}: the {data.split} images have no pixels: shape {images.shape}")
    if labels.max() >= _MOST_CLASSES:
        raise UserError(f"{source}: the largest label is {labels.max()}; expected class numbers from 0")
    if labels.min() < 0 or labels.max() >= data.num_classes:
        raise UserError(
            f"{source}: labels run from {labels.min()} to {labels.max()}; "
            f"expected 0 to {data.num_classes - 1}, one for each class"
        )
    no_zero = "" if data.classes or labels.min() == 0 else "no image has label 0; labels count from 0"
    return replace(data, labels=labels.astype(np.int64), remark=data.remark or no_zero)


def _name(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _read_npz(path: Path, split: Split) -> ImageSet:
    arrays = read_npz(path, (f"{split}_x", f"{split}_y"), optional=("classes",))
    classes = tuple(map(_name, arrays["classes"].ravel())) if "classes" in arrays else None
    return _checked(ImageSet(arrays[f"{split}_x"], arrays[f"{split}_y"], classes, path.stem, split), path)


def _read_cifar(name: str, split: Split, root: Path, download: bool) -> ImageSet:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the published pickles are older than numpy's present dtype rules
        try:
            data = kind(root, train=split == "train", download=download)
        except (RuntimeError, OSError) as error:
            folder = root / kind.base_folder
            state = "is incomplete or damaged (MD5)" if folder.is_dir() else "does not exist"
            raise UserError(
                f"{name}: {folder} {state}: {error}; name the folder that holds {kind.base_folder}, "
                "or allow the download"
            ) from error
    return _checked(ImageSet(data.data, np.asarray(data.targets), tuple(data.classes), name, split), root)


def sample_origin(split: Split) -> tuple[NDArray[np.int64], str]:
    """Places of the sample's images in CIFAR-10's split, and that split's `selection.fingerprint`."""
    try:
        part = _about_sample()["splits"][split]
        return np.asarray(part["indices"], dtype=np.int64), str(part["whole_sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the shipped sample can't be read: {error}; install the package again") from error


def _about_sample() -> Any:
    return json.loads((SAMPLE_FOLDER / "sample.json").read_text(encoding="utf-8"))


def _read_sample(split: Split) -> ImageSet:
    """Read the shipped sheet; the classes are interleaved, so any prefix is balanced."""
    from PIL import Image

    try:
        about = _about_sample()
        part = about["splits"][split]
        with Image.open(SAMPLE_FOLDER / part["file"]) as sheet:
            rows = np.asarray(sheet.convert("RGB"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the shipped sample can't be read: {error}; install the package again") from error
    images = from_sheet(rows, part["count"])
    labels = np.arange(part["count"], dtype=np.int64) % len(about["classes"])
    if pixel_digest(images) != part["sha256"]:
        raise UserError(
            f"the shipped sample's {part['file']} is damaged (SHA-256); install the package again"
        )
    return _checked(ImageSet(images, labels, tuple(about["classes"]), "sample", split), SAMPLE_FOLDER)


def pixel_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256 over the uint8 pixels in (N, height, width, channel) order."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def to_sheet(images: NDArray[np.uint8], columns: int = 10) -> NDArray[np.uint8]:
    """Lay N equal images row by row into one picture of `columns` columns; N must fill the rows."""
    number, height, width, channels = images.shape
    grid = images.reshape(number // columns, columns, height, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(-1, columns * width, channels))


def from_sheet(sheet: NDArray[np.uint8], count: int, size: int = 32) -> NDArray[np.uint8]:
    """Take `count` square images out of a sheet again, the inverse of :func:`to_sheet`."""
    rows, columns = sheet.shape[0] // size, sheet.shape[1] // size
    grid = sheet.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(-1, size, size, 3)[:count])
