"""A network in training as units: convolutions, activations made of their outputs, and the rest.

Batch norm needs a whole batch before its first output, so a convolution's output is stored as it is, and what
follows it (norm, sum, ReLU) is one pass later on: an activation ``[relu](Σ terms)`` of one or two terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from landscape.sparse.layout import Form
from landscape.sparse.lists import Geometry
from landscape.sparse.trace import CannotRun, Operation, Traced


@dataclass(frozen=True)
class Convolution:
    """``z = weights · source``, without bias; `module` is empty where it only copies."""

    number: int
    source: int
    form: Form
    module: str
    geometry: Geometry


@dataclass(frozen=True)
class Term:
    """One summand of an activation.

    Attributes
    ----------
    kind
        "norm": a convolution's output, normalized; "bias": the same with the convolution's own bias;
        "plain": another activation as it is.
    source
        Its number.
    module
        Name of the norm, or of the convolution.
    """

    kind: Literal["norm", "bias", "plain"]
    source: int
    module: str = ""


@dataclass(frozen=True)
class Activation:
    """Sum of one or two terms, and ReLU."""

    number: int
    terms: tuple[Term, ...]
    relu: bool
    form: Form

    @property
    def counted(self) -> list[Term]:
        """Terms with parameters, whose gradients need sums over the batch."""
        return [one for one in self.terms if one.kind != "plain"]


@dataclass(frozen=True)
class Other:
    """Input, pooling, subsampling, flattening."""

    number: int
    operation: Operation

    @property
    def form(self) -> Form:
        """Shape of its result."""
        return self.operation.form


Unit: TypeAlias = Convolution | Activation | Other


def units(traced: Traced) -> tuple[list[Unit], int]:
    """Units in an order in which they can run, and the number of the one whose value is the result.

    Raises
    ------
    CannotRun
        When a layer is used more than once.
    """
    return _Builder(traced).build()


class _Builder:
    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.operations = traced.operations
        self.needed = self._needed()
        self.readers = [[one for one in readers if one in self.needed] for readers in traced.readers()]
        self.units: list[Unit] = []
        self.extra = len(self.operations)

    def _needed(self) -> set[int]:
        """Operations that the result depends on, and the input."""
        found, todo = {0}, [self.traced.output]
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                todo += self.operations[number].inputs
        return found

    def build(self) -> tuple[list[Unit], int]:
        modules = [self.operations[one].module for one in self.needed if self.operations[one].module]
        if len(set(modules)) < len(modules):
            raise CannotRun("a layer is used more than once")
        for number in sorted(self.needed):
            one = self.operations[number]
            if one.kind == "convolution":
                leads = self.leads(number)
                place = number if leads else self.new_number()
                self.units.append(Convolution(place, one.inputs[0], one.form, one.module, one.geometry))
                if not leads:
                    self.activation(number, (Term("bias", place, one.module),), False)
            elif one.kind in ("norm", "add", "relu"):
                if not self.leads(number):
                    relu = one.kind == "relu"
                    inner = one.inputs[0] if relu and self.leads(one.inputs[0]) else number
                    if relu and inner == number:
                        self.activation(number, (Term("plain", one.inputs[0]),), True)
                    else:
                        self.activation(number, self.terms(inner), relu)
            else:
                self.units.append(Other(number, one))
        return self.units, self.traced.output

    def new_number(self) -> int:
        """For a unit that isn't one operation's."""
        self.extra += 1
        return self.extra - 1

    def activation(self, number: int, terms: tuple[Term, ...], relu: bool) -> None:
        self.units.append(Activation(number, terms, relu, self.operations[number].form))

    def leads(self, number: int) -> bool:
        """Whether an operation's result is no activation of its own but part of the one that reads it."""
        if len(self.readers[number]) != 1 or number == self.traced.output:
            return False
        kind, reader = self.operations[number].kind, self.operations[self.readers[number][0]]
        if kind == "convolution" and reader.kind == "norm":
            return True
        if kind == "convolution" and reader.kind == "add":
            # Two biases would need a sum of their own; x + x reads one thing twice.
            return number == reader.inputs[0] and len(set(reader.inputs)) == 2
        if kind == "norm" and reader.kind == "add":
            return len(set(reader.inputs)) == 2
        return kind in ("convolution", "norm", "add") and reader.kind == "relu"

    def terms(self, number: int) -> tuple[Term, ...]:
        """Of the sum, norm or convolution with that number."""
        one = self.operations[number]
        if one.kind != "add":
            return (self.own(number),)
        return tuple(
            self.own(source) if self.leads(source) else Term("plain", source) for source in one.inputs
        )

    def own(self, number: int) -> Term:
        """The term that a norm or a convolution is."""
        one = self.operations[number]
        if one.kind == "norm":
            return Term("norm", self.normed(one.inputs[0]), one.module)
        return Term("bias", number, one.module)

    def normed(self, source: int) -> int:
        """The convolution whose output a norm takes; one that copies, where it takes something else."""
        if self.operations[source].kind == "convolution" and self.leads(source):
            return source
        form = self.operations[source].form
        number = self.new_number()
        geometry = Geometry(groups=form.channels)
        self.units.append(Convolution(number, source, form, "", geometry))
        return number
