"""Training on sparse kernels: a function of images and parameters that autograd can differentiate once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from landscape.sparse import driver, llvm
from landscape.sparse.backward_plan import BackwardPlan
from landscape.sparse.batch_plan import BatchPlan, Counted, Layer
from landscape.sparse.elementwise import INPUT, OUTPUT, STRIDES, VALID
from landscape.sparse.inference import ELEMENTS
from landscape.sparse.kernels import Kernels, Record, aligned, as_table
from landscape.sparse.layout import ARENA, SCRATCH, THREAD
from landscape.sparse.machine import Machine
from landscape.sparse.slots import Emit, Phases
from landscape.sparse.statistics import ARENA_STEP, BLOCKS, FIRST_ARENA, IMAGES, LAST_VALID
from landscape.sparse.threads import give_way, pool
from landscape.sparse.trace import CannotRun, Traced, trace
from landscape.threads import one_thread

Ints = npt.NDArray[np.int64]


class SparseTraining:
    """A network in training mode that computes with kept weights only.

    ``net(x)`` gives what ``network(x)`` gives, and its backward pass the gradients by kept weights and all
    other parameters; those by pruned weights are 0. Running statistics move as PyTorch moves them.

    Parameters
    ----------
    network
        In training mode; its pruned weights must be 0. It stays the owner of all parameters.
    kept
        Masks by parameter name, True = kept; weights that aren't named are kept.
    example
        Input ``[N, C, H, W]`` that gives shapes and element type.
    machine
        What to compile for.
    input_gradient
        Whether gradients by the input are wanted, too.
    traced
        What `trace` found, where that was done already.
    threads
        In which a batch is computed; as many as PyTorch has at a forward pass by default.

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
        *,
        input_gradient: bool = False,
        traced: Traced | None = None,
        threads: int | None = None,
    ) -> None:
        if example.dtype not in ELEMENTS:
            raise CannotRun(f"the kernels compute in float32 and float64, not {example.dtype}")
        self.network, self.dtype = network, example.dtype
        self.input_gradient, self.threads = input_gradient, threads
        traced = traced or trace(network, example)
        first = traced.operations[0].form
        self.input_shape = (first.channels, first.height, first.width)
        self.result = traced.output_shape[1:]
        kernels = Kernels(machine, ELEMENTS[self.dtype])
        self.lanes = kernels.lanes
        self._plan = BatchPlan(network, traced, kept, kernels)
        self._back = BackwardPlan(self._plan, input_gradient)
        self._check_size()
        self._forward_program = _Program(self._plan.forward)
        self._backward_program = _Program(self._back.phases)
        self._call = llvm.prototype(8)(kernels.run_phases())
        self._parameters = dict(network.named_parameters())
        self._names = list(self._parameters)
        self._counted = list(self._plan.counted.values())
        self._norms = [one for one in self._counted if one.norm is not None]
        self._weighted = [
            one for one in self._plan.layers.values() if one.unit.module and one.gradient_at >= 0
        ]
        self._order = _joined(self._weighted)
        self._free: list[_Workspace] = []
        self._lock = threading.Lock()

    def _check_size(self) -> None:
        scratch = self._plan.scratch.memory.size
        if max(scratch, self._plan.arena.size, self._plan.thread.size) >= 1 << 31:
            raise CannotRun("a block of images takes 2 GiB of activations or more")

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output; differentiable by its parameters (and by `x` with `input_gradient`).

        Raises
        ------
        ValueError
            For another kind of input, where batch norm has a single value per channel, and where one has gone
            into evaluation mode.
        """
        if x.dtype != self.dtype or x.dim() != 4 or tuple(x.shape[1:]) != self.input_shape or not len(x):
            expected = f"[N, {', '.join(map(str, self.input_shape))}] {self.dtype}"
            raise ValueError(f"input {list(x.shape)} {x.dtype}: expected {expected}")
        if x.requires_grad and not self.input_gradient:
            raise ValueError("the input requires a gradient, which this was not built for")
        for one in self._norms:
            norm = one.norm
            if norm is not None and not norm.training and norm.running_mean is not None:
                raise ValueError(f"{one.term.module} is in evaluation mode: it was built for training mode")
            if one.area * len(x) == 1:  # as PyTorch has it
                raise ValueError("Expected more than 1 value per channel when training, got one")
        parameters = [self._parameters[name] for name in self._names]
        result: Tensor = _Step.apply(self, x, *parameters)
        return result

    # -- a pass -------------------------------------------------------------------------------------------

    def run_forward(self, x: Tensor) -> tuple[Tensor, _Workspace]:
        """Output, and the memory that the backward pass reads."""
        work = self._workspace(len(x))
        with one_thread():
            self._read_parameters()
        size = x.element_size()
        out = torch.empty((len(x), *self.result), dtype=self.dtype)
        work.aim(x.data_ptr(), size * x.stride(0), out.data_ptr(), size * out.stride(0))
        work.contexts[:, STRIDES : STRIDES + 4] = [size * one for one in x.stride()]
        self._run(self._forward_program, work)
        with one_thread():
            self._move_statistics(work, len(x))
        return out, work

    def run_backward(self, gradient: Tensor, work: _Workspace) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients by the input and by each parameter, in order; gives the memory back."""
        gradient = gradient.contiguous()
        by_input = None
        out = out_step = 0
        if self.input_gradient:
            by_input = torch.empty((len(gradient), *self.input_shape), dtype=self.dtype)
            out, out_step = by_input.data_ptr(), by_input.element_size() * by_input.stride(0)
        step = gradient.element_size() * gradient.stride(0)
        work.aim(gradient.data_ptr(), step, out, out_step)
        self._run(self._backward_program, work)
        with one_thread():
            return by_input, self._gradients(work)

    def _run(self, program: _Program, work: _Workspace) -> None:
        """All phases, in as many threads as there are threads and blocks."""
        table, contexts = program.table, work.contexts
        work.barrier[:] = 0
        arguments = [
            (
                table.ctypes.data,
                len(table),
                contexts.ctypes.data,
                thread,
                len(contexts),
                work.threads,
                work.barrier.ctypes.data,
                give_way(),
            )
            for thread in range(work.threads)
        ]
        futures = [pool().submit(self._call, *one) for one in arguments[1:]]
        self._call(*arguments[0])
        for future in futures:
            future.result()

    # -- memory -------------------------------------------------------------------------------------------

    def _workspace(self, images: int) -> _Workspace:
        threads = max(1, min(self.threads or torch.get_num_threads(), -(-images // self.lanes)))
        with self._lock:
            found = self._free.pop() if self._free else None
        if found is None or found.threads != threads or not found.fits(images, self.lanes):
            found = _Workspace(self._plan, images, self.lanes, threads)
        found.use(images, self.lanes)
        found.passes += 1
        return found

    def give_back(self, work: _Workspace) -> None:
        """The memory may serve another pass."""
        with self._lock:
            if not self._free:
                self._free.append(work)

    def take_back(self, work: _Workspace, number: int) -> bool:
        """Whether it still holds what its pass number `number` left there; it is in use again then."""
        with self._lock:
            if work.passes != number:
                return False
            if work in self._free:
                self._free.remove(work)
            return True

    # -- parameters ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _read_parameters(self) -> None:
        for layer in self._plan.layers.values():
            if layer.module is None:
                continue
            flat = layer.weight.detach().reshape(-1)
            torch.index_select(flat, 0, layer.order, out=layer.values)
            for _, _, values, order in layer.back:
                torch.index_select(flat, 0, order, out=values)
        goals, sources = [], []
        for counted in self._counted:
            for goal, source in self._numbers_of(counted):
                goals.append(goal)
                sources.append(source)
        if goals:
            torch._foreach_copy_(goals, sources)

    def _numbers_of(self, counted: Counted) -> Iterator[tuple[Tensor, Tensor]]:
        """What the kernels read of a norm or a bias: where to, and from where."""
        own, norm, bias = counted.own, counted.norm, self._bias_before(counted)
        if norm is None:
            if bias is not None:
                yield own["beta"], bias
            return
        if norm.weight is not None:
            yield own["gamma"], norm.weight
            yield own["beta"], norm.bias
        if norm.running_mean is not None:  # the pivot: a guess of the mean, for sums without loss
            yield own["pivot"], norm.running_mean if bias is None else norm.running_mean - bias

    @torch.no_grad()
    def _move_statistics(self, work: _Workspace, images: int) -> None:
        """Running mean and variance, as `torch.nn.BatchNorm2d` in training mode."""
        for share, norms in self._by_share().items():
            count = [one.area * images for one in norms]
            means = work.numbers("mean", norms)
            for at, one in enumerate(norms):
                bias = self._bias_before(one)
                means[at] = means[at] if bias is None else means[at] + bias.detach()
            free = [one / (one - 1) for one in count]
            variances = torch._foreach_mul(work.numbers("variance", norms), free)
            for name, values in (("running_mean", means), ("running_var", variances)):
                running = [getattr(one.norm, name) for one in norms]
                torch._foreach_mul_(running, 1 - share)
                torch._foreach_add_(running, values, alpha=share)

    def _by_share(self) -> dict[float, list[Counted]]:
        """Norms with running statistics, by the weight of a new batch; counts the batch."""
        found: dict[float, list[Counted]] = {}
        tracked = [
            (one, one.norm)
            for one in self._norms
            if one.norm is not None and one.norm.track_running_stats and one.norm.running_mean is not None
        ]
        counts = [norm.num_batches_tracked for _, norm in tracked if norm.num_batches_tracked is not None]
        if counts:
            torch._foreach_add_(counts, 1)
        for (one, norm), count in zip(tracked, counts, strict=True):
            share = 1 / float(count) if norm.momentum is None else norm.momentum
            found.setdefault(share, []).append(one)
        return found

    def _bias_before(self, one: Counted) -> Tensor | None:
        """The bias of the convolution before a norm, which the norm takes away again."""
        module = self._plan.layers[one.term.source].module
        bias = None if module is None else module.bias
        return bias if isinstance(bias, Tensor) else None

    def _gradients(self, work: _Workspace) -> list[Tensor | None]:
        found = self._by_weight(work)
        norms = self._norms
        for kind, name, counted in (("by_beta", "bias", self._counted), ("by_gamma", "weight", norms)):
            values = torch.cat(work.numbers(kind, counted)) if counted else torch.empty(0)
            parts = torch.split(values, [one.channels for one in counted])
            found |= {_name(one.term.module, name): part for one, part in zip(counted, parts, strict=True)}
        for one in norms:
            if self._bias_before(one) is not None:  # the norm takes it away
                before = self._plan.layers[one.term.source].unit.module
                found[_name(before, "bias")] = torch.zeros(one.channels, dtype=self.dtype)
        return [found.get(name) for name in self._names]

    def _by_weight(self, work: _Workspace) -> dict[str, Tensor]:
        """Gradients by weights: what all threads found, in order; 0 where pruned."""
        weights = [one.weight for one in self._weighted]
        found = torch.zeros(sum(one.numel() for one in weights), dtype=self.dtype)
        found.index_copy_(0, self._order, work.gradients(self._weighted))
        names = [_name(one.unit.module, "weight") for one in self._weighted]
        parts = torch.split(found, [one.numel() for one in weights])
        return {name: part.view_as(one) for name, part, one in zip(names, parts, weights, strict=True)}


class _Step(torch.autograd.Function):
    """One forward pass, and its backward pass."""

    @staticmethod
    def forward(ctx: Any, net: SparseTraining, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.net = net
        out, work = net.run_forward(x)
        ctx.held = _Held(net, work)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        work = ctx.held.work
        if not ctx.net.take_back(work, ctx.held.number):
            raise RuntimeError("Trying to backward through the graph a second time, whose memory is in use")
        by_input, by_parameters = ctx.net.run_backward(gradient, work)
        ctx.net.give_back(work)
        return (None, by_input, *by_parameters)


class _Held:
    """A workspace that goes back with the graph, where no backward pass has given it back already."""

    def __init__(self, net: SparseTraining, work: _Workspace) -> None:
        self.net, self.work, self.number = net, work, work.passes

    def __del__(self) -> None:
        if self.net.take_back(self.work, self.number):
            self.net.give_back(self.work)


class _Workspace:
    """Memory of one pass: each block's arena, each thread's scratch and numbers, and the contexts."""

    def __init__(self, plan: BatchPlan, images: int, lanes: int, threads: int) -> None:
        self.threads, self.most = threads, -(-images // lanes)
        self.step = -(-plan.arena.size // 64) * 64
        self.item = plan.item
        self.passes = 0
        self.arena = aligned(self.step * self.most)
        self.scratch = [aligned(plan.scratch.memory.size) for _ in range(threads)]
        self.thread = [aligned(plan.thread.size) for _ in range(threads)]
        self._views = [
            torch.from_numpy(one[: len(one) // self.item * self.item]).view(plan.dtype) for one in self.thread
        ]
        self._parts: dict[tuple[int, int], Tensor] = {}
        self.barrier = aligned(64).view(np.int64)
        self.contexts: Ints = np.zeros((0, driver.CONTEXT), dtype=np.int64)

    def fits(self, images: int, lanes: int) -> bool:
        """Whether there is room for so many."""
        return -(-images // lanes) <= self.most

    def use(self, images: int, lanes: int) -> None:
        """Contexts for so many images."""
        blocks = -(-images // lanes)
        contexts = np.zeros((blocks, driver.CONTEXT), dtype=np.int64)
        base = self.arena.ctypes.data
        for block in range(blocks):
            thread = block % self.threads
            contexts[block, SCRATCH] = self.scratch[thread].ctypes.data
            contexts[block, THREAD] = self.thread[thread].ctypes.data
            contexts[block, ARENA] = base + block * self.step
            contexts[block, VALID] = min(lanes, images - block * lanes)
        contexts[:, FIRST_ARENA] = base
        contexts[:, ARENA_STEP] = self.step
        contexts[:, BLOCKS] = blocks
        contexts[:, LAST_VALID] = images - (blocks - 1) * lanes
        contexts[:, IMAGES] = images
        self.contexts, self.lanes = contexts, lanes

    def aim(self, source: int, source_step: int, goal: int, goal_step: int) -> None:
        """Where blocks read and write their images."""
        first = np.arange(len(self.contexts), dtype=np.int64) * self.lanes
        self.contexts[:, INPUT] = source + first * source_step
        self.contexts[:, OUTPUT] = goal + first * goal_step

    def numbers(self, kind: str, of: list[Counted]) -> list[Tensor]:
        """Numbers of the first thread, one tensor for each."""
        return [self._part(0, one.at[kind], one.channels) for one in of]

    def gradients(self, layers: list[Layer]) -> Tensor:
        """Those of all kept weights, layer after layer: sums over threads, in order."""
        total = torch.zeros(0)
        for thread, view in enumerate(self._views):
            parts = [self._part(thread, one.gradient_at, len(one.kept)) for one in layers]
            here = torch.cat(parts) if parts else view[:0]
            total = here if thread == 0 else total.add_(here)
        return total

    def _part(self, thread: int, at: int, count: int) -> Tensor:
        """A view of a thread's memory, made once."""
        found = self._parts.get((thread, at))
        if found is None:
            found = self._parts[thread, at] = self._views[thread].narrow(0, at // self.item, count)
        return found


class _Program:
    """Phases as the driver reads them."""

    def __init__(self, phases: Phases) -> None:
        self._hold: list[Ints] = []
        rows = [
            [word for part in (one.begin, one.block, one.end) for word in self._records(part)]
            for one in phases.phases
        ]
        self.table: Ints = np.array(rows, dtype=np.int64).reshape(len(rows), driver.PHASE)

    def _records(self, emits: list[Emit]) -> tuple[int, int]:
        records: list[Record] = [record for emit in emits for record in emit()]
        table = as_table(records)
        self._hold.append(table)
        return table.ctypes.data, len(records)


def _joined(layers: list[Layer]) -> Tensor:
    """Places of all kept weights where the layers' weights lie one after the other."""
    first, places = 0, [torch.zeros(0, dtype=torch.int64)]
    for one in layers:
        places.append(one.order + first)
        first += one.weight.numel()
    return torch.cat(places)


def _name(module: str, parameter: str) -> str:
    return f"{module}.{parameter}" if module else parameter
