"""Which examples to look at: fixed by a seed, balanced over the classes, in an order that stays balanced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscape.errors import UserError

Indices = NDArray[np.int64]


def balanced_subset(labels: Indices, count: int | None, seed: int) -> Indices:
    """Indices of `count` examples, as equally many of each class as there are, without repetition.

    The classes take turns, so that any contiguous block of the result is itself balanced: where all classes
    have enough examples, the numbers per class differ by at most one, in the whole and in every block.
    A class that runs out is spread evenly over the order. The same seed gives the same indices everywhere.

    Parameters
    ----------
    labels
        Shape ``[N]``, any integers.
    count
        How many; None or more than N takes all.
    seed
        Of the choice within each class and of the order of the classes.

    Returns
    -------
    indices
        Shape ``[min(count, N)]``, into `labels`.

    Raises
    ------
    UserError
        When `count` is below 1, or there are no examples.
    """
    if not len(labels):
        raise UserError("no examples: the data set is empty; at least one is needed")
    if count is not None and count < 1:
        raise UserError(f"examples must be at least 1, got {count}")
    # Raw bits, whose stream NumPy guarantees; its methods may draw differently from version to version.
    draw = np.random.PCG64(seed).random_raw
    classes, codes, available = np.unique(labels, return_inverse=True, return_counts=True)
    turn = np.argsort(np.argsort(draw(len(classes)), kind="stable"), kind="stable")
    shuffled = np.argsort(draw(len(labels)), kind="stable")
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    starts = np.cumsum(available) - available
    rank = np.arange(len(labels)) - np.repeat(starts, available)
    taken = _shares(available, len(labels) if count is None else min(count, len(labels)), turn)
    owner = np.repeat(np.arange(len(classes)), available)
    keep = rank < taken[owner]
    rank, owner = rank[keep], owner[keep]
    # Classes within one of the fullest take strict turns; smaller ones are stretched over the same length.
    length = np.where(taken >= taken.max() - 1, taken.max(), np.maximum(taken, 1))
    place = (2 * rank + 1) / (2 * length[owner])
    order = np.lexsort((turn[owner], place))
    return by_class[keep][order].astype(np.int64)


def _shares(available: Indices, count: int, turn: Indices) -> Indices:
    """Examples per class: as equal as the classes' sizes allow; earlier turns get the remainder."""
    taken = np.zeros_like(available)
    while (left := count - int(taken.sum())) > 0:
        open_classes = np.flatnonzero(taken < available)
        each = left // len(open_classes)
        if each:
            taken[open_classes] += np.minimum(each, (available - taken)[open_classes])
        else:
            taken[open_classes[np.argsort(turn[open_classes])][:left]] += 1
    return taken
