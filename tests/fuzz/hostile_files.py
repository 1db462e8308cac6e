"""Crafted checkpoints: by name the bytes, and what loading says ("" where the weights are right)."""

from __future__ import annotations

import json
import struct
from typing import Any

from crafted import STORAGE, Call, File, Name, Raw, Store, encoded, legacy, nested, shared, sparse, tensor

UTILS, ORDERED = "torch._utils", Name("collections", "OrderedDict")
HUGE = 1 << 40
GIB = 1 << 30
LONG = Name("torch", "LongStorage")
BOOL = Name("torch", "BoolStorage")
DAMAGED, CODE, LARGE = "truncated or damaged", "its pickle would run code", "more than a file of"
TOUCH = ("/tmp/never-to-be-made-by-a-checkpoint",)


def weights(value: Any, **more: Any) -> bytes:
    """A file whose one tensor is `value`."""
    return File({"weight": value, **more}).bytes


def beside(value: Any) -> bytes:
    """A file with good weights and something beside them."""
    return File({"state_dict": {"weight": tensor()}, "beside": value}).bytes


def numpy(code: Any, state: Any = None) -> Call:
    """A number type of NumPy."""
    return Call(Name("numpy", "dtype"), (code, False, True), state)


def scalar(kind: Any, content: Any) -> Call:
    """A number of NumPy."""
    return Call(Name("numpy._core.multiarray", "scalar"), (kind, content))


def array(shape: Any, kind: Any, content: Any) -> Call:
    """An array of NumPy."""
    make = Name("numpy._core.multiarray", "_reconstruct")
    return Call(make, (Name("numpy", "ndarray"), (0,), b"b"), (1, shape, kind, False, content))


def safetensors(header: Any, values: bytes = STORAGE) -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


INDICES = tensor((2, 1), (1, 1), 0, Store("1", 2, LONG))
ONE = tensor((1,), (1,), 0, Store("0", 4))
OBJECT = (3, "|", None, None, None, -1, -1, 63)
WHOLE = {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def coo(size: Any, stored: bytes = struct.pack("<2q", 1, 1), **parts: Any) -> bytes:
    """A file with a sparse tensor of one element."""
    content = sparse(parts.get("indices", INDICES), parts.get("values", ONE), size)
    return File({"weight": content}, {"0": STORAGE, "1": stored}).bytes


CALLS = {
    f"calls {module}.{name}": (
        weights(tensor(), evil=Call(Name(module, name), TOUCH)),
        f"wants {module}.{name}",
    )
    for module, name in (
        *(("os", "system"), ("posix", "system"), ("subprocess", "Popen"), ("builtins", "eval")),
        *(("builtins", "exec"), ("builtins", "open"), ("builtins", "getattr"), ("builtins", "__import__")),
        *(("torch", "load"), ("torch", "from_file"), ("torch.hub", "load"), ("torch.jit", "load")),
        *(("torch.serialization", "load"), ("numpy", "load"), ("numpy", "fromfile"), ("numpy", "memmap")),
        *(
            ("numpy.lib.npyio", "load"),
            ("pickle", "loads"),
            ("torch._dynamo", "optimize"),
            ("shutil", "rmtree"),
        ),
        *(("torch.storage", "_load_from_bytes"), ("torch.multiprocessing.reductions", "rebuild_storage_fd")),
        *(("torch._utils", "_element_size"), ("types", "FunctionType"), ("operator", "attrgetter")),
        *(
            ("__main__", "anything"),
            ("torch.ops", "load_library"),
            ("ctypes", "CDLL"),
            ("copyreg", "__newobj__"),
        ),
    )
}

FORMS_OF_CALLS = {
    "NEWOBJ of a foreign class": (
        weights(tensor(), x=Call(Name("os", "system"), TOUCH, opcode=b"\x81")),
        CODE,
    ),
    "INST": (weights(tensor(), x=Raw(b"(X\x01\x00\x00\x00aios\nsystem\n")), CODE),
    "OBJ": (weights(tensor(), x=Raw(b"(cos\nsystem\nX\x01\x00\x00\x00ao")), CODE),
    "STACK_GLOBAL": (
        weights(tensor(), x=Raw(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93X\x01\x00\x00\x00a\x85R")),
        CODE,
    ),
    "a foreign class with a state": (beside(Call(Name("a.b", "C"), (), {"x": 1})), "wants a.b.C"),
    "names with control characters": (
        beside(Raw(b"X\x02\x00\x00\x00osX\x05\x00\x00\x00\x1b[2Jx\x93)R")),
        "wants os.\\x1b[2Jx",
    ),
    "a call of a text": (beside(Raw(b"X\x01\x00\x00\x00a)R")), DAMAGED),
    "a call of a type of numbers": (beside(Call(Name("torch", "float32"))), DAMAGED),
    "a call of a storage class": (beside(Call(Name("torch", "FloatStorage"), (HUGE,))), DAMAGED),
    "a call of torch.Tensor": (beside(Call(Name("torch", "Tensor"), (HUGE,))), DAMAGED),
    "a call of a list": (beside(Call(Name("builtins", "list"), ((1,),))), DAMAGED),
    "a state for a class": (beside(Raw(b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb")), DAMAGED),
    "a state for a text": (beside(Raw(b"X\x01\x00\x00\x00a}b")), DAMAGED),
    "a Namespace with numbers for names": (beside(Call(Name("argparse", "Namespace"), (), {1: 2})), DAMAGED),
    "a subclass by os.system": (
        beside(Call(Name("torch._tensor", "_rebuild_from_type_v2"), (Name("os", "system"), 1, TOUCH, {}))),
        CODE,
    ),
    "an extension code": (beside(Raw(b"\x82\x01")), DAMAGED),
}

NUMPY = {
    "an object type and an address": (beside(scalar(numpy("O8", OBJECT), b"\x41" * 8)), ""),
    "an object type with flags 0": (beside(scalar(numpy("O8", (*OBJECT[:7], 0)), b"\x41" * 8)), ""),
    "a float type that becomes another": (
        beside(
            scalar(numpy("f8", (3, "|", None, ("a",), {"a": (numpy("O8"), 1 << 40)}, 8, 1, 0)), b"\0" * 8)
        ),
        "",
    ),
    "a field outside": (
        beside(scalar(numpy("V8", (3, "|", None, ("a",), {"a": (numpy("f8"), 4096)}, 8, 1, 0)), b"\0" * 8)),
        "",
    ),
    "a number too short": (beside(scalar(numpy("f8"), b"\0\0")), DAMAGED),
    "a number of a text": (beside(scalar(numpy("f8"), "12345678")), ""),
    "a number of no type": (beside(scalar("f8", b"\0" * 8)), ""),
    "an array of addresses": (beside(array((1,), numpy("O8", OBJECT), [b"A" * 8])), ""),
    "a huge array": (beside(array((HUGE,), numpy("f8"), b"\0" * 8)), ""),
    "an unheard-of type": (beside(numpy("f8" * 1000)), ""),
    "a record of objects": (beside(numpy([("a", "O")])), ""),
}

GEOMETRY = {
    "good": (weights(tensor()), ""),
    "a shape beyond the storage": (weights(tensor((2, 3), (3, 1))), DAMAGED),
    "an offset beyond the storage": (weights(tensor(offset=1)), DAMAGED),
    "a stride beyond the storage": (weights(tensor((2, 2), (HUGE, 1))), DAMAGED),
    "a negative offset": (weights(tensor(offset=-1)), DAMAGED),
    "a negative stride": (weights(tensor((2, 2), (-2, 1), 2)), DAMAGED),
    "a negative length": (weights(tensor((-2, -2))), DAMAGED),
    "an offset of 2**70": (weights(tensor(offset=1 << 70)), DAMAGED),
    "a fractional length": (weights(tensor((2.0, 2))), DAMAGED),
    "a truth value for a length": (weights(tensor((True, 2))), DAMAGED),
    "a text for a shape": (weights(tensor("22")), DAMAGED),
    "more strides than lengths": (weights(tensor((2, 2), (2, 1, 1))), DAMAGED),
    "a thousand dimensions": (weights(tensor((1,) * 1000, (1,) * 1000)), DAMAGED),
    "stride 0, a terabyte": (weights(tensor((HUGE,), (0,))), LARGE),
    "stride 0, 2**80 elements": (weights(tensor((HUGE, HUGE), (0, 0))), LARGE),
    "many views of a terabyte": (weights([tensor((1 << 24,), (0,)) for _ in range(64)]), LARGE),
    "no storage": (
        weights(Call(Name(UTILS, "_rebuild_tensor_v2"), (3, 0, (2,), (1,), False, None))),
        DAMAGED,
    ),
    "no arguments": (weights(Call(Name(UTILS, "_rebuild_tensor_v2"))), DAMAGED),
    "a parameter of a number": (weights(Call(Name(UTILS, "_rebuild_parameter"), (3, True, None))), DAMAGED),
    "elements of two types": (
        File({"weight": tensor(), "b": tensor((2,), (1,), 0, Store("0", 2, LONG))}).bytes,
        "fit none",
    ),
    "more elements than bytes": (weights(tensor(store=Store(count=5))), DAMAGED),
    "2**62 elements": (weights(tensor(store=Store(count=1 << 62))), DAMAGED),
    "a storage that isn't there": (weights(tensor(store=Store("7"))), DAMAGED),
    "a storage outside the archive": (weights(tensor(store=Store("../../data.pkl"))), DAMAGED),
    "no storage at all": (weights(tensor(store=Raw(b"X\x01\x00\x00\x00aQ"))), DAMAGED),
    "a part beyond its storage": (weights(tensor(store=Store(rest=(("v", 2, 9),)))), DAMAGED),
    "a truth value of 2": (
        File({"weight": tensor(store=Store("1", 4, BOOL))}, {"1": b"\0\1\2\1"}).bytes,
        "other numbers than 0 and 1",
    ),
    "a storage on a GPU": (weights(tensor(store=Store(place="cuda:7"))), ""),
    "big-endian": (File({"weight": tensor()}, more={"a/byteorder": b"big"}).bytes, "big-endian"),
}

KINDS = {
    "quantized": (weights(Call(Name(UTILS, "_rebuild_qtensor"), (Store(), 0))), "is a tensor quantized"),
    "meta": (
        weights(
            Call(
                Name(UTILS, "_rebuild_meta_tensor_no_storage"),
                (Name("torch", "float32"), (2, 2), (2, 1), False),
            )
        ),
        "on the device meta",
    ),
    "nested tensors": (
        weights(Call(Name(UTILS, "_rebuild_nested_tensor"), (tensor(), 1, 1, 1))),
        "is a tensor nested",
    ),
    "a wrapper": (weights(Call(Name(UTILS, "_rebuild_wrapper_subclass"), (1, 2))), "wraps others"),
    "a quantized storage": (
        weights(tensor(store=Store(kind=Name("torch", "QInt8Storage")))),
        "is a tensor quantized",
    ),
    "half a byte each": (
        weights(
            Call(
                Name(UTILS, "_rebuild_tensor_v3"),
                (
                    Store("0", 16, Name("torch.storage", "UntypedStorage")),
                    *(0, (2, 2), (2, 1), False, Call(ORDERED), Name("torch", "float4_e2m1fn_x2")),
                ),
            )
        ),
        "of type float4",
    ),
    "complex": (
        File(
            {"weight": tensor(store=Store("0", 4, Name("torch", "ComplexFloatStorage")))}, {"0": STORAGE * 2}
        ).bytes,
        "holds complex numbers",
    ),
    "8-bit whole numbers": (
        File({"weight": tensor(store=Store("0", 4, Name("torch", "CharStorage")))}, {"0": b"\1\2\3\4"}).bytes,
        "holds whole numbers",
    ),
    "NaN": (File({"weight": tensor()}, {"0": struct.pack("<4f", 1, float("nan"), 1, 1)}).bytes, "NaN"),
    "overflow in float32": (
        File(
            {"weight": tensor(store=Store("0", 4, Name("torch", "DoubleStorage")))},
            {"0": struct.pack("<4d", 1e300, 1, 1, 1)},
        ).bytes,
        "infinite",
    ),
    "sparse": (coo((2, 2)), "right"),
    "sparse, a terabyte": (coo((1 << 20, 1 << 20)), LARGE),
    "sparse, 2**80": (coo((HUGE, HUGE)), LARGE),
    "sparse, an index outside": (coo((2, 2), struct.pack("<2q", 1, 5)), DAMAGED),
    "sparse, a negative index": (coo((2, 2), struct.pack("<2q", -9, 1)), DAMAGED),
    "sparse, fractional indices": (coo((2, 2), indices=tensor((2, 1), (1, 1))), DAMAGED),
    "sparse, no indices": (coo((2, 2), indices=3), DAMAGED),
    "sparse, of another layout": (weights(sparse(INDICES, ONE, (2, 2), "torch.nothing")), DAMAGED),
    "sparse of rows, out of order": (
        File(
            {
                "weight": Call(
                    Name(UTILS, "_rebuild_sparse_tensor"),
                    (
                        Call(Name("torch.serialization", "_get_layout"), ("torch.sparse_csr",)),
                        (
                            tensor((3,), (1,), 0, Store("1", 4, LONG)),
                            tensor((1,), (1,), 3, Store("1", 4, LONG)),
                            ONE,
                            (2, 2),
                        ),
                    ),
                )
            },
            {"0": STORAGE, "1": struct.pack("<4q", 0, 9, -3, 77)},
        ).bytes,
        DAMAGED,
    ),
}

PICKLES = {
    "shared 2**60 times": (beside(shared(60)), "shared ones counted"),
    "shared 10**20 times": (beside(shared(20, 10)), "shared ones counted"),
    "contains itself": (beside(Raw(b"]q\x00h\x00a")), "contain themselves"),
    "a dict in itself": (File(Raw(b"}q\x00X\x05\x00\x00\x00modelh\x00s")).bytes, "contain themselves"),
    "lists 100,000 deep": (beside(nested(100_000)), "deeper than"),
    "tuples 100,000 deep": (beside(nested(100_000, b"(", b"t")), "deeper than"),
    "wrappers 5,000 deep": (
        File(Raw(b"}X\x05\x00\x00\x00model" * 5000 + b"}" + b"s" * 5000)).bytes,
        "deeper than",
    ),
    "deep tuples for a key": (beside(Raw(b"}" + b"(" * 50_000 + b"t" * 50_000 + b"K\x01s")), DAMAGED),
    "a list for a key": (beside(Raw(b"}]K\x01s")), DAMAGED),
    "a tensor for a key": (beside(Raw(b"}" + encoded(tensor()) + b"K\x01s")), DAMAGED),
    "keys made to collide": (beside({(1 << 61) * number: 1 for number in range(1, 50)}), DAMAGED),
    "an integer of 5 MB": (beside(Raw(b"\x8b" + struct.pack("<i", 5_000_000) + b"\x7f" * 5_000_000)), "bits"),
    "an integer of 10,000 digits": (beside(Raw(b"L" + b"9" * 10_000 + b"L\n")), DAMAGED),
    "3,000,000 lists": (beside(Raw(b"](" + b"]" * 3_000_000 + b"e")), "instructions"),
    "a text of 2 GB": (beside(Raw(b"X\xff\xff\xff\x7fa")), DAMAGED),
    "bytes of 2**60": (beside(Raw(b"\x8e" + struct.pack("<Q", 1 << 60))), DAMAGED),
    "an entry 4 billion of the memo": (beside(Raw(b"]r\xff\xff\xff\xffK\x01a")), ""),
    "an entry that isn't there": (beside(Raw(b"h\x77")), DAMAGED),
    "half of a surrogate pair": (beside("\ud800"), DAMAGED),
    "nothing on the stack": (File(Raw(b"0" * 10)).bytes, DAMAGED),
    "no mark": (beside(Raw(b"te")), DAMAGED),
    "entries for a list": (beside(Raw(b"]K\x01K\x02s")), DAMAGED),
    "copies of a long text": (
        beside(
            Raw(
                b"X"
                + struct.pack("<I", 1 << 20)
                + b"a" * (1 << 20)
                + b"q\x00X\x06\x00\x00\x00latin1q\x01(]"
                + b"c_codecs\nencode\nh\x00h\x01\x86Ra" * 5000
                + b"l"
            )
        ),
        LARGE,
    ),
    "copies of a long dict": (
        beside(
            Raw(
                b"]("
                + b"](X\x01\x00\x00\x00aK\x01e" * 20_000
                + b"eq\x00(]"
                + b"ccollections\nOrderedDict\nh\x00\x85Ra" * 5000
                + b"l"
            )
        ),
        LARGE,
    ),
    "an empty pickle": (File(Raw(b"")).bytes, DAMAGED),
    "a number": (File(3).bytes, "holds a int"),
    "a list of tensors": (File([tensor()]).bytes, "holds a list"),
}

NAMES = {
    "two names alike": (File({1: tensor(), "1": tensor()}).bytes, "names two tensors alike"),
    "a name of a megabyte": (File({"module." * 150_000: tensor()}).bytes, "a tensor's name of"),
    "a name with control characters": (
        File({"module.\x1b[2J\n": Call(Name(UTILS, "_rebuild_qtensor"))}).bytes,
        "'module.\\x1b[2J\\n' is a tensor quantized",
    ),
    "an architecture that is an expression": (
        File({"state_dict": {"weight": tensor()}, "arch": "resnet18(" + "(" * 9000}).bytes,
        "",
    ),
    "100,000 keys": (File({f"key{n}": n for n in range(100_000)}).bytes, "and 99988 more"),
    "a state beside tensors": (weights(tensor(), _extra_state={"a": 1}), "'_extra_state' beside its tensors"),
    "a negative variance": (
        File(
            {"weight": tensor(), "running_var": tensor((2,), (1,), 0, Store("1", 2))},
            {"0": STORAGE, "1": b"\0\0\x80\xbf" * 2},
        ).bytes,
        "fit none",
    ),
}


def packed_zeros(mebibytes: int, *, declared: int | None = None) -> bytes:
    """A file whose storage unpacks to so many zeros; its sizes may be said to be others."""
    count = mebibytes << 18
    content = File(
        {"weight": tensor((count,), (1,), 0, Store(count=count))}, {"0": bytes(4 * count)}, packed=True
    )
    whole = content.bytes
    return (
        whole
        if declared is None
        else whole.replace(struct.pack("<I", 4 * count), struct.pack("<I", declared))
    )


BOMBS = {
    "200 MiB of zeros": (packed_zeros(200), LARGE),
    "200 MiB of zeros, said to be 16 bytes": (packed_zeros(200, declared=16), DAMAGED),
    "1 MiB of zeros, said to be 3 GiB": (packed_zeros(1, declared=3 * GIB), DAMAGED),
}

LEGACY = {
    "good, legacy": (legacy({"weight": tensor()}), ""),
    "legacy, too many elements": (legacy({"weight": tensor(store=Store(count=1 << 50))}), DAMAGED),
    "legacy, the storage breaks off": (legacy({"weight": tensor()}, storages=b"\4" + b"\0" * 9), DAMAGED),
    "legacy, other keys": (legacy({"weight": tensor()}, keys=("1",)), DAMAGED),
    "legacy, a key twice": (legacy({"weight": tensor()}, keys=("0", "0")), DAMAGED),
    "legacy, a wrong count": (
        legacy({"weight": tensor()}, storages=struct.pack("<q", 1 << 60) + STORAGE),
        DAMAGED,
    ),
    "legacy, big-endian": (legacy({"weight": tensor()}, little_endian=False), "big-endian"),
    "legacy, code": (legacy({"weight": tensor(), "x": Call(Name("os", "system"), TOUCH)}), "wants os.system"),
    "legacy, 2**62 bytes announced": (
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"a.",
        DAMAGED,
    ),
    "legacy, an address of NumPy": (
        legacy({"state_dict": {"weight": tensor()}, "x": scalar(numpy("O8", (*OBJECT[:7], 0)), b"A" * 8)}),
        "",
    ),
    "legacy, a truth value of 3": (
        legacy({"weight": tensor(store=Store(kind=BOOL))}, storages=struct.pack("<q", 4) + b"\0\1\3\1"),
        "other numbers than 0 and 1",
    ),
}

SAFETENSORS = {
    "good safetensors": (safetensors(WHOLE), ""),
    "safetensors beyond the end": (
        safetensors({"weight": WHOLE["weight"] | {"data_offsets": [0, HUGE]}}),
        DAMAGED,
    ),
    "safetensors of another size": (
        safetensors({"weight": WHOLE["weight"] | {"shape": [HUGE, HUGE]}}),
        DAMAGED,
    ),
    "safetensors that overlap": (safetensors(WHOLE | {"b": WHOLE["weight"]}), DAMAGED),
    "safetensors, no JSON": (safetensors(b"{nothing"), DAMAGED),
    "safetensors, deep JSON": (safetensors(b'{"a":' + b"[" * 100_000), DAMAGED),
    "safetensors, a truth value of 2": (
        safetensors({"weight": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}, b"\0\1\2\1"),
        "other numbers than 0 and 1",
    ),
    "safetensors, a long header": (struct.pack("<Q", 90_000_000) + b"{" + b" " * 100, DAMAGED),
}

FILES: dict[str, tuple[bytes, str]] = {
    **CALLS,
    **FORMS_OF_CALLS,
    **{f"NumPy: {name}": one for name, one in NUMPY.items()},
    **GEOMETRY,
    **KINDS,
    **PICKLES,
    **NAMES,
    **BOMBS,
    **LEGACY,
    **SAFETENSORS,
}
