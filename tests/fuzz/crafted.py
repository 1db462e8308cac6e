"""An assembler for files that `torch.save` would never write."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """A global, ``module.name``."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call of a global, and the state given to what came of it."""

    function: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None
    opcode: bytes = b"R"


@dataclass(frozen=True)
class Store:
    """A reference to a storage."""

    key: str = "0"
    count: Any = 4
    kind: Any = Name("torch", "FloatStorage")
    place: str = "cpu"
    rest: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Instructions as they stand."""

    content: bytes


def encoded(value: Any) -> bytes:
    """The instructions that leave `value` on the stack."""
    if isinstance(value, Raw):
        return value.content
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        made = encoded(value.function) + encoded(tuple(value.arguments)) + value.opcode
        return made if value.state is None else made + encoded(value.state) + b"b"
    if isinstance(value, Store):
        return encoded(("storage", value.kind, value.key, value.place, value.count, *value.rest)) + b"Q"
    if isinstance(value, dict):
        return b"}(" + b"".join(encoded(key) + encoded(one) for key, one in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(encoded, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encoded, value)) + b"t"
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    plain = pickle.dumps(value, protocol=2)  # None, numbers
    return plain[2:-1]


def tensor(size: Any = (2, 2), stride: Any = (2, 1), offset: Any = 0, store: Any = None, *rest: Any) -> Call:
    """A tensor of four elements unless told otherwise."""
    hooks = Call(Name("collections", "OrderedDict"))
    storage = Store() if store is None else store
    function = Name("torch._utils", "_rebuild_tensor_v2")
    return Call(function, (storage, offset, size, stride, False, hooks, *rest))


def sparse(indices: Any, values: Any, size: Any, layout: str = "torch.sparse_coo") -> Call:
    """A sparse tensor of two parts and a size."""
    kind = Call(Name("torch.serialization", "_get_layout"), (layout,))
    return Call(Name("torch._utils", "_rebuild_sparse_tensor"), (kind, (indices, values, size)))


STORAGE = struct.pack("<4f", 1, 2, 3, 4)


@dataclass
class File:
    """A zip archive as `torch.save` lays it out.

    Attributes
    ----------
    content
        What its pickle holds; `Raw` for instructions without the first and the last.
    storages
        Bytes by key.
    """

    content: Any
    storages: dict[str, bytes] = field(default_factory=lambda: {"0": STORAGE})
    more: dict[str, bytes] = field(default_factory=dict)
    packed: bool = False

    @property
    def bytes(self) -> bytes:
        """The archive."""
        buffer = io.BytesIO()
        method = zipfile.ZIP_DEFLATED if self.packed else zipfile.ZIP_STORED
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + encoded(self.content) + b".")
            for key, storage in self.storages.items():
                archive.writestr(f"a/data/{key}", storage)
            for name, content in ({"a/byteorder": b"little"} | self.more).items():
                archive.writestr(name, content)
        return buffer.getvalue()


def legacy(
    content: Any, keys: Any = ("0",), storages: bytes = struct.pack("<q", 4) + STORAGE, **system: Any
) -> bytes:
    """A file as `torch.save` laid it out before version 1.6."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True} | system, content, list(keys)]
    return b"".join(b"\x80\x02" + encoded(part) + b"." for part in parts) + storages


def shared(depth: int, width: int = 2) -> Raw:
    """Lists of one list several times over, `depth` deep: width**depth values in a few bytes."""
    steps = b"".join(b"0](" + b"h\x00" * width + b"eq\x00" for _ in range(depth))
    return Raw(b"](K\x01eq\x00" + steps)


def nested(depth: int, opening: bytes = b"](", closing: bytes = b"e") -> Raw:
    """Containers in one another."""
    return Raw(opening * depth + closing * depth)
