"""Files that no program writes: sound ones with random changes, on three levels, and readers of each kind.

Bytes (flipped, cut, repeated, put in), which digests must notice; values inside a file whose digest was made
anew or left out; and whole trees of instructions for files of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import kinds_checkpoints
import kinds_results
import numpy as np
from crafted import Call, File, Name, Raw, Store, legacy, tensor
from hypothesis import strategies as st
from tiny_commands import SCALE, SPEC

from landscape.errors import UserError

Change = Callable[[bytes], bytes]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A sound file's content, its name, and what reads it."""

    content: bytes = field(repr=False)
    name: str
    read: Read = field(repr=False)


def judged(kind: Kind, content: bytes, folder: Path) -> str:
    """What of a reader's answer is wrong; "" for one line of error, and for a file that is taken."""
    path = folder / kind.name
    path.write_bytes(content)
    try:
        kind.read(path)
    except UserError as error:
        return f"more than a line: {error}" if "\n" in str(error) else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


NAMES = (
    *kinds_results.KINDS,
    *kinds_checkpoints.KINDS,
    *("robustness", "results", "spec", "scale", "config", "runs"),
)


@cache
def kinds(folder: Path) -> Mapping[str, Kind]:
    """Every kind of file, made in a folder."""
    from analysis.compare.read import read_results
    from analysis.hessian.spectrum_file import load_spectrum
    from analysis.robustness.robustness_file import read as read_robustness
    from figures.reproduce.scale import load_scale
    from landscape.commandline.command import _settings
    from landscape.files.runs_table import read_runs
    from landscape.surface import load_surface
    from training.sweep.plan import load_plan

    found = {}
    for name, make in (kinds_results.KINDS | kinds_checkpoints.KINDS).items():
        place = folder / name
        place.mkdir(parents=True)
        path, read = make(place)
        found[name] = Kind(path.read_bytes(), path.name, read)
    found["surface"] = Kind(found["surface"].content, "x.surface.h5", load_surface)
    found["hessian"] = Kind(found["hessian"].content, "x.hessian.h5", load_spectrum)
    found["robustness"] = Kind(_robustness(folder / "robustness"), "x.robustness.h5", read_robustness)
    found["results"] = Kind(found["sharpness"].content, "sharpness.json", read_results)
    for name, text, read in (
        ("spec", SPEC, lambda path: load_plan(str(path))),
        ("scale", SCALE, lambda path: load_scale(str(path))),
        (
            "config",
            "[surface]\npoints = 5\nmask = 'none'\n",
            lambda path: _settings(str(path), "landscape.surface"),
        ),
    ):
        found[name] = Kind(text.format(inputs=folder).encode(), f"{name}.toml", read)
    table = "run,state,seed,test_accuracy\na,finished,0,0.5\nb,failed,1,\n"
    found["runs"] = Kind(table.encode(), "results.csv", lambda path: read_runs(path, "remove it"))
    return found


def _robustness(folder: Path) -> bytes:
    from forking import Running
    from tiny_commands import WORKS, make_inputs, words_of

    (folder / "inputs").mkdir(parents=True)
    inputs = make_inputs(folder / "inputs", surfaces=False)
    work = WORKS["robustness"]
    ended = Running(work.module, words_of(work, inputs), folder / "work").ended()
    assert ended.code == 0, ended
    return next((folder / "work").rglob("*.h5")).read_bytes()


@st.composite
def changed_bytes(draw: st.DrawFn, kind: Kind) -> bytes:
    """A few changes of bytes."""
    found = bytearray(kind.content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        end = min(at + draw(st.integers(1, 64)), len(found))
        match draw(st.sampled_from(["flip", "cut", "end", "repeat", "put", "zero"])):
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del found[at:end]
            case "end":
                del found[at:]
            case "repeat":
                found[at:at] = found[at:end] * draw(st.integers(1, 3))
            case "put":
                found[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "zero":
                found[at:end] = bytes(end - at)
    return bytes(found)


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["", "..", "train", "/etc/passwd", "[" * 400, 10**400, -1, 2**31, 2**63, "nan"]),
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_json(draw: st.DrawFn, kind: Kind) -> bytes:
    """A JSON file of another content, without its digest."""
    return json.dumps(_without_digests(draw(_changed_tree(json.loads(kind.content))))).encode()


@st.composite
def _changed_tree(draw: st.DrawFn, tree: Any) -> Any:
    """The same tree with another value somewhere, a key less or a key more."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(tree)))
        if not draw(st.integers(0, 6)):
            return {name: one for name, one in tree.items() if name != key}
        return {**tree, key: draw(_changed_tree(tree[key]))}
    if isinstance(tree, list) and tree and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], draw(_changed_tree(tree[at])), *tree[at + 1 :]]
    return draw(NESTED)


def _without_digests(tree: Any) -> Any:
    return {key: one for key, one in tree.items() if "sha256" not in key} if isinstance(tree, dict) else tree


@st.composite
def changed_toml(draw: st.DrawFn, kind: Kind) -> bytes:
    """Lines left out, twice, with other values or of their own."""
    lines = kind.content.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition("=")[0]
        other = draw(NESTED.map(_toml) | st.text(max_size=8))
        lines[at : at + 1] = draw(
            st.sampled_from([[], [lines[at]] * 2, [f"{key}= {other}"], [lines[at], f"x = {other}"], [other]])
        )
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "replace")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value) if value is not None else "''"


ARRAYS = st.builds(
    lambda shape, kind, value: np.full(shape, str(value) if kind == h5py.string_dtype() else value, kind),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.sampled_from(["f8", "f4", "i8", "u1", "?", "c16", h5py.string_dtype()]),
    st.sampled_from([0, 1, 2, 7, 255]),
)


@st.composite
def changed_hdf5(draw: st.DrawFn, kind: Kind, folder: Path) -> bytes:
    """An HDF5 file with other attributes, arrays or members, and a digest that fits."""
    from landscape.hdf5.seal import LENGTH, seal_of

    path = folder / "changing.h5"
    path.write_bytes(kind.content[:-LENGTH])
    with h5py.File(path, "r+") as file:
        names = ["/"]
        file.visit(names.append)
        for _ in range(draw(st.integers(1, 2))):
            place = draw(st.sampled_from(names))
            if place not in file:
                continue
            draw(st.sampled_from([_attribute, _array, _gone]))(draw, file, place)
    changed = path.read_bytes()
    return changed + seal_of(changed)


def _attribute(draw: st.DrawFn, file: h5py.File, place: str) -> None:
    attributes = file[place].attrs
    name = draw(st.sampled_from([*sorted(attributes), "x"]))
    now = attributes.get(name)
    if isinstance(now, str) and now[:1] in "{[" and draw(st.booleans()):
        with suppress(ValueError):  # it was changed before, to such a text
            attributes[name] = json.dumps(draw(_changed_tree(json.loads(now))))
            return
    value = draw(
        st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.booleans(), ARRAYS, _TEXTS)
    )
    attributes[name] = value


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def _array(draw: st.DrawFn, file: h5py.File, place: str) -> None:
    if place == "/":
        return
    attributes = dict(file[place].attrs)
    del file[place]
    file[place] = draw(ARRAYS)
    file[place].attrs.update(attributes)


def _gone(draw: st.DrawFn, file: h5py.File, place: str) -> None:
    if place != "/":
        del file[place]


_NAMES = st.sampled_from(
    [
        Name("collections", "OrderedDict"),
        Name("torch._utils", "_rebuild_tensor_v2"),
        Name("torch._utils", "_rebuild_parameter"),
        Name("torch._utils", "_rebuild_sparse_tensor"),
        Name("torch.serialization", "_get_layout"),
        Name("numpy._core.multiarray", "_reconstruct"),
        Name("numpy", "dtype"),
        Name("numpy", "ndarray"),
        Name("torch", "FloatStorage"),
        Name("torch", "Size"),
        Name("torch", "device"),
        Name("builtins", "set"),
        Name("argparse", "Namespace"),
        Name("os", "system"),
    ]
)
_SMALL = st.integers(-2, 5) | st.sampled_from([1 << 31, 1 << 40, -(1 << 63)])
_TENSORS = st.builds(
    lambda size, stride, offset, key, count: tensor(size, stride, offset, Store(key, count)),
    st.lists(_SMALL, max_size=3).map(tuple),
    st.lists(_SMALL, max_size=3).map(tuple),
    _SMALL,
    st.sampled_from(["0", "1", ""]),
    _SMALL,
)
_TREES = st.recursive(
    st.one_of(PLAIN.filter(lambda one: one != 10**400), _TENSORS, _NAMES, st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["weight", "state_dict", "format", "a.b", ""]), inner, max_size=3),
        st.builds(Call, _NAMES, st.lists(inner, max_size=3).map(tuple), st.none() | inner),
    ),
    max_leaves=8,
)


@st.composite
def made_checkpoints(draw: st.DrawFn) -> bytes:
    """A file of tensors of any content, in one of two forms, sometimes with raw instructions in it."""
    content = draw(_TREES)
    if draw(st.booleans()):
        content = {"weight": tensor(), "beside": content}
    if not draw(st.integers(0, 5)):
        content = Raw(draw(st.binary(min_size=1, max_size=24)))
    return legacy(content) if draw(st.booleans()) else File(content).bytes


def changes(kind: Kind, folder: Path) -> st.SearchStrategy[bytes]:
    """Wrong contents for a kind of file."""
    found = [changed_bytes(kind)]
    if kind.name.endswith(".h5"):
        found.append(changed_hdf5(kind, folder))
    if kind.name.endswith(".json"):
        found.append(changed_json(kind))
    if kind.name.endswith((".toml", ".csv")):
        found.append(changed_toml(kind))
    if kind.name.endswith((".pt", ".pth")):
        found.append(made_checkpoints())
    return st.one_of(found)
