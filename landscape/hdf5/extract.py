"""From an HDF5 file to a `Tree`: plain data sets and attributes only, bounded by what the file really holds.

HDF5 can do much more than hold numbers: data sets may lie in other files (external storage, virtual data
sets, external links), point at others (soft links, references), run other programs' filters, and declare any
size. None of it occurs in our files, so all of it is refused before a value is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z

from landscape.hdf5.tree import Array, MalformedError, Scalar, Tree

DEEPEST = 32  # groups within groups: a parameter's name holds a slash or two
MOST_OBJECTS = 100_000
MOST_ATTRIBUTES = 64  # of one object
MOST_CHUNKS = 1_000_000
MOST_DIMENSIONS = 10
FREE_BYTES = 256 << 20  # arrays this large are taken from any file,
BYTES_PER_BYTE = 64  # and this many times the file's own size more: compression of NaN and zeros
FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
_LAYOUTS = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}


@dataclass
class _Found:
    """What was met so far, to bound it.

    Attributes
    ----------
    size
        Of the file, in bytes.
    left
        Bytes that its arrays and texts may still take.
    addresses
        Of the objects, which no two names may share.
    """

    size: int
    left: int
    addresses: set[int] = field(default_factory=set)


def extract(file: h5py.File, size: int) -> Tree:
    """Everything in an open file of that many bytes.

    Raises
    ------
    MalformedError
        For anything but plain numbers and texts, and for more of them than such a file can hold.
    """
    found = _Found(size, FREE_BYTES + BYTES_PER_BYTE * size)
    return _group(h5g.open(file.id, b"/"), "/", found, 0)


def _group(group: Any, path: str, found: _Found, depth: int) -> Tree:
    _enter(group, path, found)
    if depth > DEEPEST:
        raise MalformedError(f"groups lie more than {DEEPEST} deep in each other")
    if group.get_num_objs() + len(found.addresses) > MOST_OBJECTS:
        raise MalformedError(f"it holds more than {MOST_OBJECTS} objects")
    tree = Tree(attrs=_attributes(group, path, found))
    for raw in list(group):
        name = _text(raw)
        kind = group.links.get_info(raw).type
        if kind != h5l.TYPE_HARD:
            raise MalformedError(f"{path}{name} is {_LINKS.get(kind, 'a foreign kind of link')}")
        item = h5o.open(group, raw)
        if isinstance(item, h5g.GroupID):
            tree.groups[name] = _group(item, f"{path}{name}/", found, depth + 1)
        elif isinstance(item, h5d.DatasetID):
            _enter(item, f"{path}{name}", found)
            tree.arrays[name] = _array(item, f"{path}{name}", found)
            attributes = _attributes(item, f"{path}{name}", found)
            if attributes:
                tree.array_attrs[name] = attributes
        else:
            raise MalformedError(f"{path}{name} is neither a group nor a data set")
    return tree


def _enter(item: Any, path: str, found: _Found) -> None:
    address = int(h5o.get_info(item).addr)
    if address in found.addresses:
        raise MalformedError(f"{path} is another object of the file once more")
    found.addresses.add(address)


def _array(data: Any, path: str, found: _Found) -> Array:
    dtype = _number_type(data.get_type(), path)
    space = data.get_space()
    if space.get_simple_extent_type() not in (h5s.SIMPLE, h5s.SCALAR):
        raise MalformedError(f"{path} has no extent")
    shape = tuple(int(one) for one in space.get_simple_extent_dims())
    if len(shape) > MOST_DIMENSIONS:
        raise MalformedError(f"{path} has {len(shape)} dimensions")
    size = prod(shape) * dtype.itemsize
    _take(size, path, found)
    _check_storage(data, path, shape, dtype.itemsize, found.size)
    values: Array = np.empty(shape, dtype)
    if values.size:
        data.read(h5s.ALL, h5s.ALL, values)
    return values


def _number_type(kind: Any, path: str) -> np.dtype[Any]:
    """Numpy's type, where the file's is one of its numbers exactly."""
    if kind.committed():
        raise MalformedError(f"{path} has a named type")
    if not isinstance(kind, h5t.TypeIntegerID | h5t.TypeFloatID | h5t.TypeEnumID):
        raise MalformedError(f"{path} doesn't hold numbers")
    dtype: np.dtype[Any] = kind.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or not kind.equal(h5t.py_create(dtype)):
        raise MalformedError(f"{path} doesn't hold plain numbers of at most 64 bits")
    return dtype


def _check_storage(data: Any, path: str, shape: tuple[int, ...], item: int, file_size: int) -> None:
    """The values lie in this file, in full, through no filter but ours."""
    plan = data.get_create_plist()
    layout, size = plan.get_layout(), prod(shape) * item
    if layout not in _LAYOUTS or plan.get_external_count():
        raise MalformedError(f"the values of {path} lie in another file")
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if any(one not in FILTERS for one in filters) or len(set(filters)) < len(filters):
        raise MalformedError(f"{path} is packed by filters other than {', '.join(FILTERS.values())}")
    if layout == h5d.CHUNKED:
        _check_chunks(data, path, shape, tuple(plan.get_chunk()), item)
    elif data.get_storage_size() != size:
        raise MalformedError(f"{path} declares {size} bytes and holds {data.get_storage_size()}")
    elif layout == h5d.CONTIGUOUS and size and (data.get_offset() or file_size) + size > file_size:
        raise MalformedError(f"the values of {path} lie outside the file")


def _check_chunks(data: Any, path: str, shape: tuple[int, ...], chunk: tuple[int, ...], item: int) -> None:
    larger = any(one > whole for one, whole in zip(chunk, shape, strict=False))
    if len(chunk) != len(shape) or (larger and 0 not in shape):
        raise MalformedError(f"{path} is stored in pieces larger than itself")
    count: int = prod(-(-whole // one) for one, whole in zip(chunk, shape, strict=True))
    if count > MOST_CHUNKS or count != data.get_num_chunks():
        raise MalformedError(f"{path} lacks a part of its values")
    # What is packed may be a little larger than before, never much: else it unpacks to more than a piece.
    piece: int = prod(chunk)
    most = piece * item * 101 // 100 + 1024
    sizes: list[int] = []
    data.chunk_iter(lambda one: sizes.append(int(one.size)))
    if len(sizes) != count or max(sizes, default=0) > most:
        raise MalformedError(f"a piece of {path} is larger than its values")


def _attributes(item: Any, path: str, found: _Found) -> dict[str, Scalar]:
    count = h5a.get_num_attrs(item)
    if count > MOST_ATTRIBUTES:
        raise MalformedError(f"{path} has {count} attributes")
    values: dict[str, Scalar] = {}
    for number in range(count):
        attribute = h5a.open(item, index=number)
        name = _text(attribute.name)
        values[name] = _scalar(attribute, f"the attribute {name} of {path}", found)
    return values


def _scalar(attribute: Any, path: str, found: _Found) -> Scalar:
    if attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
        raise MalformedError(f"{path} isn't a single value")
    kind = attribute.get_type()
    if isinstance(kind, h5t.TypeStringID) and not kind.committed():
        return _string(attribute, kind, path, found)
    value = np.empty((), _number_type(kind, path))
    attribute.read(value)
    plain: Scalar = value.item()
    return plain


def _string(attribute: Any, kind: Any, path: str, found: _Found) -> str:
    """A text; h5py takes those of any length apart, others are read as bytes."""
    if kind.is_variable_str():
        held = np.empty((), h5t.string_dtype())
        attribute.read(held)
        value = held.item()
    else:
        _take(kind.get_size(), path, found)
        fixed = np.empty((), f"S{kind.get_size()}")
        attribute.read(fixed)
        value = fixed.item()
    text = _text(value) if isinstance(value, bytes) else str(value)
    _take(len(text), path, found)
    return text


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{raw[:40]!r} is no UTF-8") from error


def _take(size: int, path: str, found: _Found) -> None:
    found.left -= size
    if found.left < 0:
        raise MalformedError(f"{path} is larger than a file of {found.size} bytes can justify")
