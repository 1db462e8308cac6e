"""The first examples that count for a loss: labels that are ignored say nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from landscape.engine.totals import batch_values
from landscape.examples import Examples
from landscape.losses import Loss

_MOST = 16  # examples at a time, while none of them counts: what a first look takes as well

NOTHING_COUNTS = (
    "no examples: the loss says of every batch that nothing in it counts (is every label -100?); at least "
    "one is needed"
)


def first_counted(examples: Examples, size: int, counted: Callable[[Examples], int]) -> Examples:
    """The first `size` examples, or if none of them counts, about as many further on of which some do.

    Parameters
    ----------
    examples
        Of given ones the first batch in which something counts.
    size
        How many.
    counted
        How many of some examples count for the loss. Where none does anywhere, the first are taken.
    """
    if examples.given:
        batches = (replace(examples, given=(one,)) for one in examples.given)
        return next((one for one in batches if counted(one)), examples.head(size))
    start, length, total = 0, size, len(examples.tensors[0])
    while start < total:
        part = examples.pick(slice(start, start + length))
        if counted(part):
            return _narrowed(part, size, counted)
        start, length = start + length, min(2 * length, _MOST)
    return examples.head(size)


def counter(
    loss: Loss, module: nn.Module, device: torch.device, dtype: torch.dtype
) -> Callable[[Examples], int]:
    """Says how many of some examples count, by calling the loss; `module` is there and in that type."""

    def counted(part: Examples) -> int:
        (batch,) = part.to(device, dtype).batches(len(part.given or part.tensors[0]))
        return batch_values(loss(module, batch)).count

    return counted


def _narrowed(examples: Examples, size: int, counted: Callable[[Examples], int]) -> Examples:
    """At most `size` of examples of which some count, by halves."""
    while (length := len(examples.tensors[0])) > size:
        first = examples.pick(slice(0, length // 2))
        examples = first if counted(first) else examples.pick(slice(length // 2, length))
    return examples
