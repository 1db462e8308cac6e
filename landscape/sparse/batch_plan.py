"""A training step as two programs of phases: forward with batch statistics, and backward.

Forward, a phase ends wherever batch norm needs the sums of the whole batch; within a phase each block of
images goes through everything while it is in the cache. Outputs of convolutions are stored, activations
only where a later phase reads them; others are computed again for the backward pass.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.sparse.inference import pool_fields
from landscape.sparse.kernels import Kernels, Record
from landscape.sparse.layout import ABSOLUTE, ARENA, SCRATCH, THREAD, Border, Form, Memory, Place, cover
from landscape.sparse.lists import KeptList, forward_list
from landscape.sparse.slots import Phases, Scratch
from landscape.sparse.trace import CannotRun, Traced
from landscape.sparse.units import Activation, Convolution, Other, Term, Unit, units

DTYPES = {"float": torch.float32, "double": torch.float64}


@dataclass
class Layer:
    """A convolution's weights and everything that belongs to them.

    Attributes
    ----------
    kept, values
        List and numbers of the forward pass.
    order
        Place of each kept weight in the row-major tensor.
    back
        The same for the gradient by the input, one for each class of positions.
    gradient_at
        Where a thread's memory has the gradients of kept weights, in the order of `kept`.
    """

    unit: Convolution
    module: nn.Module | None
    mask: npt.NDArray[np.bool_]
    kept: KeptList
    values: Tensor
    order: Tensor
    back: list[tuple[tuple[int, int], KeptList, Tensor, Tensor]] = field(default_factory=list)
    gradient_at: int = -1

    @property
    def weight(self) -> Tensor:
        """The module's, all of them."""
        assert self.module is not None
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight


@dataclass
class Counted:
    """Numbers per channel of a term with parameters: offsets in a thread's memory.

    Attributes
    ----------
    sums, sums_back
        Offsets of its two sums in a block's arena.
    """

    term: Term
    norm: _BatchNorm | None
    channels: int
    area: int
    at: dict[str, int]
    sums: int
    sums_back: int
    own: dict[str, Tensor]


class BatchPlan:
    """Places and records that both directions share, and the forward program.

    Parameters
    ----------
    network
        In training mode.
    traced
        Its operations.
    kept
        Masks by parameter name; what isn't named is kept.
    """

    def __init__(
        self, network: nn.Module, traced: Traced, kept: Mapping[str, Tensor], kernels: Kernels
    ) -> None:
        self.network, self.masks, self.kernels = network, kept, kernels
        self.traced = traced
        self.units, self.output = units(traced)
        self.vector, self.item = kernels.machine.vector_bytes, kernels.item
        self.dtype = DTYPES[kernels.element]
        self.arena, self.thread = Memory(ARENA, 64), Memory(THREAD, 64)
        self.scratch = Scratch(Memory(SCRATCH, 64), self.vector)
        self.hold: list[Any] = []
        self.by_number: dict[int, Unit] = {one.number: one for one in self.units}
        self.layers: dict[int, Layer] = {}
        self.counted: dict[Term, Counted] = {}
        self.z: dict[int, Place] = {}
        self.values: dict[int, Place] = {}
        self.phase_of: dict[int, int] = {}
        self.zeros = self.take(max([1, *(one.form.channels for one in self.units)]))
        self.activation_of = {
            term.source: one for one in self.units if isinstance(one, Activation) for term in one.counted
        }
        self.readers: dict[int, list[Unit]] = {one.number: [] for one in self.units}
        for one in self.units:
            for source in _sources(one):
                self.readers[source].append(one)
        self.borders = self._borders()
        self._phases()
        self.recomputed = {one.number for one in self.units if self._may_be_recomputed(one)}
        self.forward = Phases()
        for one in self.units:
            emit = {Convolution: self._convolution, Activation: self._activation, Other: self._other}
            emit[type(one)](one)  # type: ignore[operator]
        self._unpack()

    # -- order and memory ---------------------------------------------------------------------------------

    def _phases(self) -> None:
        """The earliest phase of every unit: one after the sums that it needs are complete."""
        for one in self.units:
            found = [0]
            for source in _sources(one):
                wait = isinstance(one, Activation) and self._is_norm(one, source)
                found.append(self.phase_of[source] + int(wait))
            self.phase_of[one.number] = max(found)

    def _is_norm(self, one: Activation, source: int) -> bool:
        return any(term.kind == "norm" and term.source == source for term in one.terms)

    def _borders(self) -> dict[int, Border]:
        found = {one.number: Border() for one in self.units}
        for one in self.units:
            if isinstance(one, Convolution):
                form = self.by_number[one.source].form
                found[one.source] |= one.geometry.border(form, one.form)
        return found

    def _may_be_recomputed(self, one: Unit) -> bool:
        """Cheap, and read by convolutions of its own phase only."""
        if not isinstance(one, Activation) or len(one.terms) != 1 or one.number == self.output:
            return False
        return all(
            isinstance(reader, Convolution) and self.phase_of[reader.number] == self.phase_of[one.number]
            for reader in self.readers[one.number]
        )

    def take(self, numbers: int) -> int:
        """Offset of so many numbers in a thread's memory."""
        return self.thread.take(numbers, self.item)

    def absolute(self, array: Any) -> int:
        """Address of an array that is kept alive."""
        self.hold.append(array)
        return int(array.data_ptr() if isinstance(array, Tensor) else array.ctypes.data)

    def ones(self, channels: int) -> int:
        """Address of a vector of ones."""
        return self.absolute(torch.ones(channels, dtype=self.dtype))

    # -- units --------------------------------------------------------------------------------------------

    def _convolution(self, one: Convolution) -> None:
        layer = self._layer(one)
        self.layers[one.number] = layer
        reader = self.activation_of[one.number]
        term = next(term for term in reader.counted if term.source == one.number)
        counted = self._count(term, one.form)
        out = self.arena.place(one.form, Border(), self.vector, mark=one.number)
        self.z[one.number] = out
        normed = term.kind == "norm"
        fields = {"sums_space": ARENA, "sums_at": counted.sums}
        fields |= {"pivots_space": ABSOLUTE, "pivots_at": counted.own["pivot"].data_ptr()}
        if not normed:
            fields = {"bias": self.absolute(torch.zeros(one.form.channels, dtype=self.dtype))}
        source = self.values[one.source]
        phase = self.forward[self.phase_of[one.number]]
        if normed:
            phase.block.append(lambda: [self.zero(ARENA, counted.sums, 2 * one.form.channels)])
        phase.block.append(lambda: self.convolve(layer, source, out, normed, fields))

    def convolve(
        self, layer: Layer, source: Place, out: Place, normed: bool, fields: dict[str, int]
    ) -> list[Record]:
        """Records of the convolution itself."""
        geometry, form = layer.unit.geometry, layer.unit.form
        origin = source.moved(0, -geometry.before[0], -geometry.before[1])
        common = fields | list_fields(layer.kept, layer.values) | {"channels": form.channels}
        return [
            self.kernels.convolve(
                "statistics" if normed else "plain",
                part,
                (geometry.stride[1], 1),
                {
                    **common,
                    **origin.stream("in", part, *geometry.stride),
                    **out.stream("out", part),
                    **({} if normed else out.stream("add", part)),
                },
            )
            for part in cover(form.height, form.width, self.kernels.machine.tile)
        ]

    def _layer(self, one: Convolution) -> Layer:
        source = self.by_number[one.source].form
        if one.module:
            within = source.channels // one.geometry.groups
            shape = (one.form.channels, within, *one.geometry.kernel)
            kept = self.masks.get(f"{one.module}.weight")
            mask = (
                np.ones(shape, dtype=np.bool_)
                if kept is None
                else np.asarray(kept.detach().cpu().numpy(), dtype=np.bool_).reshape(shape)
            )
        else:
            mask = np.ones((source.channels, 1, 1, 1), dtype=np.bool_)
        listed = forward_list(mask, one.geometry, self.values[one.source])
        values = torch.ones(max(1, len(listed)), dtype=self.dtype)[: len(listed)]
        module = self.network.get_submodule(one.module) if one.module else None
        return Layer(one, module, mask, listed, values, torch.from_numpy(listed.order))

    def _count(self, term: Term, form: Form) -> Counted:
        """Room for a term's numbers."""
        module = self.network.get_submodule(term.module)
        norm = module if isinstance(module, _BatchNorm) else None
        if norm is not None and not norm.training and norm.running_mean is not None:
            raise CannotRun("a batch norm is in evaluation mode")
        names = ["mean", "variance", "inverse", "scale", "shift"]
        names += ["scale1", "scale2", "shift_back", "by_gamma", "by_beta"]
        at = {name: self.take(form.channels) for name in names}
        sums, back = (self.arena.take(2 * form.channels * self.vector, 1) for _ in range(2))
        own = {name: torch.zeros(form.channels, dtype=self.dtype) for name in ("gamma", "beta", "pivot")}
        own["gamma"].fill_(1)
        found = Counted(term, norm, form.channels, form.height * form.width, at, sums, back, own)
        self.counted[term] = found
        return found

    def _activation(self, one: Activation) -> None:
        number = self.phase_of[one.number]
        phase = self.forward[number]
        for term in one.terms:
            if term.kind == "norm":
                phase.begin.append(partial(self._moments, one, term))
        border = self.borders[one.number]
        if one.number in self.recomputed:
            out = self.scratch.place(("forward", number), one.form, border)
        else:
            out = self.arena.place(one.form, border, self.vector, mark=one.number)
        self.values[one.number] = out
        phase.block.append(lambda: [self.activate(one, out)])

    def _moments(self, one: Activation, term: Term) -> list[Record]:
        counted = self.counted[term]
        assert counted.norm is not None
        fields = {
            "channels": counted.channels,
            "area": counted.area,
            "sums_at": counted.sums,
            "epsilon": struct.unpack("q", struct.pack("d", counted.norm.eps))[0],
            "gamma": counted.own["gamma"].data_ptr(),
            "beta": counted.own["beta"].data_ptr(),
            "pivots_space": ABSOLUTE,
            "pivots_at": counted.own["pivot"].data_ptr(),
        }
        for name in ("mean", "variance", "inverse", "scale", "shift"):
            fields |= {f"{name}_space": THREAD, f"{name}_at": counted.at[name]}
        others = [other for other in one.counted if other != term]
        if others and self._shift_owner(one) == term:
            space, at = self._shift(others[0])
            fields |= {"more": 1, "added_space": space, "added_at": at}
        return [self.kernels.simple("moments", fields)]

    def _shift_owner(self, one: Activation) -> Term | None:
        """The term whose shift holds all shifts: a norm, the last one, as norms know theirs late."""
        norms = [term for term in one.counted if term.kind == "norm"]
        return norms[-1] if norms else next(iter(one.counted), None)

    def _shift(self, term: Term) -> tuple[int, int]:
        """Space and place of a term's shift."""
        counted = self.counted[term]
        if term.kind == "norm":
            return THREAD, counted.at["shift"]
        return ABSOLUTE, counted.own["beta"].data_ptr()

    def _scale(self, term: Term, channels: int) -> tuple[int, int]:
        if term.kind == "norm":
            return THREAD, self.counted[term].at["scale"]
        return ABSOLUTE, self.ones(channels)

    def activate(self, one: Activation, out: Place) -> Record:
        """The pass that computes an activation."""
        channels = one.form.channels
        owner = self._shift_owner(one)
        shift = (THREAD, self.zeros) if owner is None else self._shift(owner)
        places = [self.z.get(term.source) or self.values[term.source] for term in one.terms]
        scales = [self._scale(term, channels) for term in one.terms]
        fields = self.pass_fields(places[0], places[-1], out) | {
            "relu": int(one.relu),
            "two": int(len(places) == 2),
            "shift_space": shift[0],
            "shift_at": shift[1],
            "scale1_space": scales[0][0],
            "scale1_at": scales[0][1],
            "scale2_space": scales[-1][0],
            "scale2_at": scales[-1][1],
        }
        return self.kernels.combine(out.form.width, fields)

    def pass_fields(self, one: Place, other: Place, out: Place) -> dict[str, int]:
        """Of a pass over `out`'s positions."""
        form = out.form
        sizes = {"channels": form.channels, "rows": form.height}
        return sizes | one.view("one") | other.view("other") | out.view("out")

    def copy(self, source: Place, out: Place, other: Place | None = None) -> Record:
        """``out = source [+ other]``."""
        ones = self.ones(out.form.channels)
        fields = self.pass_fields(source, other or source, out) | {
            "two": int(other is not None),
            "shift_space": THREAD,
            "shift_at": self.zeros,
            "scale1_space": ABSOLUTE,
            "scale1_at": ones,
            "scale2_space": ABSOLUTE,
            "scale2_at": ones,
        }
        return self.kernels.combine(out.form.width, fields)

    def zero(self, space: int, at: int, vectors: int) -> Record:
        """Vectors of zeros."""
        return self.kernels.simple("zero", {"out_space": space, "out_at": at, "vectors": vectors})

    def _other(self, one: Other) -> None:
        operation, phase = one.operation, self.forward[self.phase_of[one.number]]
        if operation.kind == "flatten" and self.borders[operation.inputs[0]] == Border():
            self.values[one.number] = flat(self.values[operation.inputs[0]], self.vector)
            return
        form = self.by_number[operation.inputs[0]].form if operation.kind == "flatten" else one.form
        out = self.arena.place(form, self.borders[one.number], self.vector, mark=one.number)
        self.values[one.number] = out
        if operation.kind == "input":
            fields = sizes(one.form) | out.view("out")
            phase.block.append(lambda: [self.kernels.simple("pack", fields)])
            return
        source = self.values[operation.inputs[0]]
        if operation.kind == "flatten":
            self.values[one.number] = flat(out, self.vector)
            phase.block.append(lambda: [self.copy(source, out)])
        elif operation.kind == "subsample":
            rows, columns, before = operation.before
            inner = Form(source.form.channels, one.form.height, one.form.width)
            goal = out.moved(before).every(1, 1, inner)
            phase.block.append(lambda: [self.copy(source.every(rows, columns, inner), goal)])
        else:
            fields = sizes(one.form) | source.view("one") | out.view("out") | self.windows(one)
            if operation.kind == "largest":
                del fields["shares"]
            phase.block.append(lambda: [self.kernels.simple(operation.kind, fields)])

    def windows(self, one: Other) -> dict[str, int]:
        """Addresses of a pooling's bounds."""
        found = pool_fields(one.operation, self.kernels.element)
        return {name: self.absolute(array) for name, array in found.items()}

    def _unpack(self) -> None:
        out = self.values[self.output]
        fields = sizes(out.form) | out.view("one")
        phase = self.forward[self.phase_of[self.output]]
        phase.block.append(lambda: [self.kernels.simple("unpack", fields)])


def list_fields(kept: KeptList, values: Tensor) -> dict[str, int]:
    """Addresses of a list and its numbers."""
    return {
        "starts": kept.starts.ctypes.data,
        "offsets": kept.offsets.ctypes.data,
        "values": values.data_ptr(),
    }


def flat(place: Place, vector: int) -> Place:
    """A tensor without a border as a vector of features."""
    return Place(place.space, place.at, vector, vector, vector, Form(place.form.numbers, 1, 1))


def sizes(form: Form) -> dict[str, int]:
    """Fields of a shape."""
    return {"channels": form.channels, "rows": form.height, "columns": form.width}


def _sources(one: Unit) -> tuple[int, ...]:
    """Numbers of what a unit reads."""
    if isinstance(one, Convolution):
        return (one.source,)
    if isinstance(one, Activation):
        return tuple(term.source for term in one.terms)
    return one.operation.inputs
