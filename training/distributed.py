"""Several processes that train one model, started by ``torchrun``; one process is the case of size 1.

Every process holds all images and draws the same batches; each computes its part of a batch, and
``DistributedDataParallel`` averages the gradients, so that weights and masks are the same bits everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Number of this process and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that evaluates, writes files and prints."""
        return self.rank == 0

    def forward(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in training; with several processes its backward averages gradients."""
        if self.size == 1:
            return model
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

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
        """Sum over the processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def agree(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors: what each computed alike must not depend on its last bits."""
        if self.size > 1:
            for tensor in tensors.values():
                whole = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
                distributed.broadcast(whole, src=0)
                tensor.copy_(whole)
        return dict(tensors)

    def by_first(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process only; all get its result, or its exception."""
        if self.size == 1:
            return work()
        result: list[tuple[T | None, BaseException | None]] = [(None, None)]
        if self.first:
            try:
                result = [(work(), None)]
            except Exception as error:
                result = [(None, error)]
        distributed.broadcast_object_list(result, src=0)
        value, problem = result[0]
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # `work` gave it


@contextmanager
def joined(device_type: str) -> Iterator[tuple[World, torch.device]]:
    """The world of this process and its device; joins the others where ``torchrun`` started several."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), torch.device(device_type)
        return
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise UserError(f"WORLD_SIZE {size} without {', '.join(missing)}: start with torchrun, or unset it")
    device = torch.device(device_type)
    if device_type == "cuda":
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise UserError(
                f"process {os.environ['LOCAL_RANK']} finds {torch.cuda.device_count()} GPUs: start fewer"
            )
        device = torch.device(device_type, int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size), device
    finally:
        distributed.destroy_process_group()
