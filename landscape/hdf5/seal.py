"""A digest at the end of a file, so that no damage goes unnoticed; HDF5 tools ignore what follows the data.

The last 84 bytes are a line's end, ``sharpscape sha256 ``, the SHA-256 of all bytes before them in
hexadecimal, and a line's end.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from landscape.files import atomic_path
from landscape.hdf5.tree import MalformedError

if TYPE_CHECKING:
    import h5py

HEAD = b"\nsharpscape sha256 "
LENGTH = len(HEAD) + 64 + 1
_LINE = re.compile(re.escape(HEAD) + rb"([0-9a-f]{64})\n")
_PIECE = 1 << 20


def write_sealed(path: str | os.PathLike[str], fill: Callable[[h5py.File], object]) -> Path:
    """Write an HDF5 file with its digest in one step; an earlier file stays whole if that fails.

    Parameters
    ----------
    path
        The file.
    fill
        Is given the empty HDF5 file, and writes into it.
    """
    import h5py

    # Built in memory first: a full disk then shows as a plain OSError of one write, whatever HDF5 does.
    buffer = BytesIO()
    # HDF5 1.10 of 2016 reads it; the form from before takes a quarter more.
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        fill(file)
    digest = seal_of(buffer.getbuffer())
    buffer.seek(0, os.SEEK_END)
    buffer.write(digest)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return Path(path)


def seal_of(content: bytes | memoryview) -> bytes:
    """What is to follow this content."""
    return HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n"


def check_seal(file: BinaryIO) -> bool:
    """Whether the file carries a digest; the file is then as it was written.

    Raises
    ------
    MalformedError
        When the digest is another one than that of the content.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - LENGTH, 0))
    line = _LINE.fullmatch(file.read(LENGTH))
    if line is None:
        return False
    file.seek(0)
    digest, left = hashlib.sha256(), size - LENGTH
    while left and (piece := file.read(min(left, _PIECE))):
        digest.update(piece)
        left -= len(piece)
    if digest.hexdigest().encode() != line[1]:
        raise MalformedError(
            "it isn't as it was written: damaged, or edited since; its SHA-256 doesn't fit; "
            "copy it again from its source, or compute it anew"
        )
    return True
