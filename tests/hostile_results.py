"""Files that no program of ours writes: sound surface and Hessian files, each changed in one way.

`surface_cases` and `hessian_cases` give names and changes; a change is applied to an HDF5 file that was
opened for writing. Every changed file must be refused in one line, within seconds and little memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Change = Callable[[h5py.File], None]
SPLIT = "planes/0/splits/test"
SECRET = b"SECRET values of another file " * 20


def edited(good: Path, target: Path, change: Change) -> Path:
    """A copy without its digest, as version 1 had none, with one change."""
    target.write_bytes(good.read_bytes())
    with h5py.File(target, "r+") as file:
        file.attrs["format_version"] = 1
        change(file)
    return target


def surface_cases(secret: Path) -> dict[str, Change]:
    """Changes to a surface file with one plane, the split "test" and the metrics loss and accuracy."""
    loss = f"{SPLIT}/loss"
    found = dict(_places_elsewhere("alpha", (3,), secret)) | dict(_places_elsewhere(loss, (3, 2), secret))
    found |= dict(_wrong_arrays(("alpha", "beta"), (3,)))
    found |= dict(_wrong_arrays((loss, f"{loss}_stderr", f"{loss}_blocks"), (3, 2)))
    found |= dict(_wrong_arrays(("planes/0/computed",), (3, 2), wrong=np.float64))
    found |= dict(_wrong_arrays((f"{SPLIT}/block_counts",), (4,), wrong=np.int32))
    found |= dict(_missing(("alpha", "beta", "planes", "planes/0/computed", loss, f"{loss}_stderr", SPLIT)))
    found |= dict(_attributes("/", _TOP)) | dict(_attributes("planes/0", _PLANE))
    found |= dict(_attributes(SPLIT, _SPLIT)) | dict(_attributes(loss, _METRIC))
    found |= {
        f"about {name} is {str(value)[:60]!r}": _json("/", "about", name, value) for name, value in _ABOUT
    }
    found |= {f"plane {name} is {value!r}": _json("planes/0", "about", name, value) for name, value in _MADE}
    found |= {
        f"settings {name} is {value!r}": _json("/", "settings", name, value) for name, value in _SETTINGS
    }
    found |= {
        "alpha descends": _values("alpha", [1.0, 0.0, -1.0]),
        "alpha repeats": _values("alpha", [0.0, 0.0, 1.0]),
        "alpha has a hole": _values("alpha", [-1.0, np.nan, 1.0]),
        "beta is infinite": _values("beta", [0.0, np.inf]),
        "loss -inf": _values(loss, np.full((3, 2), -np.inf)),
        "negative standard errors": _values(f"{loss}_stderr", np.full((3, 2), -1.0)),
        "accuracy of 3": _values(f"{SPLIT}/accuracy", np.full((3, 2), 3.0)),
        "negative accuracy": _values(f"{SPLIT}/accuracy", np.full((3, 2), -0.1)),
        "blocks of no examples": _values(f"{SPLIT}/block_counts", [4, 0, 0, 0]),
        "blocks of other examples": _values(f"{SPLIT}/block_counts", [1, 1, 1, 2]),
        "negative blocks": _values(f"{SPLIT}/block_counts", [-1, 3, 1, 1]),
        "plane without a number": lambda file: file.move("planes/0", "planes/first"),
        "planes from 1": lambda file: file.move("planes/0", "planes/1"),
        "no plane": lambda file: file["planes"].__delitem__("0"),
        "data among planes": lambda file: file["planes"].create_dataset("1", data=[1.0]),
        "other splits on another plane": _other_plane,
        "three directions": _directions,
        "a path without labels": lambda file: file.create_group("planes/0/path"),
    }
    return found


def hessian_cases(secret: Path) -> dict[str, Change]:
    """Changes to a Hessian file with eigenvalues at both ends and a density."""
    arrays = ("top/values", "top/residuals", "bottom/values", "density/known", "density/nodes")
    found = dict(_places_elsewhere("top/values", (2,), secret))
    found |= dict(_places_elsewhere("density/weights", (4,), secret))
    found |= dict(_wrong_arrays(arrays, (2,)))
    del found["density/known: nothing"]  # no eigenvalue may be known exactly
    found |= dict(_wrong_arrays(("top/converged",), (2,), wrong=np.float64))
    found |= dict(_wrong_arrays(("density/lengths",), (2,), wrong=np.float64))
    found |= dict(_missing(("top", "bottom", "trace", "frobenius", *arrays, "density/lengths")))
    found |= dict(_attributes("/", _HESSIAN)) | dict(_attributes("trace", _ESTIMATE))
    found |= {f"about {name} is {value!r}": _json("/", "about", name, value) for name, value in _TOLD}
    found |= {
        "top ascends": _values("top/values", [1.0, 2.0]),
        "bottom descends": _values("bottom/values", [-1.0, -2.0]),
        "an infinite eigenvalue": _values("top/values", [np.inf, 1.0]),
        "an eigenvalue that is none": _values("top/values", [np.nan, 1.0]),
        "negative residuals": _values("top/residuals", [-1.0, 0.0]),
        "negative weights": _values("density/weights", [1.5, -0.5, 0.5, 0.5]),
        "weights of 2": _values("density/weights", [1.0, 1.0, 0.5, 0.5]),
        "nodes that are none": _values("density/nodes", [np.nan, 1.0, 0.0, 1.0]),
        "lengths of other nodes": _values("density/lengths", [2, 3]),
        "a length of 0": _values("density/lengths", [4, 0]),
        "a huge length": _values("density/lengths", [2**62, 2**62]),
        "a negative length": _values("density/lengths", [-2, 6]),
        "known nowhere": _values("density/known", [np.nan]),
        "fewer weights than eigenvalues": lambda file: file.attrs.modify("n", 1),
        "a larger space than the network": lambda file: file.attrs.modify("full_size", 1),
        "negative Frobenius norm": lambda file: file["frobenius"].attrs.modify("value", -1.0),
        "a third direction": lambda file: file.create_group("top/directions/7"),
        "directions of texts": _texts_for_directions,
        "directions that are none": lambda file: file.create_dataset("top/directions/0/w", data=[np.nan]),
    }
    return found


_TOP: dict[str, tuple[Any, ...]] = {
    "format": ("sharpscape.checkpoint", 3, b"\xff"),
    "format_version": (-7, 0, 99, "one", 1.5, True, np.array([1, 1])),
    "complete": ("yes", 2, 0.5),
    "settings": ("{", "[]", "null", 3, "[" * 100_000, h5py.Empty("f")),
    "about": ("{", "[1]", '"text"', b"\xff"),
}
_PLANE: dict[str, tuple[Any, ...]] = {
    "about": ("", "[]"),
    "splits": ("[]", '["test", "test"]', '["other"]', "{}", "[1]", '["../test"]'),
}
_SPLIT: dict[str, tuple[Any, ...]] = {
    "examples": (-5, 0, "4", 4.5, 5, np.array([4])),
    "metrics": ("[]", '["accuracy"]', '["loss", "loss"]', '["loss", "other"]', "loss"),
}
_METRIC: dict[str, tuple[Any, ...]] = {"error": (-0.1, "0", True, 1j, np.zeros(2))}
_HESSIAN: dict[str, tuple[Any, ...]] = {
    "format": ("sharpscape.surface", 1),
    "format_version": (-7, 0, 99, "1"),
    "n": (0, -3, "3", 2.5),
    "examples": (0, -5, "4"),
    "products": (-1, 1.5),
    "seconds": (-1.0, "1"),
    "gradient_norm": (-1.0, True),
    "loss": ("1", 1j),
    "settings": ("{", "[]"),
    "about": ("null", "3"),
}
_ESTIMATE: dict[str, tuple[Any, ...]] = {"value": ("1", 1j), "stderr": (-1.0,), "error": (-1.0, "x")}
_ABOUT: tuple[tuple[str, Any], ...] = (
    ("label", 5),
    ("timing", "long"),
    ("timing", {"seconds": -1}),
    ("timing", {"seconds": "1", "points": 3}),
    ("units", ["nats"]),
    ("timing", {"seconds": 10**400}),
    ("timing", {"points": [3]}),
    ("checkpoint", 7),
    ("checkpoint", {"sha256": 5}),
    ("data", {"seed": "abc"}),
    ("curvature", {"test": {"9" * 5000: {}}}),
    ("curvature", {"test": {"00": {}}}),
    ("curvature", {"test": 1}),
    ("curvature", {"other": {"0": {}}}),
    ("curvature", {"test": {"4": {}}}),
    ("curvature", {"test": {"0": {"points": [[0, 0, 0, 0, 1, True]], "settings": {}, "seconds": 1}}}),
)
_MADE: tuple[tuple[str, Any], ...] = (
    ("density", 1.5),
    ("density", -0.1),
    ("density", "half"),
    ("density", True),
    ("seed", "0"),
    ("axes", "αβ"),
    ("axes", [1, 2]),
    ("kind", ["random"]),
    ("alpha_to", 3),
    ("interpolation", {"transform": {"test": "exec"}}),
    ("interpolation", {"transform": "log"}),
    ("interpolation", {"transform": None}),
    ("interpolation", 1),
)
_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("mask", "checkpoint"),
    ("mask", {"source": 3}),
    ("params", ["x"]),
    ("params", {"rule": "all"}),
    ("engine", []),
    ("sampling", 3),
    ("planes", []),
    ("planes", [3]),
)
_TOLD: tuple[tuple[str, Any], ...] = (
    ("label", []),
    ("mask", 3),
    ("checkpoint", 1.5),
    ("density_of_weights", 2),
    ("density_of_weights", "all"),
)


def _places_elsewhere(name: str, shape: tuple[int, ...], secret: Path) -> Iterator[tuple[str, Change]]:
    """Everything by which HDF5 takes a data set's values from somewhere else, or from nowhere."""
    size = 8 * int(np.prod(shape))

    def replaced(make: Callable[[h5py.File, str], object]) -> Change:
        def change(file: h5py.File) -> None:
            del file[name]
            make(file, name)

        return change

    def virtual(file: h5py.File, place: str) -> None:
        layout = h5py.VirtualLayout(shape, np.float64)
        layout[...] = h5py.VirtualSource(str(secret), "values", shape)
        file.create_virtual_dataset(place, layout)

    def committed(file: h5py.File, place: str) -> None:
        file["a type"] = np.dtype(np.float64)
        file.create_dataset(place, shape, file["a type"], data=np.ones(shape))

    def cycle(file: h5py.File, place: str) -> None:
        file[place] = np.ones(shape)
        file["round"] = file["/"]

    def bomb(file: h5py.File, place: str) -> None:
        file.create_dataset(place, (1 << 27,), np.float64, chunks=(1 << 22,), compression="gzip", fillvalue=0)
        file[place][: 1 << 22] = 0.0

    def large(kind: str) -> Callable[[h5py.File, str], object]:
        more: dict[str, dict[str, Any]] = {
            "chunked": {"chunks": (1024,)},
            "packed": {"chunks": (1 << 20,), "compression": "gzip"},
        }
        return lambda file, place: file.create_dataset(place, (10**10,), np.float64, **more.get(kind, {}))

    def lacking(file: h5py.File, place: str) -> None:
        data = file.create_dataset(place, shape, np.float64, chunks=(1,) * len(shape))
        data[(0,) * len(shape)] = 1.0

    def deep(file: h5py.File, place: str) -> None:
        file[place] = np.ones(shape)
        file.create_group("/".join("g" * 60))

    def linked(file: h5py.File, place: str) -> None:
        file["values elsewhere"] = np.ones(shape)
        file[place] = file["values elsewhere"]

    ways: dict[str, Callable[[h5py.File, str], object]] = {
        "external storage": lambda file, place: file.create_dataset(
            place, shape, np.float64, external=[(str(secret), 0, size)]
        ),
        "a virtual data set": virtual,
        "an external link": lambda file, place: file.__setitem__(place, h5py.ExternalLink(str(secret), "/x")),
        "a soft link": lambda file, place: file.__setitem__(place, h5py.SoftLink("/beta")),
        "a dangling soft link": lambda file, place: file.__setitem__(place, h5py.SoftLink("/nowhere")),
        "a second name": linked,
        "object references": lambda file, place: file.create_dataset(
            place, data=np.full(shape, file.ref, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype
        ),
        "a named type": committed,
        "a cycle of groups": cycle,
        "groups 60 deep": deep,
        "a foreign filter": lambda file, place: file.create_dataset(
            place, data=np.ones(shape), chunks=shape, scaleoffset=2
        ),
        "lzf": lambda file, place: file.create_dataset(place, data=np.ones(shape), compression="lzf"),
        "80 GB declared": large("contiguous"),
        "80 GB in pieces": large("chunked"),
        "80 GB packed": large("packed"),
        "a packed gigabyte of zeros": bomb,
        "a piece of the values": lacking,
        "a compound": lambda file, place: file.create_dataset(place, data=np.zeros(shape, "f8,i4")),
        "long floats": lambda file, place: file.create_dataset(place, data=np.zeros(shape, np.longdouble)),
    }
    for how, make in ways.items():
        yield f"{name}: {how}", replaced(make)


def _wrong_arrays(
    names: tuple[str, ...], shape: tuple[int, ...], wrong: type = np.float32
) -> Iterator[tuple[str, Change]]:
    values = {
        "another type": np.ones(shape, wrong),
        "complex": np.ones(shape, np.complex128),
        "texts": np.full(shape, "x", dtype=h5py.string_dtype()),
        "no dimension": np.float64(1),
        "nothing": np.zeros((0,) * len(shape)),
        "another shape": np.ones((*shape, 2)),
    }
    for name in names:
        for what, array in values.items():
            yield f"{name}: {what}", _data(name, array)
        yield f"{name}: a group", _data(name, None)
        yield f"{name}: no extent", _data(name, h5py.Empty("f8"))


def _missing(names: tuple[str, ...]) -> Iterator[tuple[str, Change]]:
    for name in names:
        yield f"{name} is missing", lambda file, name=name: file.__delitem__(name)  # type: ignore[misc]


def _attributes(place: str, cases: dict[str, tuple[Any, ...]]) -> Iterator[tuple[str, Change]]:
    def without(name: str) -> Change:
        return lambda file: file[place].attrs.__delitem__(name)

    def becomes(name: str, value: Any) -> Change:
        return lambda file: file[place].attrs.__setitem__(name, value)

    for name, values in cases.items():
        yield f"{place} without {name}", without(name)
        for value in values:
            yield f"{place} {name} is {str(value)[:20]!r} ({type(value).__name__})", becomes(name, value)


def _data(name: str, array: Any) -> Change:
    def change(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        if array is None:
            file.create_group(name)
        else:
            file[name] = array
        file[name].attrs.update(attributes)

    return change


def _values(name: str, values: Any) -> Change:
    return _data(name, np.asarray(values, np.int64 if name.endswith(("counts", "lengths")) else np.float64))


def _json(place: str, attribute: str, name: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        attrs = file[place].attrs
        attrs[attribute] = json.dumps(json.loads(attrs[attribute]) | {name: value})

    return change


def _other_plane(file: h5py.File) -> None:
    file.copy("planes/0", "planes/1")
    file.move("planes/1/splits/test", "planes/1/splits/train")
    file["planes/1"].attrs["splits"] = '["train"]'


def _directions(file: h5py.File) -> None:
    for number in range(3):
        file[f"planes/0/directions/{number}/w"] = np.ones(2)


def _texts_for_directions(file: h5py.File) -> None:
    file.create_dataset("top/directions/0/w", data=np.array(["x"], dtype=h5py.string_dtype()))
