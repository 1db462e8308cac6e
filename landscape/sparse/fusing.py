"""Operations grouped for one pass each: a convolution with the batch norm, the sum and the ReLU after it."""

from __future__ import annotations

from dataclasses import dataclass

from landscape.sparse.layout import Border
from landscape.sparse.trace import Operation, Traced


@dataclass(frozen=True)
class Group:
    """What one pass computes.

    Attributes
    ----------
    first, end
        Numbers of the first and the last operation; `end` names the result.
    norm
        Name of the batch norm that is folded, or "".
    added
        Number of the operation whose result is added, or None.
    relu
        Whether a ReLU ends it.
    """

    first: int
    end: int
    norm: str = ""
    added: int | None = None
    relu: bool = False

    def sources(self, traced: Traced) -> list[int]:
        """Numbers of the operations that it reads."""
        found = list(traced.operations[self.first].inputs)
        return found if self.added is None else [*found, self.added]


def group(traced: Traced) -> list[Group]:
    """Groups in an order in which they can run."""
    readers = traced.readers()
    taken: set[int] = set()
    found = []
    for number, one in enumerate(traced.operations):
        if one.kind not in ("convolution", "norm", "add", "relu") or number in taken:
            continue
        made = _from(traced, readers, taken, number)
        found.append(made)
    alone = [
        Group(number, number)
        for number, one in enumerate(traced.operations)
        if one.kind not in ("convolution", "norm", "add", "relu")
    ]
    return sorted([*found, *alone], key=lambda one: one.end)


def _from(traced: Traced, readers: list[list[int]], taken: set[int], first: int) -> Group:
    """The longest group that starts with an operation."""
    operations = traced.operations
    end, norm, added, relu = first, "", None, operations[first].kind == "relu"

    def reader(kinds: tuple[str, ...]) -> int | None:
        """The operation that alone reads what there is so far."""
        if len(readers[end]) != 1 or end == traced.output:
            return None
        place = readers[end][0]
        return place if operations[place].kind in kinds and place not in taken else None

    if operations[first].kind == "norm":
        norm = operations[first].module
    elif operations[first].kind == "convolution" and (place := reader(("norm",))) is not None:
        norm, end = operations[place].module, place
        taken.add(place)
    if operations[first].kind == "add":
        added = operations[first].inputs[1]
    elif not relu and (place := reader(("add",))) is not None and len(set(operations[place].inputs)) == 2:
        added = next(one for one in operations[place].inputs if one != end)
        end = place
        taken.add(place)
    if not relu and (place := reader(("relu",))) is not None:
        relu, end = True, place
        taken.add(place)
    taken.add(first)
    return Group(first, end, norm, added, relu)


def borders(traced: Traced) -> list[Border]:
    """Zeros that the readers of each operation's result need around it."""
    found = [Border() for _ in traced.operations]
    for one in traced.operations:
        if one.kind == "convolution":
            (source,) = one.inputs
            found[source] |= one.geometry.border(traced.operations[source].form, one.form)
    return found


def mask_shape(one: Operation, source: Operation) -> tuple[int, int, int, int]:
    """Shape of a convolution's or linear layer's weight as that of a convolution."""
    geometry = one.geometry
    return (one.form.channels, source.form.channels // geometry.groups, *geometry.kernel)
