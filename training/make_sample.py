"""Make the sample in ``landscape/images/sample``: ``python -m training.make_sample npz:cifar10.npz``.

A seeded, class-balanced random choice of real CIFAR-10 images, the classes interleaved (0 … 9, 0 … 9, …)
so that any prefix is balanced, as one lossless WebP sheet per split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landscape.errors import UserError, exit_with
from landscape.files import atomic_path
from landscape.images import SAMPLE_FOLDER, Split, from_sheet, pixel_digest, read_images, to_sheet
from landscape.images.selection import fingerprint

PER_CLASS = 100
SEED = 2009
SOURCE = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (CIFAR-10)"
SPLITS: tuple[Split, ...] = ("train", "test")


def interleaved_choice(labels: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """`per_class` random indices of each class, ordered 0, 1, …, 0, 1, …; shape (classes * per_class,)."""
    generator = np.random.default_rng(seed)
    columns = [
        generator.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in np.unique(labels)
    ]
    return np.stack(columns, axis=1).ravel()


def write_split(spec: str, split: Split, folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write one sheet; returns its entry for ``sample.json`` and the class names."""
    data = read_images(spec, split)
    chosen = interleaved_choice(data.labels, PER_CLASS, SEED)
    images = data.images[chosen]
    target = folder / f"{split}.webp"
    with atomic_path(target) as temporary:
        Image.fromarray(to_sheet(images)).save(temporary, format="WEBP", lossless=True, quality=100, method=6)
    with Image.open(target) as sheet:
        if not np.array_equal(from_sheet(np.asarray(sheet.convert("RGB")), len(images)), images):
            raise UserError(f"{target} is not lossless; use a Pillow built with libwebp")
    entry = {
        "file": target.name,
        "count": len(images),
        "sha256": pixel_digest(images),
        "whole_sha256": fingerprint(data),
        "indices": chosen.tolist(),
    }
    return entry, data.classes or ()


def main() -> None:
    """Write both sheets and ``sample.json``."""
    if len(sys.argv) != 2:
        exit_with("expected one argument, the whole CIFAR-10: cifar10 or npz:PATH")
    try:
        written = {split: write_split(sys.argv[1], split, SAMPLE_FOLDER) for split in SPLITS}
    except UserError as error:
        exit_with(error)
    about = {
        "source": SOURCE,
        "seed": SEED,
        "classes": written["train"][1],
        "splits": {split: entry for split, (entry, _) in written.items()},
    }
    with atomic_path(SAMPLE_FOLDER / "sample.json") as temporary:
        temporary.write_text(json.dumps(about) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
