"""Several processes that train one model, started by ``torchrun``; one process is the case of size 1.

Every process holds all images and draws the same batches; each computes its part of a batch, and
``DistributedDataParallel`` averages the gradients, so that weights and masks are the same bits everywhere.

Two kinds of things travel, each by a group of processes of its own. Python objects (results, errors) go
through the default group, which is always gloo's and needs the CPU's memory only. Tensors go through
``World.tensors``: on CPUs that is the same group; on GPUs it is one of nccl's, which takes tensors of a
GPU, in each process of its own one, and no others.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.devices import choose_device
from landscape.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Number of this process, how many there are, and the group that tensors on their device go through."""

    rank: int = 0
    size: int = 1
    tensors: distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that evaluates, writes files and prints."""
        return self.rank == 0

    def forward(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in training; with several processes its backward averages gradients."""
        if self.size == 1:
            return model
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, process_group=self.tensors)

    def part(self, batch: Tensor) -> Tensor:
        """Part a batch that is this process's; all of one with fewer items than processes."""
        return batch if len(batch) < self.size else batch.tensor_split(self.size)[self.rank]

    def without_sync(self, forward: object) -> AbstractContextManager[None]:
        """Backward passes inside keep their gradients to this process."""
        shared = getattr(forward, "_orig_mod", forward)  # torch.compile wraps it
        if isinstance(shared, DistributedDataParallel):
            return shared.no_sync()
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes; `values` are on the training's device."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values, group=self.tensors)
        return values

    def decide(self, wanted: bool) -> bool:
        """What the first process wants."""
        if self.size == 1:
            return wanted
        chosen = torch.tensor([wanted], dtype=torch.uint8, device="cpu")
        distributed.broadcast(chosen, src=0)
        return bool(chosen)

    def together(self, batches: Iterator[T], fallible: bool = True) -> Iterator[T]:
        """The same items; where getting one is `fallible`, a UserError of one process is raised in all."""
        if self.size == 1 or not fallible:
            yield from batches
            return
        while True:
            found = self.by_all(lambda: [one for one in [next(batches, None)] if one is not None])
            if not found:
                return
            yield found[0]

    def agree(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors: what each computed alike must not depend on its last bits.

        They are on the training's device, and are overwritten where they aren't the first process's.
        """
        if self.size > 1:
            for tensor in tensors.values():
                # nccl takes contiguous tensors only, and not every version takes bool.
                whole = (tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor).contiguous()
                distributed.broadcast(whole, src=0, group=self.tensors)
                tensor.copy_(whole)
        return dict(tensors)

    def by_first(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process only; all get its result, or its exception.

        The result holds no tensor of a GPU: the others would find it on the first process's.
        """
        if self.size == 1:
            return work()
        result: list[tuple[T | None, BaseException | None]] = [(None, None)]
        if self.first:
            try:
                result = [(work(), None)]
            except Exception as error:
                result = [(None, error)]
        distributed.broadcast_object_list(result, src=0, device=torch.device("cpu"))
        value, problem = result[0]
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # `work` gave it

    def by_all(self, work: Callable[[], T]) -> T:
        """Do `work` in every process and return its own result; a UserError of one is raised in all.

        Without this, those in which it works would wait for the others for ever. The text is the first
        failing process's, with its number where the work failed in some only or not in the same way.
        """
        if self.size == 1:
            return work()
        result: list[T] = []
        text = None
        try:
            result.append(work())
        except UserError as error:
            text = str(error)
        texts = self.gather(text)
        if any(one is not None for one in texts):
            rank, first = next((rank, one) for rank, one in enumerate(texts) if one is not None)
            raise UserError(first if len(set(texts)) == 1 else f"process {rank} of {self.size}: {first}")
        return result[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank; numbers, strings and the like."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # all are filled

    def check_same(self, what: str, value: object, advice: str) -> None:
        """Raise UserError, in all processes, unless all have the same `value`."""
        values = self.gather(value)
        other = next((rank for rank, one in enumerate(values) if one != values[0]), None)
        if other is not None:
            text = f"{values[0]} in process 0, {values[other]} in process {other}"
            raise UserError(f"the processes differ in {what}: {text}; {advice}")


@contextmanager
def joined(device_name: str) -> Iterator[tuple[World, torch.device]]:
    """The world of this process and its device; joins the others where ``torchrun`` started several.

    `device_name` is "cpu", "cuda", "auto" for a GPU where there is one, or for a single process "cuda:N".

    Raises
    ------
    UserError
        Without a GPU that is asked for, when the environment is incomplete, or when processes would train on
        different kinds of devices; in all processes.
    """
    size = _number("WORLD_SIZE", 1) if "WORLD_SIZE" in os.environ else 1
    if size == 1:
        device = torch.device(choose_device(device_name))
        if device.index is not None:
            torch.cuda.set_device(device)  # what names none means this one
        yield World(), device
        return
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise UserError(f"WORLD_SIZE {size} without {', '.join(missing)}: start with torchrun, or unset it")
    if _number("RANK", 0) >= size:
        raise UserError(
            f"RANK {os.environ['RANK']} of WORLD_SIZE {size}: expected a smaller one; use torchrun"
        )
    _number("LOCAL_RANK", 0)
    _number("MASTER_PORT", 1)
    try:
        distributed.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:  # the others didn't come, or the address isn't one
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise UserError(f"the {size} processes didn't meet at {where}: {reason}; use torchrun") from error
    try:
        world = World(distributed.get_rank(), size)
        kind = world.by_all(lambda: _kind(device_name))
        world.check_same("device", kind, "give --device cpu or cuda")
        device = world.by_all(lambda: _own_device(kind))
        if device.type == "cuda":
            group = distributed.new_group(backend="nccl")
            assert isinstance(group, distributed.ProcessGroup)  # else this process wouldn't be in it
            world = World(world.rank, size, group)
        yield world, device
        # Without this a process now and then aborts while it exits (torch 2.14, gloo): DDP in a cycle of
        # references keeps the group's threads beyond the group, or the other process's sockets go first.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _number(name: str, least: int) -> int:
    """An environment variable of torchrun's; UserError unless it is a number of at least `least`."""
    text = os.environ[name]
    if not text.isdecimal() or int(text) < least:
        raise UserError(
            f"{name} {text!r}: expected a number from {least} on; start with torchrun, or unset WORLD_SIZE"
        )
    return int(text)


def _kind(name: str) -> str:
    if ":" in name:
        raise UserError(f"device {name}: each of several processes takes the GPU of its number; use cuda")
    return choose_device(name)


def _own_device(kind: str) -> torch.device:
    """The CPU, or the GPU with this process's number on this machine, which becomes the current one."""
    if kind != "cuda":
        return torch.device(kind)
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise UserError(f"no GPU for process {number} of its machine, which has {count}: start fewer")
    device = torch.device(kind, number)
    torch.cuda.set_device(device)
    return device
