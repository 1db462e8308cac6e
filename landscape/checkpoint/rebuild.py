"""Tensors and plain values from the numbers in a pickle; every number is checked before torch sees it."""

from __future__ import annotations

import argparse
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from landscape.checkpoint.unpickle import Global, Opaque
from landscape.files.archives import MIB, Allowance, UnreadableError

FREE_BYTES = 256 * MIB
BYTES_PER_BYTE = 64
"""What the tensors of a file may take when each is dense and by itself: sparse ones and views take more than
their share of the file."""

_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
}
_DTYPES = {f"torch.{name}": one for name, one in vars(torch).items() if isinstance(one, torch.dtype)}
_PLAIN_DTYPES = {*_STORAGES.values(), torch.complex32, torch.uint16, torch.uint32, torch.uint64} | {
    one for name, one in _DTYPES.items() if re.match(r"torch\.float8_", name)
}
_LAYOUTS = {
    f"torch.{name}": getattr(torch, name)
    for name in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
}
_MOST_DIMENSIONS = 64
_LONGEST = 1 << 48
_NUMPY_CODE = re.compile(r"(b1|[iu][1248]|f[248]|c(8|16))")


class Storage:
    """Bytes of a file that tensors are views of; `dtype` is None where the tensors say it."""

    __slots__ = ("dtype", "raw")

    def __init__(self, raw: Tensor, dtype: torch.dtype | None) -> None:
        self.raw, self.dtype = raw, dtype


class NoValues:
    """A tensor that a file describes and that can't be had as numbers; `kind` says why."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _NumpyType:
    """A number type of NumPy: never NumPy's own constructor, whose state may name addresses."""

    __slots__ = ("code", "order")

    def __init__(self, code: str | None) -> None:
        self.code, self.order = code, "<"


class Bytes(Protocol):
    """Where the bytes of storages come from."""

    def storage(self, key: str, size: int, part: tuple[int, int] | None) -> Tensor:
        """The `size` bytes of a storage as uint8 ``[size]``; of legacy views the `part` (begin, end)."""


class Rebuilder:
    """The table of calls for `unpickle`, and the tensors that came of them.

    Parameters
    ----------
    source
        Reads storages.
    size
        Bytes of the file.
    scripted
        Whether classes of TorchScript may be named: they are never made, their state is kept.
    """

    def __init__(self, source: Bytes, size: int, *, scripted: bool = False) -> None:
        self._source, self._scripted = source, scripted
        self._dense = Allowance(size, FREE_BYTES, BYTES_PER_BYTE)
        self._copies = Allowance(size)
        self._later: list[Callable[[], None]] = []

    def known(self, name: str) -> bool:
        """Whether a file may name this class or function."""
        return (
            name in _CALLS
            or name in _DTYPES
            or _PLAIN.fullmatch(name) is not None
            or (self._scripted and name.startswith("__torch__."))
        )

    def call(self, name: str, arguments: tuple[Any, ...]) -> object:
        """The value of a call; raises UnreadableError for arguments that don't fit."""
        if name.startswith("__torch__."):
            return Opaque(name)
        if name not in _CALLS:
            raise UnreadableError(f"its pickle calls {name}, which is no function")
        return _CALLS[name](self, arguments)

    def build(self, target: object, state: object) -> object:
        """Apply the state to what a call made; returns the target."""
        if isinstance(target, _NumpyType):
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
                target.order = "<" if state[1] in "|=" else state[1]
        elif isinstance(target, argparse.Namespace):
            if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
                raise UnreadableError("its pickle is malformed: a Namespace without names")
            vars(target).update(state)
        elif isinstance(target, Opaque):
            target.state = state
        elif not isinstance(target, (OrderedDict, Tensor, NoValues)):  # these have nothing that we need
            raise UnreadableError(f"its pickle is malformed: a state for a {type(target).__name__}")
        return target

    def persistent(self, identity: object) -> object:
        """The storage that ``("storage", type, key, place, elements[, part])`` names."""
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6:
            raise UnreadableError("its pickle is malformed: a reference to what is no storage")
        tag, kind, key, _, count, *rest = identity
        if not isinstance(kind, Global) or _text(tag) != "storage":
            raise UnreadableError("its pickle is malformed: a reference to what is no storage")
        name = kind.name.rpartition(".")[2].removesuffix("Storage")
        dtype = None if name == "Untyped" else _STORAGES.get(name)
        if dtype is None and name != "Untyped":
            return NoValues("quantized" if name.startswith("Q") else f"of type {name}")
        _whole(count, "elements of a storage")
        item = 1 if dtype is None else dtype.itemsize
        part = None
        if rest and rest[0] is not None:
            _, begin, length = rest[0]
            _whole(begin, "start of a storage's part")
            _whole(length, "length of a storage's part")
            part = (begin * item, (begin + length) * item)
        return Storage(self._source.storage(_text(key), count * item, part), dtype)

    def view(self, storage: object, dtype: torch.dtype | None, offset: Any, size: Any, stride: Any) -> object:
        """A tensor of the given geometry over a storage; nothing is copied."""
        if isinstance(storage, NoValues):
            return storage
        if not isinstance(storage, Storage):
            raise UnreadableError("its pickle is malformed: a tensor without a storage")
        dtype = dtype or storage.dtype
        if dtype is None or dtype not in _PLAIN_DTYPES:
            return NoValues(f"of type {str(dtype).removeprefix('torch.')}")
        size, stride = _lengths(size), _lengths(stride)
        _whole(offset, "offset of a tensor")
        elements = storage.raw.numel() // dtype.itemsize
        count = math.prod(size)
        if len(size) != len(stride):
            raise UnreadableError(f"a tensor of {len(size)} dimensions has {len(stride)} strides")
        if not count:
            return torch.empty(size, dtype=dtype)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if last >= elements:
            raise UnreadableError(
                f"a tensor of shape {_short(size)} reaches beyond its {elements} stored elements"
            )
        self._dense.take(count * dtype.itemsize, f"a tensor of shape {_short(size)}")
        typed = storage.raw[: elements * dtype.itemsize].view(dtype)
        if dtype == torch.bool:
            self._later.append(lambda: _check_bool(storage.raw))
        return typed.as_strided(size, stride, offset)

    def sparse(self, layout: Any, parts: Any) -> object:
        """A sparse tensor, whose indices are checked once all bytes are there."""
        kind = layout if isinstance(layout, torch.layout) else None
        if kind is None or not isinstance(parts, tuple):
            raise UnreadableError("its pickle is malformed: a sparse tensor of no known layout")
        count = 2 if kind == torch.sparse_coo else 3
        if len(parts) < count + 1:
            raise UnreadableError("its pickle is malformed: a sparse tensor without its parts")
        pieces, size = parts[:count], _lengths(parts[count])
        if any(isinstance(one, NoValues) for one in pieces):
            return next(one for one in pieces if isinstance(one, NoValues))
        if not all(isinstance(one, Tensor) and one.layout == torch.strided for one in pieces):
            raise UnreadableError("its pickle is malformed: a sparse tensor without its parts")
        values: Tensor = pieces[-1]
        self._dense.take(math.prod(size) * values.itemsize, f"a sparse tensor of shape {_short(size)}")

        def make(check: bool) -> Tensor:
            if kind == torch.sparse_coo:
                return torch.sparse_coo_tensor(pieces[0], values, size, check_invariants=check)
            return torch.sparse_compressed_tensor(
                pieces[0], pieces[1], values, size, layout=kind, check_invariants=check
            )

        self._later.append(lambda: _discard(make(True)))
        return make(False)

    def take(self, count: int, what: str) -> None:
        """Set bytes aside that a call copies."""
        self._copies.take(count, what)

    def finish(self) -> None:
        """Check what only the bytes themselves can tell; to be called once all are there."""
        for check in self._later:
            check()


def check_bools(tensors: Mapping[str, Tensor]) -> None:
    """Refuse truth values that are neither 0 nor 1, with which every kernel does something else."""
    for value in tensors.values():
        if value.dtype == torch.bool:
            _check_bool(value.contiguous().view(torch.uint8))


def _check_bool(raw: Tensor) -> None:
    if raw.numel() and int(raw.max()) > 1:
        raise UnreadableError("a tensor of truth values holds other numbers than 0 and 1")


def _discard(_: Tensor) -> None: ...


def _whole(value: Any, what: str) -> None:
    if type(value) is not int or not 0 <= value < _LONGEST:
        raise UnreadableError(f"its pickle is malformed: the {what} is {str(value)[:40]!r}")


def _lengths(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_DIMENSIONS:
        raise UnreadableError("its pickle is malformed: a tensor without a shape")
    for length in value:
        _whole(length, "length of a tensor")
    return tuple(value)


def _short(size: tuple[int, ...]) -> str:
    return str(list(size)) if len(size) <= 6 else f"{str(list(size[:6]))[:-1]}, …]"


def _text(value: Any) -> str:
    if isinstance(value, bytes):  # Python 2 wrote them
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _get(arguments: tuple[Any, ...], *places: int) -> list[Any]:
    if len(arguments) <= max(places):
        raise UnreadableError("its pickle is malformed: a call without its arguments")
    return [arguments[place] for place in places]


def _dtype(value: Any) -> torch.dtype:
    found = _DTYPES.get(value.name) if isinstance(value, Global) else None
    if found is None:
        raise UnreadableError("its pickle is malformed: a tensor of no known type")
    return found


def _tensor(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    storage, offset, size, stride = _get(arguments, 0, 1, 2, 3)
    return _flagged(one.view(storage, None, offset, size, stride), arguments[6:7])


def _typed_tensor(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    storage, offset, size, stride, dtype = _get(arguments, 0, 1, 2, 3, 6)
    return _flagged(one.view(storage, _dtype(dtype), offset, size, stride), arguments[7:8])


def _flagged(tensor: object, flags: tuple[Any, ...]) -> object:
    """The tensor with the flags of lazy conjugation and negation that were stored beside it."""
    if isinstance(tensor, Tensor) and flags and isinstance(flags[0], dict):
        if flags[0].get("conj") and tensor.is_complex():
            tensor = tensor.conj()
        if flags[0].get("neg"):
            tensor = torch._neg_view(tensor)
    return tensor


def _first_tensor(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    (tensor,) = _get(arguments, 0)
    if not isinstance(tensor, (Tensor, NoValues)):
        raise UnreadableError("its pickle is malformed: a parameter without a tensor")
    return tensor


def _of_subclass(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    function, _, inner = _get(arguments, 0, 1, 2)
    if not isinstance(function, Global) or not isinstance(inner, tuple):
        raise UnreadableError("its pickle is malformed: a tensor of no known class")
    return one.call(function.name, inner)


def _sparse(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    return one.sparse(*_get(arguments, 0, 1))


def _layout(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    return _LAYOUTS.get(_text(arguments[0]) if arguments else "")


def _without_values(kind: str) -> Callable[[Rebuilder, tuple[Any, ...]], object]:
    return lambda _, __: NoValues(kind)


def _numpy_type(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    code = _text(arguments[0]) if arguments else ""
    return _NumpyType(code if _NUMPY_CODE.fullmatch(code) else None)


def _numpy_scalar(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    """A number of NumPy as Python's, from its bytes; other kinds stay unmade."""
    kind, content = (*arguments, None)[:2] if arguments else (None, None)
    if not isinstance(kind, _NumpyType) or kind.code is None or not isinstance(content, bytes):
        return Opaque("numpy.generic")
    if len(content) != int(kind.code[1:]):
        raise UnreadableError(f"a number of type {kind.code} has {len(content)} bytes")
    return np.frombuffer(content, f"{kind.order}{kind.code}")[0].item()


def _unmade(name: str) -> Callable[[Rebuilder, tuple[Any, ...]], object]:
    return lambda _, __: Opaque(name)


def _encoded(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    text, *coding = arguments or (None,)
    if not isinstance(text, str) or _text((coding or ["utf-8"])[0]) not in (
        "latin1",
        "latin-1",
        "utf-8",
        "utf8",
    ):
        raise UnreadableError("its pickle is malformed: bytes that are no text")
    one.take(len(text), "a copy of a text")
    return text.encode("latin-1" if coding and _text(coding[0]).startswith("latin") else "utf-8")


def _dict(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    """Of nothing, of another dict (Counter), or of pairs as Python 2 wrote them."""
    inner = arguments[0] if arguments else ()
    pairs = list(inner.items()) if isinstance(inner, dict) else inner
    if not isinstance(pairs, (list, tuple)):
        return OrderedDict()  # a defaultdict's argument makes values and is none
    one.take(100 * len(pairs), "a copy of a dict")
    made: OrderedDict[Any, Any] = OrderedDict()
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], (str, int)):
            raise UnreadableError("its pickle is malformed: a dict of what are no pairs")
        made[pair[0]] = pair[1]
    return made


def _copied(kind: Callable[[Any], object]) -> Callable[[Rebuilder, tuple[Any, ...]], object]:
    def make(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
        inner = arguments[0] if arguments else ()
        if not isinstance(inner, (list, tuple)) or not all(
            isinstance(part, (str, int, float)) for part in inner
        ):
            raise UnreadableError("its pickle is malformed: a set of what is no list")
        if len(inner) and any(isinstance(part, int) and abs(part) >= 1 << 61 for part in inner):
            raise UnreadableError("its pickle has a set of very large integers")
        one.take(64 * len(inner), "a copy of a set")
        return kind(inner)

    return make


def _path(one: Rebuilder, arguments: tuple[Any, ...]) -> object:
    text = "/".join(_text(part) for part in arguments)
    one.take(len(text), "a path")
    return text


def _complex(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    if len(arguments) != 2 or not all(isinstance(part, (int, float)) for part in arguments):
        raise UnreadableError("its pickle is malformed: a complex number without its parts")
    return complex(*arguments)


def _same(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    return arguments[0] if arguments else ()


def _namespace(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    return argparse.Namespace()


def _reconstructed(_: Rebuilder, arguments: tuple[Any, ...]) -> object:
    kind = arguments[0] if arguments else None
    if isinstance(kind, Global) and kind.name == "argparse.Namespace":
        return argparse.Namespace()
    raise UnreadableError("its pickle rebuilds an object of no known class")


_PLAIN = re.compile(
    r"torch(\.cuda|\.storage)?\.\w+Storage|torch\.(Tensor|per_\w+_\w+)|torch\._tensor\.Tensor|torch\.nn\.parameter\.Buffer|"
    r"numpy\.(ndarray|dtypes\.\w+)|builtins\.(object|dict|list|int|float|str|bool|bytes)"
)
"""Names that stand as arguments beside calls; calling them isn't known."""

_Call = Callable[[Rebuilder, tuple[Any, ...]], object]
_CALLS: Mapping[str, _Call] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first_tensor,
    "torch._utils._rebuild_parameter_with_state": _first_tensor,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first_tensor,
    "torch.nn.parameter.Parameter": _first_tensor,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _without_values("quantized"),
    "torch._utils._rebuild_meta_tensor_no_storage": _without_values("on the device meta, without values"),
    "torch._utils._rebuild_nested_tensor": _without_values("nested"),
    "torch._utils._rebuild_wrapper_subclass": _without_values("of a class that wraps others"),
    "torch._utils._rebuild_device_tensor_from_numpy": _without_values("an array of NumPy"),
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.serialization._get_layout": _layout,
    "torch.Size": _same,
    "torch.device": _path,
    "torch.jit._pickle.restore_type_tag": _same,
    **{f"torch.jit._pickle.build_{kind}list": _same for kind in ("int", "double", "bool", "tensor")},
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": _dict,
    "builtins.set": _copied(set),
    "builtins.frozenset": _copied(frozenset),
    "builtins.complex": _complex,
    "builtins.bytearray": _unmade("bytearray"),
    "builtins.slice": _unmade("slice"),
    "builtins.range": _unmade("range"),
    "_codecs.encode": _encoded,
    "_io.BytesIO": _unmade("io.BytesIO"),
    "argparse.Namespace": _namespace,
    "copyreg._reconstructor": _reconstructed,
    **{f"pathlib.{kind}Path": _path for kind in ("", "Posix", "Windows", "PurePosix", "PureWindows")},
    **{f"pathlib._local.{kind}Path": _path for kind in ("", "Posix", "Windows")},
    **{f"datetime.{kind}": _unmade(f"datetime.{kind}") for kind in ("datetime", "date", "timedelta")},
    "numpy.dtype": _numpy_type,
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _unmade("numpy.ndarray") for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _unmade("numpy.ndarray") for core in ("core", "_core")},
}
