"""Whether a finished run is of the images that its sweep names: a data set's name alone doesn't tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.commandline.console import note
from landscape.errors import UserError
from training.config import RunConfig


class Images:
    """Digests of the data sets of a sweep; each is read once, when the first finished run asks for it."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._known: dict[tuple[str, int | None], Mapping[str, str]] = {}

    def others(self, config: RunConfig, trained: Mapping[str, Any]) -> str:
        """What a run, by the `data` of its result, was trained or tested on instead; "" where it fits.

        Early results don't name their test images; where pictures were left out, or the images aren't here,
        nothing is known, the latter with a line.
        """
        if not trained.get("sha256") or trained.get("left_out"):
            return ""
        here = self._digests(config)
        for key, what in (("sha256", "images"), ("test_sha256", "test images")):
            if key in here and trained.get(key, here[key]) != here[key]:
                return what
        return ""

    def _digests(self, config: RunConfig) -> Mapping[str, str]:
        key = config.data, config.image_size
        if key not in self._known:
            try:
                self._known[key] = self._read(config)
            except UserError as error:
                note(f"not checked that finished runs are of the images of {config.data}: {error}")
                self._known[key] = {}
        return self._known[key]

    def _read(self, config: RunConfig) -> Mapping[str, str]:
        from landscape.images import Split, read_images
        from landscape.images.selection import fingerprint
        from training.photographs import digest_of_folder, photographs

        of: dict[str, Split] = {"sha256": "train", "test_sha256": "test"}
        if photographs(config.data, config.image_size):
            return {key: digest_of_folder(config.data, split) for key, split in of.items()}
        return {key: fingerprint(read_images(config.data, split, self._root)) for key, split in of.items()}
