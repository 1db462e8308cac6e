"""The passes of a step, forward and backward, as one CUDA graph where they are the same each time.

Given to a GPU one by one, operations of a small network keep the host busy for longer than the GPU. So the
gradients of a whole batch are captured once and replayed: images and labels are copied into memory that the
graph reads, gradients out of memory that it writes, so that it doesn't matter what optimizers do with theirs.
Masks, perturbations and updates stay as they are; weights and running statistics lie where they lay.

A run that goes on computes its first steps one by one, where one that was never stopped replays them: a graph
is believed only if it gives the same bits, with other images and weights than those of its capture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from training.config import RunConfig

Graphs = Literal["auto", "off"]
Compute = Callable[[Tensor, Tensor], Tensor]
_MOST = 4  # kinds of passes; SAM has two, with batch norm's running statistics and without


class Passes:
    """Loss and gradients of a batch, by whatever `compute` does with its images and labels.

    `compute` finds the parameters' gradients None and returns a loss without a graph of its own.

    Parameters
    ----------
    model
        Whose gradients they are.
    images
        In a batch; smaller ones are computed as they are.
    against
        Why nothing is captured, if that is known; else empty.
    tell
        Hears why not, if that is found out later.
    """

    def __init__(self, model: nn.Module, images: int, against: str, tell: Callable[[str], None]) -> None:
        self.model, self.images, self.against, self._tell = model, images, against, tell
        self._modules = list(model.modules())
        self._norms = [one for one in self._modules if isinstance(one, _BatchNorm)]
        self._params, self._buffers = list(model.parameters()), list(model.buffers())
        self._known: dict[Hashable, _Graph | None] = {}  # None: was computed once

    @property
    def about(self) -> bool | str:
        """Whether steps are replayed, or why not."""
        if self.against:
            return f"no: {self.against}"
        return (
            any(one is not None and one.right for one in self._known.values()) or "no: too few whole batches"
        )

    def __call__(self, compute: Compute, images: Tensor, labels: Tensor) -> Tensor:
        """The loss; gradients are in new memory each time."""
        if self.against or len(labels) != self.images:
            return compute(images, labels)
        kind = self._kind(images, labels)
        graph = self._known.get(kind)
        if graph is not None and graph.right:
            return graph(images, labels)
        if graph is not None:
            return self._checked(graph, compute, images, labels)
        if kind in self._known:
            return self._captured(kind, compute, images, labels)
        if len(self._known) == _MOST:
            self._give_up("weights or settings of layers change from step to step")
        else:
            self._known[kind] = None
        return compute(images, labels)

    def _kind(self, *batch: Tensor) -> Hashable:
        """What a graph is captured for: equal ones are the same operations on the same memory."""
        return (
            *((one.shape, one.stride(), one.dtype) for one in batch),
            *(one.training for one in self._modules),
            *(one.track_running_stats for one in self._norms),
            *((one.data_ptr(), one.requires_grad) for one in [*self._params, *self._buffers]),
        )

    def _captured(self, kind: Hashable, compute: Compute, images: Tensor, labels: Tensor) -> Tensor:
        """Compute as it is, and capture that if it can be."""
        device = images.device
        drawn = _random_states(device)
        total = compute(images, labels)
        if any(not torch.equal(*both) for both in zip(drawn, _random_states(device), strict=True)):
            self._give_up("layers draw random numbers")
            return total
        try:
            torch.cuda.empty_cache()  # what is free is to be known
            free = torch.cuda.mem_get_info(device)[0]
            with self._left_as_it_is(device):
                self._known[kind] = _Graph(self._params, compute, images, labels)
            left = torch.cuda.mem_get_info(device)[0]
        except RuntimeError as error:
            self._give_up((str(error).strip() or type(error).__name__).splitlines()[0][:200])
            return total
        if left < 2 * (free - left):  # a smaller batch needs as much beside the graph, and so does evaluation
            self._give_up("it leaves too little of the GPU's memory")
        return total

    def _checked(self, graph: _Graph, compute: Compute, images: Tensor, labels: Tensor) -> Tensor:
        """Compute as it is, and believe the graph if it does the same with batch, weights and statistics."""
        before = _copies(self._buffers)
        total = compute(images, labels)
        expected = [total, *self._gradients(), *_copies(self._buffers)]
        with self._left_as_it_is(images.device):
            _write(self._buffers, before)
            found = [graph(images, labels), *self._gradients(), *self._buffers]
            graph.right = _same(expected, found)
        if not graph.right:
            self._give_up("replayed, it gave other bits than computed as it is")
        return total

    def _gradients(self) -> list[Tensor | None]:
        return [one.grad for one in self._params]

    @contextmanager
    def _left_as_it_is(self, device: torch.device) -> Iterator[None]:
        """Afterwards gradients, running statistics and random numbers are those that were there."""
        gradients, statistics = self._gradients(), _copies(self._buffers)
        try:
            with torch.random.fork_rng(devices=[device]):
                yield
        finally:
            _write(self._buffers, statistics)
            for one, gradient in zip(self._params, gradients, strict=True):
                one.grad = gradient

    def _give_up(self, reason: str) -> None:
        """Compute as it is from now on."""
        self.against = reason
        self._known.clear()
        self._tell(f"steps are no CUDA graph: {reason}")


class _Graph:
    """A captured pass; `right` once it was compared with one that wasn't."""

    def __init__(self, params: Sequence[Tensor], compute: Compute, images: Tensor, labels: Tensor) -> None:
        # Inside, for it brings the engine of surfaces, and who trains on a CPU needs none of it.
        from landscape.engine.cuda_graph import CapturedRun

        self.params, self.right = params, False
        self.images, self.labels = images.clone(), labels.clone()

        def run() -> tuple[Tensor, list[Tensor | None]]:
            for one in params:
                one.grad = None
            return compute(self.images, self.labels), [one.grad for one in params]

        self.run = CapturedRun(run, images.device)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Replay; the loss lies in memory that the next one overwrites, gradients in their own."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        total, gradients = self.run()
        there = [one for one in gradients if one is not None]
        own = [torch.empty_like(one) for one in there]
        torch._foreach_copy_(own, there)
        left = iter(own)
        for param, gradient in zip(self.params, gradients, strict=True):
            param.grad = None if gradient is None else next(left)
        return total


def obstacle(
    config: RunConfig, device: str, processes: int, compiled: bool, streamed: bool, graphs: Graphs
) -> str:
    """What of a run is against capturing its passes; empty where nothing is."""
    reasons: dict[str, Any] = {
        f"this is no GPU, but {device}": device != "cuda",
        "switched off": graphs == "off",
        "several processes train together": processes > 1,
        "torch.compile is in charge": compiled,
        "photographs are enough work in a step without it": streamed,
        "images are mixed by another share in each step": config.mixup,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _random_states(device: torch.device) -> tuple[Tensor, Tensor]:
    """Of the generators that layers draw from: the host's, and the device's."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [one.clone() for one in tensors]


@torch.no_grad()
def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for one, value in zip(tensors, values, strict=True):
        one.copy_(value)


def _same(some: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    """Whether all numbers are equal and none is NaN; waits for the device once."""
    if [one is None for one in some] != [one is None for one in others]:
        return False
    pairs = [(one, two) for one, two in zip(some, others, strict=True) if one is not None and two is not None]
    return not bool(torch.stack([(one != two).any() for one, two in pairs]).any())
