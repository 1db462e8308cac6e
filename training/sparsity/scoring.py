"""Run a network to score its weights, and leave it exactly as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Loss = Callable[[], Tensor]
"""Computes a scalar loss from weights that it holds on to."""


@contextmanager
def scored_copy(model: nn.Module, generator: torch.Generator, *, training: bool) -> Iterator[nn.Module]:
    """A copy of the network to run in double precision, in training or evaluation mode.

    So no mask hangs on the last bits of single precision (or the fewer of tf32), which differ between
    machines, libraries and numbers of threads.

    Weights, batch-norm statistics, gradients and mode of `model` stay as they are, and so does torch's global
    random state: inside, it's seeded by `generator`, which decides what dropout draws.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    with torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpu else []), torch.enable_grad():
        torch.manual_seed(seed)
        yield copy.deepcopy(model).double().train(training)


def batch_losses(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, temperature: float = 1.0
) -> list[Loss]:
    """One loss for each batch, such that they sum to the mean cross-entropy of all the examples.

    So a short last batch weighs as much as its examples do.

    Parameters
    ----------
    images, labels
        (N, 3, H, W), in any precision, and (N,), split in their order into batches of `batch_size`.
    temperature
        The logits are divided by it.
    """

    def loss_of(batch: Tensor, targets: Tensor) -> Loss:
        return lambda: F.cross_entropy(model(batch) / temperature, targets, reduction="sum") / len(labels)

    precision = next(iter(model.parameters())).dtype
    size = min(batch_size, max(1, len(labels)))  # torch knows no numbers beyond 2**63
    parts = zip(torch.split(images.to(precision), size), torch.split(labels, size), strict=True)
    return [loss_of(batch, targets) for batch, targets in parts]


def summed_gradients(weights: Mapping[str, Tensor], losses: Sequence[Loss]) -> dict[str, Tensor]:
    """Gradient of the sum of all losses with respect to each weight tensor; one graph at a time in memory.

    0 where no loss depends on a weight.
    """
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for loss in losses:
        parts = torch.autograd.grad(loss(), list(weights.values()), materialize_grads=True)
        for name, part in zip(weights, parts, strict=True):
            total[name] += part
    return total
