"""What a file holds, without HDF5: attributes, arrays and groups by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scalar = str | int | float | bool


class MalformedError(ValueError):
    """A file holds what its kind of file doesn't: the text says what, for the end of a sentence."""


class ForeignError(MalformedError):
    """The file is sound, but of another kind or version."""


@dataclass
class Tree:
    """A group.

    Attributes
    ----------
    attrs
        Texts and numbers.
    groups
        The groups in it.
    arrays
        The data sets in it.
    array_attrs
        Attributes of the data sets that have any.
    """

    attrs: dict[str, Scalar] = field(default_factory=dict)
    groups: dict[str, Tree] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    array_attrs: dict[str, dict[str, Scalar]] = field(default_factory=dict)

    def flat(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """Every array below, by its path from here."""
        for name, values in self.arrays.items():
            yield prefix + name, values
        for name, group in self.groups.items():
            yield from group.flat(f"{prefix}{name}/")


def pack(tree: Tree) -> tuple[bytes, list[Array]]:
    """A header, and the arrays whose bytes follow it in that order."""
    arrays: list[Array] = []
    return json.dumps(_packed(tree, arrays)).encode("ascii"), arrays


def unpack(header: bytes, read: Callable[[int], bytes]) -> Tree:
    """The tree of a header, with the arrays' bytes taken from `read` one after the other."""
    return _unpacked(json.loads(header), read)


def _packed(tree: Tree, arrays: list[Array]) -> dict[str, Any]:
    described = {}
    for name, values in tree.arrays.items():
        described[name] = [values.dtype.str, list(values.shape), tree.array_attrs.get(name, {})]
        arrays.append(values)
    groups = {name: _packed(group, arrays) for name, group in tree.groups.items()}
    return {"attrs": tree.attrs, "arrays": described, "groups": groups}


def _unpacked(content: Mapping[str, Any], read: Callable[[int], bytes]) -> Tree:
    tree = Tree(attrs=dict(content["attrs"]))
    for name, (kind, shape, attrs) in content["arrays"].items():
        dtype = np.dtype(kind)
        found = np.frombuffer(bytearray(read(dtype.itemsize * prod(shape))), dtype)
        tree.arrays[name] = found.reshape(shape)
        if attrs:
            tree.array_attrs[name] = attrs
    tree.groups = {name: _unpacked(one, read) for name, one in content["groups"].items()}
    return tree
