"""Zip archives of strangers, read without trust: sizes bounded before, checksums compared after reading.

Also the ``.npz`` files in them. Nothing here unpickles anything or needs torch.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError
from landscape.files import check_regular

MIB = 1 << 20
FREE_BYTES = 64 * MIB  # whatever the file's size
BYTES_PER_BYTE = 20  # what a byte of the file may unpack to beyond that; images and weights have 1 to 2
LONGEST_LISTING = 10 * MIB  # of an archive's central directory: some 100,000 entries
_CHUNK = MIB
_LONGEST_HEADER = 1 << 17  # of an array; NumPy itself reads 10,000 characters of it
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others declare windows of any size


class UnreadableError(Exception):
    """Why a file can't be read, without its name; turned into a UserError by whoever knows the file."""


class Allowance:
    """How many bytes a file of a given size may make us hold; taken before they are held.

    Parameters
    ----------
    size
        Bytes of the file.
    free, factor
        The file gets ``free + factor · size``.
    """

    def __init__(self, size: int, free: int = FREE_BYTES, factor: int = BYTES_PER_BYTE) -> None:
        self.size, self.most = size, free + factor * size
        self.left = self.most

    def take(self, count: int, what: str) -> None:
        """Set bytes aside for `what`; UnreadableError where the file's size doesn't justify them."""
        self.left -= count
        if self.left < 0:
            raise UnreadableError(
                f"{what} would bring it to {_amount(self.most - self.left)} unpacked, more than a file of "
                f"{_amount(self.size)} may take ({_amount(self.most)})"
            )


class Archive:
    """An open zip archive whose entries are read whole, each checked against its CRC-32.

    ``checked`` is False where the archive was written without checksums (all of them 0), as
    `torch.serialization.set_crc32_options` allows.
    """

    def __init__(self, archive: zipfile.ZipFile, allowance: Allowance) -> None:
        self._archive, self._allowance = archive, allowance
        self._entries = {info.filename: info for info in archive.infolist()}
        if len(self._entries) < len(archive.infolist()):
            raise UnreadableError("two entries of the archive have one name")
        filled = [info for info in archive.infolist() if info.file_size]
        self.checked = not filled or any(info.CRC for info in filled)

    @property
    def names(self) -> list[str]:
        """Names of the entries in the archive's order."""
        return list(self._entries)

    def size(self, name: str) -> int:
        """Declared bytes of an entry, unpacked; raises UnreadableError where there is none."""
        return self._entry(name).file_size

    def read(self, name: str) -> bytearray:
        """An entry's bytes."""
        target = bytearray(self._take(name))
        self._fill(name, memoryview(target))
        return target

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill `target`, which has exactly the entry's size in bytes."""
        if self._take(name) != len(target):
            raise UnreadableError(f"entry {name!r} has {self.size(name)} bytes, expected {len(target)}")
        self._fill(name, target)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise UnreadableError(f"the archive lacks its entry {name[:80]!r}")
        return self._entries[name]

    def _take(self, name: str) -> int:
        info = self._entry(name)
        if info.compress_type not in _METHODS or info.flag_bits & 0x1:
            raise UnreadableError(f"entry {name[:80]!r} is encrypted or packed in an unusual way")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise UnreadableError(f"entry {name[:80]!r} contradicts itself about its size")
        self._allowance.take(info.file_size, f"its entry {name[:80]!r}")
        return info.file_size

    def _fill(self, name: str, target: memoryview) -> None:
        info = self._entry(name)
        if not self.checked:
            info.CRC = None  # type: ignore[assignment]  # zipfile's own way to leave out the comparison
        place = 0
        with self._archive.open(info) as entry:
            while chunk := entry.read(_CHUNK):
                if place + len(chunk) > len(target):
                    raise UnreadableError(f"entry {name[:80]!r} is longer than it says")
                target[place : place + len(chunk)] = chunk
                place += len(chunk)
        if place != len(target):
            raise UnreadableError(f"entry {name[:80]!r} breaks off")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip archive for bounded reading.

    Raises
    ------
    UnreadableError
        Here or while reading: when the file is no whole zip archive, was changed since it was written, or
        unpacks to more than its size justifies.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_listing(file, size)
            with zipfile.ZipFile(file) as archive:
                yield Archive(archive, Allowance(size))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except (
        *(zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, RuntimeError),
        *(ValueError, LookupError, MemoryError, _zlib_error()),
    ) as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error


def _check_listing(file: IO[bytes], size: int) -> None:
    """Refuse a central directory so long that listing it would fill the memory."""
    tail = min(size, (1 << 16) + 22 + 20 + 56)
    file.seek(size - tail)
    end = file.read(tail)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) - at < 22:
        raise UnreadableError("the end of the zip archive is missing")
    (length,) = struct.unpack_from("<L", end, at + 12)
    wide = end.rfind(b"PK\x06\x06", 0, at)
    if wide >= 0 and at - wide >= 48:
        length = max(length if length != 0xFFFFFFFF else 0, *struct.unpack_from("<Q", end, wide + 40))
    if length > LONGEST_LISTING and length != 0xFFFFFFFF:
        raise UnreadableError(f"its list of entries has {_amount(length)}; expected at most 10 MB")
    file.seek(0)


def _amount(count: int) -> str:
    return f"{count / MIB:,.0f} MB" if count >= 10 * MIB else f"{count:,} bytes"


def read_npz(path: Path, wanted: Iterable[str] = (), optional: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` by name: numbers and plain strings only, of at most the size that they declare.

    Parameters
    ----------
    wanted
        Names that have to be there.
    optional
        Names that are read where they are there.

    Raises
    ------
    UserError
        When there is no such file, it is no whole ``.npz``, lacks a name, holds objects (a pickle), or
        unpacks to more than its size justifies.
    """
    try:
        with open_archive(path) as archive:
            entries = {name.removesuffix(".npy"): name for name in archive.names}
            missing = [name for name in wanted if name not in entries]
            if missing:
                there = ", ".join(repr(name[:40])[1:-1] for name in list(entries)[:20]) or "nothing"
                raise UserError(f"{path}: no {' and no '.join(missing)}; it holds {there}")
            names = [*wanted, *(name for name in optional if name in entries)]
            return {name: _array(name, archive.read(entries[name])) for name in names}
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected an .npz with {' and '.join(wanted)}") from None
    except UnreadableError as error:
        raise UserError(f"{path} can't be read as .npz: {error}") from error


def _array(name: str, content: bytearray) -> NDArray[Any]:
    """The array in the bytes of an ``.npy``, after its header was found to say what the bytes are."""
    file = io.BytesIO(content[:_LONGEST_HEADER])
    try:
        version = np.lib.format.read_magic(file)
        readers: Mapping[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise UnreadableError(f"{name!r} is an .npy of version {version}; expected 1.0 or 2.0")
        shape, by_columns, kind = readers[version](file)
        if kind.hasobject or kind.kind not in "?biufcUS" or not kind.itemsize or kind.shape:
            raise UnreadableError(f"{name!r} holds {str(kind)[:40]}; expected numbers or strings")
        count = math.prod(int(length) for length in shape)
        if min(shape, default=0) < 0 or count * kind.itemsize != len(content) - file.tell():
            raise UnreadableError(
                f"{name!r} of shape {str(tuple(shape))[:60]} and type {kind} doesn't fit the "
                f"{len(content) - file.tell()} bytes that it has"
            )
        flat = np.frombuffer(content, kind, count, file.tell())
        return flat.reshape(shape, order="F" if by_columns else "C")
    except UnreadableError:
        raise
    except Exception as error:  # NumPy parses the header as Python: tokenize.TokenError and more
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UnreadableError(f"{name!r}: {reason}") from error
