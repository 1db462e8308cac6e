"""Writing LLVM IR: the text of one function, statement by statement.

Every kernel is ``void name(ptr op, ptr ctx)``. `op` is a record of 64-bit fields, see `records`; `ctx` holds
base addresses of the memory that belongs to a thread or a block of images. Variables are memory cells that
LLVM turns into registers; so loops need no phi nodes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from landscape.sparse.machine import Element, Machine, itemsize


class Code:
    """A function in the making.

    Parameters
    ----------
    name
        Of the function.
    machine, element
        What it is for.
    fields
        Names of the record's fields, in order, after the function's own address.
    """

    def __init__(self, name: str, machine: Machine, element: Element, fields: Sequence[str]) -> None:
        self.name, self.machine, self.element = name, machine, element
        self.lanes = machine.lanes(element)
        self.vector = f"<{self.lanes} x {element}>"
        self.vector_bytes = machine.vector_bytes
        self.item = itemsize(element)
        self._suffix = f"v{self.lanes}f{8 * self.item}"
        self._fields = {field: place + 1 for place, field in enumerate(fields)}
        self._known: dict[str, str] = {}
        self._cells: list[str] = []
        self._lines: list[str] = []
        self._declared: set[str] = set()
        self._count = 0

    # -- statements ---------------------------------------------------------------------------------------

    def do(self, text: str) -> str:
        """``%new = text``; the new name."""
        name = self._new("v")
        self._lines.append(f"  {name} = {text}")
        return name

    def say(self, text: str) -> None:
        """A statement without a value."""
        self._lines.append(f"  {text}")

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    def _label(self, name: str) -> None:
        self._lines.append(f"{name[1:]}:")

    # -- integers and addresses ---------------------------------------------------------------------------

    def field(self, name: str) -> str:
        """A field of the record, an i64; read once, at the beginning."""
        if name not in self._known:
            place = self._new("f")
            value = f"%field.{name}"
            self._cells += [
                f"  {place} = getelementptr i64, ptr %op, i64 {self._fields[name]}",
                f"  {value} = load i64, ptr {place}",
            ]
            self._known[name] = value
        return self._known[name]

    def context(self, place: str | int) -> str:
        """An entry of the context."""
        return self.do(f"load i64, ptr {self.do(f'getelementptr i64, ptr %ctx, i64 {place}')}")

    def tensor(self, name: str) -> str:
        """Address of a tensor: a base address from the context and an offset in bytes."""
        base = self.context(self.field(f"{name}_space"))
        return self.pointer(self.add(base, self.field(f"{name}_at")))

    def add(self, a: str, b: str | int) -> str:
        """Sum of integers."""
        return self.do(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str | int) -> str:
        """Difference of integers."""
        return self.do(f"sub i64 {a}, {b}")

    def mul(self, a: str, b: str | int) -> str:
        """Product of integers."""
        return self.do(f"mul i64 {a}, {b}")

    def pointer(self, number: str) -> str:
        """An integer as an address."""
        return self.do(f"inttoptr i64 {number} to ptr")

    def at(self, pointer: str, offset: str | int) -> str:
        """Address so many bytes further."""
        return self.do(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def item_at(self, pointer: str, index: str | int, kind: str | None = None) -> str:
        """Address of an element of an array."""
        return self.do(f"getelementptr {kind or self.element}, ptr {pointer}, i64 {index}")

    def index(self, pointer: str, place: str) -> str:
        """An int32 of an array, as i64."""
        narrow = self.do(f"load i32, ptr {self.item_at(pointer, place, 'i32')}")
        return self.do(f"sext i32 {narrow} to i64")

    # -- numbers ------------------------------------------------------------------------------------------

    def load(self, pointer: str, kind: str | None = None) -> str:
        """A vector, or another kind of value."""
        if kind is None:
            return self.do(f"load {self.vector}, ptr {pointer}, align {self.vector_bytes}")
        return self.do(f"load {kind}, ptr {pointer}")

    def store(self, value: str, pointer: str, kind: str | None = None) -> None:
        """The opposite."""
        if kind is None:
            self.say(f"store {self.vector} {value}, ptr {pointer}, align {self.vector_bytes}")
        else:
            self.say(f"store {kind} {value}, ptr {pointer}")

    def spread(self, number: str) -> str:
        """A vector of one number."""
        first = self.do(f"insertelement {self.vector} poison, {self.element} {number}, i32 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.do(f"shufflevector {self.vector} {first}, {self.vector} poison, {zeros}")

    def spread_from(self, pointer: str) -> str:
        """A vector of the number at an address."""
        return self.spread(self.load(pointer, self.element))

    def fma(self, a: str, b: str, c: str) -> str:
        """``a·b + c`` of vectors, rounded once."""
        return self.call(f"llvm.fma.{self._suffix}", self.vector, a, b, c)

    def call(self, function: str, kind: str, *arguments: str) -> str:
        """A function of LLVM whose arguments and value have one type."""
        self.declare(f"declare {kind} @{function}({', '.join([kind] * len(arguments))})")
        return self.do(f"call {kind} @{function}({', '.join(f'{kind} {one}' for one in arguments)})")

    def declare(self, text: str) -> None:
        """What the function calls."""
        self._declared.add(text)

    def fadd(self, a: str, b: str) -> str:
        """Sum of vectors."""
        return self.do(f"fadd {self.vector} {a}, {b}")

    def fsub(self, a: str, b: str) -> str:
        """Difference of vectors."""
        return self.do(f"fsub {self.vector} {a}, {b}")

    def fmul(self, a: str, b: str) -> str:
        """Product of vectors."""
        return self.do(f"fmul {self.vector} {a}, {b}")

    def at_least(self, value: str, lowest: str) -> str:
        """The larger of two vectors; NaN where `value` is NaN, so that what diverged stays visible."""
        below = self.do(f"fcmp olt {self.vector} {value}, {lowest}")
        return self.choose(below, lowest, value)

    def choose(self, condition: str, yes: str, no: str) -> str:
        """Lane by lane."""
        kind = f"<{self.lanes} x i1>"
        return self.do(f"select {kind} {condition}, {self.vector} {yes}, {self.vector} {no}")

    # -- variables and loops ------------------------------------------------------------------------------

    def cell(self, kind: str, value: str) -> str:
        """A variable with its first value."""
        name = self._new("cell")
        self._cells.append(f"  {name} = alloca {kind}")
        self.say(f"store {kind} {value}, ptr {name}")
        return name

    def get(self, cell: str, kind: str) -> str:
        """A variable's value."""
        return self.do(f"load {kind}, ptr {cell}")

    def set(self, cell: str, kind: str, value: str) -> None:
        """A variable's new value."""
        self.say(f"store {kind} {value}, ptr {cell}")

    @contextmanager
    def loop(self, end: str | int, start: str | int = 0, step: str | int = 1) -> Iterator[str]:
        """For every i64 from `start` below `end`."""
        counter = self.cell("i64", str(start))
        head, body, done = self._new("head"), self._new("body"), self._new("done")
        self.say(f"br label {head}")
        self._label(head)
        now = self.get(counter, "i64")
        self.say(f"br i1 {self.do(f'icmp slt i64 {now}, {end}')}, label {body}, label {done}")
        self._label(body)
        yield now
        self.set(counter, "i64", self.add(now, step))
        self.say(f"br label {head}")
        self._label(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Only where an i1 is true."""
        yes, done = self._new("yes"), self._new("done")
        self.say(f"br i1 {condition}, label {yes}, label {done}")
        self._label(yes)
        yield
        self.say(f"br label {done}")
        self._label(done)

    @contextmanager
    def forever(self, condition: str = "") -> Iterator[str]:
        """A loop that `leave` ends; gives the label to leave to."""
        body, done = self._new("body"), self._new("done")
        self.say(f"br label {body}")
        self._label(body)
        yield done
        self.say(f"br label {body}")
        self._label(done)

    def leave(self, condition: str, target: str) -> None:
        """Out of a `forever` where an i1 is true."""
        further = self._new("further")
        self.say(f"br i1 {condition}, label {target}, label {further}")
        self._label(further)

    # -- the whole ----------------------------------------------------------------------------------------

    def text(self, parameters: str = "ptr noalias %op, ptr noalias %ctx") -> str:
        """The module of this function."""
        bits = 8 * self.vector_bytes
        attributes = f'"prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}" nounwind'
        return "\n".join(
            [
                *sorted(self._declared),
                f"define void @{self.name}({parameters}) #0 {{",
                *self._cells,
                *self._lines,
                "  ret void",
                "}",
                f"attributes #0 = {{ {attributes} }}",
                "",
            ]
        )
