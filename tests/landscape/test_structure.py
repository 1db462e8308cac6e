"""Batches of any structure are moved, cut and told apart by all that they hold."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from landscape.examples import Examples
from landscape.examples.structure import cut, map_tensors, tensors_in


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Tensor
    note: str = "a"


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Tensor
    more: Any = None


Named = namedtuple("Named", ["x", "name"])


class Graph:
    def __init__(self, x: Tensor) -> None:
        self.stores = [{"x": x}]
        self.parent = self


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, 1),
    "list of dicts": lambda x: [{"x": x}, {"y": torch.zeros(1)}],
    "named tuple": lambda x: Named(x, "a"),
    "ordered dict": lambda x: OrderedDict(x=x),
    "default dict": lambda x: defaultdict(list, x=x),
    "user dict": lambda x: UserDict(x=x),
    "user dict in a list": lambda x: [UserDict(x=UserDict(x=x))],
    "frozen data class": Frozen,
    "data class with slots": Slotted,
    "nested": lambda x: Slotted(torch.zeros(1), (Frozen(x), [UserDict(x=x)])),
    "namespace": lambda x: SimpleNamespace(x=x),
    "object with a cycle": Graph,
    "packed sequence": lambda x: pack_sequence([x, x[:1]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_moved_and_told_apart(name: str) -> None:
    make = STRUCTURES[name]
    given = make(torch.ones(2, dtype=torch.float64))
    count = len(tensors_in(given))
    digests = {Examples.from_batches([make(torch.full((2,), value))]).digest() for value in (1.0, 1.0, 2.0)}
    assert len(digests) == 2
    (moved,) = Examples.from_batches([given]).to("cpu", torch.float32).batches(1)
    assert type(moved) is type(given)
    found = tensors_in(moved)
    assert len(found) == count
    assert any(one.dtype == torch.float32 and one.numel() >= 2 for one in found)
    assert not any(one.dtype == torch.float64 for one in found)
    assert any(one.dtype == torch.float64 for one in tensors_in(given))  # the user's stay as they are


def test_all_that_a_batch_holds_is_part_of_it() -> None:
    x, y = torch.ones(2), torch.zeros(2)
    pairs: list[tuple[Any, Any]] = [
        ({"x": x, "y": y}, {"y": x, "x": y}),
        ({"x": x, "scale": 1.0}, {"x": x, "scale": 2.0}),
        ((x, ["a", "b"]), (x, ["a", "c"])),
        ((x, np.zeros(2)), (x, np.ones(2))),
        (Frozen(x), Frozen(x, "b")),
        (Slotted(x, 1), Slotted(x, 2)),
        (SimpleNamespace(x=x, k=1), SimpleNamespace(x=x, k=2)),
        (UserDict(a=x), UserDict(b=x)),
        (np.zeros(3), np.ones(3)),
    ]
    for one, other in pairs:
        assert Examples.from_batches([one]).digest() != Examples.from_batches([other]).digest()
        assert Examples.from_batches([one]).digest() == Examples.from_batches([one]).digest()


def test_digests_of_plain_tensors_are_those_of_older_files() -> None:
    x, y = torch.arange(6.0).reshape(3, 2), torch.arange(3)
    assert Examples.from_tensors(x, y).digest() == "023045e79d7a6804"
    assert Examples.from_batches([(x, y)]).digest() == Examples.from_tensors(x, y).digest()


def test_halves() -> None:
    x = torch.arange(5)
    batch = {"x": x, "pair": (x, x + 1), "names": list("abcde"), "k": 3, "array": np.arange(5)}
    halves = cut(batch)
    assert halves is not None
    first, rest = halves
    assert first["x"].tolist() == [0, 1]
    assert rest["x"].tolist() == [2, 3, 4]
    assert (first["names"], rest["names"]) == (["a", "b"], ["c", "d", "e"])
    assert first["pair"][1].tolist() == [1, 2]
    assert rest["array"].tolist() == [2, 3, 4]
    assert first["k"] == 3
    halves = cut([UserDict(x=x), Frozen(x)])
    assert halves is not None
    assert halves[0][0]["x"].tolist() == halves[0][1].x.tolist() == [0, 1]
    assert cut((x, torch.zeros(2, 7))) is None  # a graph's edges, say
    assert cut((x[:1],)) is None


def test_parts_without_tensors_stay_the_same_objects() -> None:
    note = object()
    value = {"x": torch.ones(1), "note": note, "names": ["a"]}
    changed = map_tensors(value, lambda one: one + 1)
    assert changed["note"] is note
    assert changed["names"] is value["names"]
    assert isinstance(map_tensors(pack_sequence([torch.ones(2)]), lambda one: one + 1), PackedSequence)
