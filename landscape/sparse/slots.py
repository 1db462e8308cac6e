"""Tensors of a training step and how long they live, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from landscape.sparse.kernels import Record
from landscape.sparse.layout import ARENA, Border, Form, Memory, Place

Emit = Callable[[], list[Record]]


@dataclass(eq=False)
class Slot:
    """A tensor in a block's arena that gets its place when all its uses are known."""

    form: Form
    border: Border = field(default_factory=Border)
    first: int | None = None
    last: int = 0
    given: Place | None = None

    def use(self, phase: int) -> Slot:
        """It is written or read in a phase."""
        self.first = phase if self.first is None else min(self.first, phase)
        self.last = max(self.last, phase)
        return self

    @property
    def place(self) -> Place:
        """Where it lies; only once places are given."""
        assert self.given is not None
        return self.given


@dataclass
class Phase:
    """What happens between two meetings of the threads: before the blocks, for each, after them."""

    begin: list[Emit] = field(default_factory=list)
    block: list[Emit] = field(default_factory=list)
    end: list[Emit] = field(default_factory=list)


class Phases:
    """Grows as it is written to."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def __getitem__(self, number: int) -> Phase:
        while len(self.phases) <= number:
            self.phases.append(Phase())
        return self.phases[number]

    def __len__(self) -> int:
        return len(self.phases)


def give_places(slots: list[Slot], arena: Memory, column: int) -> None:
    """Memory for each slot; those that don't live at the same time share it."""
    assert arena.space == ARENA
    waiting = sorted((one for one in slots if one.first is not None), key=lambda one: one.first or 0)
    alive: list[Slot] = []
    for one in waiting:
        for other in [other for other in alive if other.last < (one.first or 0)]:
            arena.give_back(other.place)
            alive.remove(other)
        one.given = arena.place(one.form, one.border, column)
        alive.append(one)


class Scratch:
    """A thread's scratch: tensors that live within one phase of one block."""

    def __init__(self, memory: Memory, column: int) -> None:
        self.memory, self.column = memory, column
        self._places: dict[object, Place] = {}
        self._counts: dict[object, int] = {}

    def place(self, phase: object, form: Form, border: Border) -> Place:
        """Room that nothing else in this phase has; other phases' tensors of this kind lie there, too."""
        number = self._counts.get((phase, form, border), 0)
        self._counts[phase, form, border] = number + 1
        key = (form, border, number)
        if key not in self._places:
            self._places[key] = self.memory.place(form, border, self.column, mark=key)
        return self._places[key]
