"""A folded network as a table of kernels, run on a block of images per call."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.sparse import driver, llvm
from landscape.sparse.elementwise import INPUT, OUTPUT, STRIDES, VALID
from landscape.sparse.fusing import Group, borders, group, mask_shape
from landscape.sparse.kernels import Kernels, Record, aligned, as_table
from landscape.sparse.layout import ABSOLUTE, SCRATCH, Border, Form, Memory, Place, cover
from landscape.sparse.lists import KeptList, forward_list
from landscape.sparse.machine import Element, Machine
from landscape.sparse.threads import pool
from landscape.sparse.trace import CannotRun, Operation, Traced, trace

ELEMENTS: Mapping[torch.dtype, Element] = {torch.float32: "float", torch.float64: "double"}
_MOST_BYTES = 1 << 31  # offsets are 32 bits


@dataclass
class _Weights:
    """Numbers that a group needs, computed from the module's present parameters."""

    layer: nn.Module | None
    norm: _BatchNorm | None
    kept: KeptList | None
    order: Tensor
    channel: Tensor
    values: Tensor
    bias: Tensor

    def refresh(self) -> None:
        scale, shift = self._factors()
        if self.layer is None:
            self.values.copy_(scale)
            self.bias.copy_(shift)
            return
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        torch.index_select(weight.detach().reshape(-1), 0, self.order, out=self.values)
        if self.norm is not None:
            self.values.mul_(scale[self.channel])
        bias = self.layer.bias
        assert bias is None or isinstance(bias, Tensor)
        own = torch.zeros_like(self.bias) if bias is None else bias.detach()
        self.bias.copy_(torch.addcmul(shift, own, scale) if self.norm is not None else own)

    def _factors(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        if norm is None:
            return torch.ones_like(self.bias), torch.zeros_like(self.bias)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        shift = -norm.running_mean * scale
        return scale, shift if norm.bias is None else shift + norm.bias.detach()


class SparseNet:
    """A network in evaluation mode; several threads may call it at a time.

    Parameters
    ----------
    network
        In evaluation mode. Its parameters may move afterwards; `refresh` reads them.
    kept
        Bool tensors by parameter name, True = may be different from zero. Weights that aren't named are kept.
    example
        Input ``[N, C, H, W]`` that gives shapes and element type.
    machine
        What to compile for.
    traced
        What `trace` found, where that was done already.

    Raises
    ------
    CannotRun
        Where the kernels can't run it; the text says why.
    """

    def __init__(
        self,
        network: nn.Module,
        kept: Mapping[str, Tensor],
        example: Tensor,
        machine: Machine,
        traced: Traced | None = None,
    ) -> None:
        if example.dtype not in ELEMENTS:
            raise CannotRun(f"the kernels compute in float32 and float64, not {example.dtype}")
        if any(one.training for one in network.modules()):
            raise CannotRun("a part of it is in training mode")
        self.dtype = example.dtype
        traced = traced or trace(network, example)
        self._plan = _Plan(network, kept, traced, Kernels(machine, ELEMENTS[self.dtype]))
        self._result = traced.output_shape[1:]
        self.lanes = self._plan.kernels.lanes
        self.kept, self.all = self._plan.kept, self._plan.all
        self.norms = sum(one.norm is not None for one in self._plan.weights)
        self.convolutions = sum(one.layer is not None for one in self._plan.weights)
        self._call = llvm.prototype(3)(self._plan.kernels.run())
        self._local = threading.local()
        self._dtype_bytes = torch.empty((), dtype=self.dtype).element_size()
        self.refresh()

    @property
    def density(self) -> float:
        """Kept share of the multiplications."""
        return self.kept / max(1, self.all)

    def refresh(self) -> None:
        """Recompute weights and biases from the parameters that the network has now."""
        with torch.no_grad():
            for one in self._plan.weights:
                one.refresh()

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output."""
        if x.dtype != self.dtype or x.dim() != 4 or tuple(x.shape[1:]) != self._plan.input_shape:
            expected = f"[N, {', '.join(map(str, self._plan.input_shape))}] {self.dtype}"
            raise ValueError(f"input {list(x.shape)} {x.dtype}: expected {expected}")
        out = torch.empty((len(x), *self._result), dtype=self.dtype)
        context = self._context()
        size, strides = self._dtype_bytes, x.stride()
        context[STRIDES : STRIDES + 4] = [size * one for one in strides]
        step = size * (out.stride(0) if len(out) else 0)
        for start in range(0, len(x), self.lanes):
            context[VALID] = min(self.lanes, len(x) - start)
            context[INPUT] = x.data_ptr() + start * size * strides[0]
            context[OUTPUT] = out.data_ptr() + start * step
            self._call(self._plan.table.ctypes.data, len(self._plan.table), context.ctypes.data)
        return out

    def in_threads(self, threads: int, x: Tensor) -> Tensor:
        """The same, with several threads."""
        blocks = -(-len(x) // self.lanes)
        pieces = torch.split(x, max(1, -(-blocks // threads)) * self.lanes)
        if len(pieces) == 1:
            return self(x)
        others = [pool().submit(self, piece) for piece in pieces[1:]]
        return torch.cat([self(pieces[0]), *(one.result() for one in others)])

    def _context(self) -> npt.NDArray[np.int64]:
        """The calling thread's context, with memory of its own."""
        local = self._local
        if not hasattr(local, "context"):
            local.scratch = aligned(self._plan.memory.size)
            local.context = np.zeros(driver.CONTEXT, dtype=np.int64)
            local.context[SCRATCH] = local.scratch.ctypes.data
        context: npt.NDArray[np.int64] = local.context
        return context


class _Plan:
    """Where everything lies, and the table."""

    def __init__(
        self, network: nn.Module, kept: Mapping[str, Tensor], traced: Traced, kernels: Kernels
    ) -> None:
        self.network, self.kept_weights, self.traced, self.kernels = network, kept, traced, kernels
        self.vector = kernels.machine.vector_bytes
        self.memory = Memory(SCRATCH, 64)
        self.weights: list[_Weights] = []
        self.kept = self.all = 0
        self._hold: list[Any] = []  # arrays whose addresses are in the table
        self._records: list[Record] = []
        self._groups = group(traced)
        self._borders = borders(traced)
        self._places: dict[int, Place] = {}
        first = traced.operations[0].form
        self.input_shape = (first.channels, first.height, first.width)
        self._lay_out()
        if self.memory.size >= _MOST_BYTES:
            raise CannotRun("a block of images takes 2 GiB of activations or more")
        self.table = as_table(self._records)

    # -- memory -------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        last = self._last_readers()
        for number, one in enumerate(self._groups):
            self._emit(one)
            for value, end in last.items():
                if end == number and value in self._places:
                    self.memory.give_back(self._places[value])
        output = self._places[self.traced.output]
        fields = _sizes(output.form) | output.view("one")
        self._records.append(self.kernels.simple("unpack", fields))

    def _last_readers(self) -> dict[int, int]:
        """For each result, the place of the group that reads it last; the output's is never."""
        last = {one.end: place for place, one in enumerate(self._groups)}
        for place, one in reversed(list(enumerate(self._groups))):
            reads = place
            if self._is_view(one):
                reads = last[one.end]  # what a view's readers read is its source
            for source in one.sources(self.traced):
                last[source] = max(last[source], reads)
        last[self.traced.output] = len(self._groups)
        for one in self._groups:
            if self._is_view(one) and last[one.end] == len(self._groups):
                last[self.traced.operations[one.first].inputs[0]] = len(self._groups)
        return last

    def _is_view(self, one: Group) -> bool:
        operation = self.traced.operations[one.first]
        return operation.kind == "flatten" and self._borders[operation.inputs[0]] == Border()

    def _room(self, one: Group, mark: object = None) -> Place:
        form = self.traced.operations[one.end].form
        place = self.memory.place(form, self._borders[one.end], self.vector, mark)
        self._places[one.end] = place
        return place

    # -- records ------------------------------------------------------------------------------------------

    def _emit(self, one: Group) -> None:
        operation = self.traced.operations[one.first]
        sources = [self._places[source] for source in operation.inputs]
        emit = {
            "input": self._input,
            "convolution": self._convolution,
            "norm": self._combine,
            "add": self._combine,
            "relu": self._combine,
            "average": self._pool,
            "largest": self._pool,
            "subsample": self._subsample,
            "flatten": self._flatten,
        }[operation.kind]
        emit(one, operation, sources)

    def _input(self, one: Group, operation: Operation, _: list[Place]) -> None:
        place = self._room(one)
        fields = _sizes(operation.form) | place.view("out")
        self._records.append(self.kernels.simple("pack", fields))

    def _convolution(self, one: Group, operation: Operation, sources: list[Place]) -> None:
        (source,) = sources
        layer = self.network.get_submodule(operation.module)
        mask = self._mask(operation, self.traced.operations[operation.inputs[0]])
        kept = forward_list(mask, operation.geometry, source, turning=True)
        area = operation.form.height * operation.form.width
        self.kept += area * len(kept)
        self.all += area * mask.size
        weights = self._numbers(one, layer, kept, mask)
        added = None if one.added is None else self._places[one.added]
        out = self._room(one)
        geometry = operation.geometry
        origin = source.moved(0, -geometry.before[0], -geometry.before[1])
        fields = {
            "starts": kept.starts.ctypes.data,
            "offsets": kept.offsets.ctypes.data,
            "values": weights.values.data_ptr(),
            "bias": weights.bias.data_ptr(),
            "relu": int(one.relu),
            "added": int(added is not None),
            "channels": operation.form.channels,
        }
        for part in cover(operation.form.height, operation.form.width, self.kernels.machine.tile):
            places = {
                **origin.stream("in", part, *geometry.stride),
                **out.stream("out", part),
                **(added or out).stream("add", part),
            }
            steps = (geometry.stride[1], 1)
            self._records.append(self.kernels.convolve("plain", part, steps, fields | places))

    def _combine(self, one: Group, operation: Operation, sources: list[Place]) -> None:
        """Norm, sum and ReLU that follow no convolution."""
        source = sources[0]
        numbers = self._numbers(one, None, None, None)
        added = None if one.added is None else self._places[one.added]
        out = self._room(one)
        self._pass(source, out, numbers, one.relu, added)

    def _subsample(self, one: Group, operation: Operation, sources: list[Place]) -> None:
        rows, columns, before = operation.before
        source = sources[0].form
        out = self._room(one, mark=(before, source.channels))
        form = Form(source.channels, operation.form.height, operation.form.width)
        target = out.moved(before).every(1, 1, form)
        numbers = self._numbers(one, None, None, None, source.channels)
        self._pass(sources[0].every(rows, columns, form), target, numbers, False, None)

    def _flatten(self, one: Group, operation: Operation, sources: list[Place]) -> None:
        (source,) = sources
        if not self._is_view(one):
            numbers = self._numbers(one, None, None, None, source.form.channels)
            copy = self.memory.place(source.form, Border(), self.vector, mark="flat")
            self._pass(source, copy, numbers, False, None)
            source = copy
        self._places[one.end] = Place(
            source.space, source.at, self.vector, self.vector, self.vector, operation.form
        )

    def _pass(self, source: Place, out: Place, numbers: _Weights, relu: bool, added: Place | None) -> None:
        """One elementwise pass over a tensor."""
        form = out.form
        fields = {
            "channels": form.channels,
            "rows": form.height,
            "relu": int(relu),
            "two": int(added is not None),
            "scale1_space": ABSOLUTE,
            "scale1_at": numbers.values.data_ptr(),
            "shift_space": ABSOLUTE,
            "shift_at": numbers.bias.data_ptr(),
            "scale2_space": ABSOLUTE,
            "scale2_at": self._ones(form.channels),
        }
        views = source.view("one") | (added or source).view("other") | out.view("out")
        self._records.append(self.kernels.combine(form.width, fields | views))

    def _pool(self, one: Group, operation: Operation, sources: list[Place]) -> None:
        out = self._room(one)
        fields = _sizes(operation.form) | sources[0].view("one") | out.view("out")
        windows = pool_fields(operation, self.kernels.element)
        self._hold.append(windows)
        addresses = {name: array.ctypes.data for name, array in windows.items()}
        if operation.kind == "largest":
            del addresses["shares"]
        self._records.append(self.kernels.simple(operation.kind, fields | addresses))

    # -- numbers ------------------------------------------------------------------------------------------

    def _mask(self, operation: Operation, source: Operation) -> npt.NDArray[np.bool_]:
        shape = mask_shape(operation, source)
        kept = self.kept_weights.get(f"{operation.module}.weight" if operation.module else "weight")
        if kept is None:
            return np.ones(shape, dtype=np.bool_)
        return np.asarray(kept.detach().cpu().numpy(), dtype=np.bool_).reshape(shape)

    def _numbers(
        self,
        one: Group,
        layer: nn.Module | None,
        kept: KeptList | None,
        mask: npt.NDArray[np.bool_] | None,
        channels: int | None = None,
    ) -> _Weights:
        norm = self.network.get_submodule(one.norm) if one.norm else None
        if norm is not None and (not isinstance(norm, _BatchNorm) or norm.running_mean is None):
            raise CannotRun("a batch norm has no running statistics")
        channels = channels or self.traced.operations[one.end].form.channels
        dtype = torch.float64 if self.kernels.element == "double" else torch.float32
        order = torch.from_numpy(np.zeros(0, dtype=np.int64) if kept is None else kept.order)
        per_channel = 1 if mask is None else max(1, mask[0].size)
        numbers = _Weights(
            layer,
            norm,
            kept,
            order,
            order // per_channel,
            torch.zeros(channels if kept is None else max(1, len(kept)), dtype=dtype)[
                : channels if kept is None else len(kept)
            ],
            torch.zeros(channels, dtype=dtype),
        )
        self.weights.append(numbers)
        return numbers

    def _ones(self, channels: int) -> int:
        dtype = torch.float64 if self.kernels.element == "double" else torch.float32
        self._hold.append(torch.ones(channels, dtype=dtype))
        return int(self._hold[-1].data_ptr())


def _sizes(form: Form) -> dict[str, int]:
    return {"channels": form.channels, "rows": form.height, "columns": form.width}


def pool_fields(operation: Operation, element: Element) -> dict[str, npt.NDArray[Any]]:
    """Bounds of a pooling's windows and what their sums are multiplied with."""
    assert operation.windows is not None
    rows, columns, shares = operation.windows
    bounds = {
        "tops": [one for one, _ in rows],
        "bottoms": [one for _, one in rows],
        "lefts": [one for one, _ in columns],
        "rights": [one for _, one in columns],
    }
    number = np.float64 if element == "double" else np.float32
    return {
        **{name: np.array(values, dtype=np.int32) for name, values in bounds.items()},
        "shares": np.array(shares, dtype=number),
    }
