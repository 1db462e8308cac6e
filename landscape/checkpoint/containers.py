"""The containers of tensors: PyTorch's zip and legacy files, TorchScript archives, safetensors files.

What each can tell about damage: zip archives have a CRC-32 per entry, which is compared; the legacy form and
safetensors have no checksum, so that only damage to their structure can be seen.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from landscape.checkpoint.rebuild import Rebuilder, check_bools
from landscape.checkpoint.unpickle import Opaque, unpickle
from landscape.files.archives import Archive, UnreadableError, open_archive

UNCHECKED = "no checksums in this form: damage to its values can't be seen"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LONGEST_HEADER = 16 << 20  # bytes of JSON before a safetensors file's values; a large model has 1 to 2 MB
_LONGEST_NAME = 1000


class ForeignCodeError(Exception):
    """A pickle names classes or functions beyond plain data: `names`, as ``module.name``, in order."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = list(dict.fromkeys(names))


class NotTorchError(Exception):
    """A pickle that `torch.save` didn't write."""


def is_torchscript(path: Path) -> bool:
    """Whether a PyTorch zip archive holds a script; NotTorchError where it has no PyTorch content at all."""
    with open_archive(path) as archive:
        _content_name(archive)
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.names)


def check_archive(path: Path) -> None:
    """Compare all checksums of a zip archive, for readers that compare none; raises UnreadableError."""
    with open_archive(path) as archive:
        for name in archive.names:
            archive.read(name)


def read_zip(path: Path) -> tuple[object, tuple[str, ...]]:
    """The content of a ``torch.save`` zip file, and notes on what couldn't be checked."""
    with open_archive(path) as archive:
        value = _unpickled(archive, path, scripted=False)
        return value, () if archive.checked else (UNCHECKED,)


def read_script(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The parameters and buffers of a TorchScript archive by name; none of its code is run."""
    with open_archive(path) as archive:
        root = _unpickled(archive, path, scripted=True)
        if not isinstance(root, Opaque):
            raise UnreadableError("its script is no module")
        code = _Code(archive)
        tensors = dict(_script_tensors(root, "", code))
        return tensors, () if archive.checked else (UNCHECKED,)


def read_legacy(path: Path) -> object:
    """The content of a file of ``torch.save`` before version 1.6: pickles in a row, then raw bytes."""
    with _Bounded(path) as file:
        source = _LegacyStorages(file.size)
        rebuilder = Rebuilder(source, file.size)
        first, foreign = unpickle(file, rebuilder)
        if foreign:
            raise ForeignCodeError(foreign)
        if first != _MAGIC or type(first) is not int:
            raise NotTorchError
        _expect(_next(file, rebuilder) == _PROTOCOL, "its version of the format isn't known")
        system = _next(file, rebuilder)
        _expect(
            isinstance(system, Mapping) and system.get("little_endian") is True,
            "it is of a big-endian machine",
        )
        value = _next(file, rebuilder)
        source.fill(_next(file, rebuilder), file)
        rebuilder.finish()
    return value


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; the library checks sizes and overlaps."""
    from safetensors import safe_open

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    _expect(length <= _LONGEST_HEADER, f"its header of {length:,} bytes is longer than {_LONGEST_HEADER:,}")
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = dict(opened.metadata() or {})
    except Exception as error:  # the library has no common class for what it finds wrong
        raise UnreadableError(
            str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        ) from error
    check_bools(tensors)
    return tensors, metadata


def _content_name(archive: Archive) -> str:
    names = [name for name in archive.names if name.rpartition("/")[2] == "data.pkl"]
    if not names:
        raise NotTorchError
    _expect(len(names) == 1, "it holds several contents")
    return names[0]


def _unpickled(archive: Archive, path: Path, *, scripted: bool) -> object:
    name = _content_name(archive)
    folder = name.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.names:
        _expect(archive.read(f"{folder}byteorder") == b"little", "it is of a big-endian machine")
    source = _ZipStorages(archive, folder)
    rebuilder = Rebuilder(source, path.stat().st_size, scripted=scripted)
    value, foreign = unpickle(io.BytesIO(archive.read(name)), rebuilder)
    if foreign:
        raise ForeignCodeError(foreign)
    rebuilder.finish()
    return value


def _next(file: _Bounded, rebuilder: Rebuilder) -> object:
    value, foreign = unpickle(file, rebuilder)
    if foreign:
        raise ForeignCodeError(foreign)
    return value


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UnreadableError(otherwise)


class _ZipStorages:
    """Storages as entries of an archive, read when they are first asked for."""

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._read: dict[str, Tensor] = {}

    def storage(self, key: str, size: int, part: tuple[int, int] | None) -> Tensor:
        """The bytes of entry ``data/KEY``, which has to have exactly `size` of them."""
        if key not in self._read:
            name = f"{self._folder}data/{key}"
            there = self._archive.size(name)
            _expect(there == size, f"storage {key[:40]!r} has {there} bytes, its pickle says {size}")
            raw = torch.empty(size, dtype=torch.uint8)
            self._archive.read_into(name, raw.numpy().data)
            self._read[key] = raw
        whole = self._read[key]
        _expect(len(whole) == size, f"storage {key[:40]!r} is said to have {len(whole)} and {size} bytes")
        _expect(part is None or part[1] <= size, f"a part reaches beyond storage {key[:40]!r}")
        return whole if part is None else whole[part[0] : part[1]]


class _LegacyStorages:
    """Storages whose bytes follow the pickles: made empty, filled at the end."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._made: dict[str, Tensor] = {}

    def storage(self, key: str, size: int, part: tuple[int, int] | None) -> Tensor:
        """Room for a storage; all of them together have at most the file's bytes."""
        if key not in self._made:
            self._left -= size
            _expect(self._left >= 0, "its storages have more bytes than the file")
            self._made[key] = torch.zeros(size, dtype=torch.uint8)
        whole = self._made[key]
        _expect(len(whole) == size, f"storage {key[:40]!r} is said to have {len(whole)} and {size} bytes")
        _expect(part is None or part[1] <= size, f"a part reaches beyond storage {key[:40]!r}")
        return whole if part is None else whole[part[0] : part[1]]

    def fill(self, keys: object, file: _Bounded) -> None:
        """Read the bytes in the order of `keys`: for each the number of elements, then these."""
        names = [str(key) for key in keys] if isinstance(keys, list) else []
        _expect(sorted(names) == sorted(self._made), "its storages aren't those that its pickle names")
        for name in names:
            room = self._made[name]
            count = int.from_bytes(file.read(8), "little")
            _expect(count <= len(room), f"storage {name[:40]!r} has {count} elements for {len(room)} bytes")
            _expect(not count or len(room) % count == 0, f"storage {name[:40]!r} has {count} elements")
            _expect(file.readinto(room.numpy().data) == len(room), f"storage {name[:40]!r} breaks off")


class _Bounded(io.BufferedReader):
    """A file that is never asked for more bytes than it has: readers make room for as many first."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size

    def read(self, count: int | None = -1, /) -> bytes:
        """At most `count` bytes, fewer at the end."""
        left = max(0, self.size - self.tell())
        return super().read(left if count is None or count < 0 else min(count, left))


class _Code:
    """Which attributes of a script's classes are parameters and buffers, from the text of its code."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: dict[str, frozenset[str] | None] = {}

    def state_names(self, kind: str) -> frozenset[str] | None:
        """Names of a class's parameters and buffers; None where the archive doesn't tell."""
        if kind not in self._known:
            self._known[kind] = self._find(kind)
        return self._known[kind]

    def _find(self, kind: str) -> frozenset[str] | None:
        module, _, name = kind.rpartition(".")
        ending = f"code/{module.replace('.', '/')}.py"
        place = next((one for one in self._archive.names if one.endswith(ending)), None)
        if place is None:
            return None
        text = self._archive.read(place).decode("utf-8", "replace")
        parts = re.split(r"^class (\w+)\(", text, flags=re.MULTILINE)
        bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
        lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", bodies.get(name, ""), re.MULTILINE)
        return frozenset(re.findall(r'"([^"]*)"', " ".join(lists))) if lists else None


def _script_tensors(module: Opaque, prefix: str, code: _Code) -> Iterator[tuple[str, Tensor]]:
    state = module.state if isinstance(module.state, Mapping) else {}
    names = code.state_names(module.name)
    for key, value in state.items():
        if isinstance(value, Tensor) and (names is None or key in names):
            yield f"{prefix}{key}", value
        elif isinstance(value, Opaque) and len(prefix) < _LONGEST_NAME:
            yield from _script_tensors(value, f"{prefix}{key}.", code)
