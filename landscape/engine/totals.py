"""Per-example values of one split at one point, summed over blocks of examples in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from landscape.errors import UserError

_TAKEN = ("loss", "block_counts")  # in the group of a surface file where metrics lie, with …
_TAKEN_ENDS = ("_stderr", "_blocks", "_computed")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Totals:
    """Sums over K contiguous, near-equal blocks of the examples, in their fixed order.

    Attributes
    ----------
    counts
        int64 ``[K]``, examples per block.
    sums
        Per metric ("loss" and the loss function's others), float64 ``[K]``: sums over each block.
    squares
        Per metric, the sum of squares of the per-example values; NaN where only sums were given.
    """

    counts: npt.NDArray[np.int64]
    sums: Mapping[str, FloatArray]
    squares: Mapping[str, float]

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.counts.sum())

    def mean(self, name: str) -> float:
        """Mean over all examples."""
        return float(self.sums[name].sum() / self.counts.sum())

    def block_means(self, name: str) -> FloatArray:
        """Mean over each block, ``[K]``."""
        return self.sums[name] / self.counts

    def turned(self, name: str, share: float) -> float:
        """How far the mean moves where this share of the examples, or one, gets another value.

        As where rounding turns a class: 1/N of an accuracy. Values that aren't known are taken as 1 at most.
        """
        total, squares = abs(float(self.sums[name].sum())), float(self.squares[name])
        known = 0.0 < total < math.inf and math.isfinite(squares)
        one = min(squares / total, math.sqrt(squares)) if known else max(1.0, abs(self.mean(name)))
        return max(share, 1 / self.examples) * one if math.isfinite(one) else 0.0

    def stderr(self, name: str) -> float:
        """Standard error of the mean over examples that were drawn independently.

        NaN for a single example, where only sums are known, and where the values aren't finite.
        """
        count = self.examples
        if count < 2:
            return float("nan")
        with np.errstate(invalid="ignore", over="ignore"):
            scatter = self.squares[name] - count * np.float64(self.mean(name)) ** 2
            return float(np.sqrt(np.maximum(scatter, 0.0) / (count * (count - 1))))


@dataclass(frozen=True)
class BatchValues:
    """What the loss gave for one batch: values per example ``[count]`` or sums ``[]``, by metric."""

    count: int
    values: Mapping[str, Tensor]


def batch_values(result: Any) -> BatchValues:
    """Check what a loss returned.

    Raises
    ------
    UserError
        When it isn't ``(loss, count)`` or ``(loss, count, metrics)`` of fitting shapes, or a metric's name is
        one that a surface file needs.
    """
    if not (isinstance(result, tuple) and len(result) in (2, 3)):
        raise UserError(
            f"the loss returned {type(result).__name__}; expected (loss, count) or (loss, count, metrics)"
        )
    loss, count, *rest = result
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 0:
        raise UserError(f"the loss returned {count!r} as the number of examples; expected an integer")
    metrics = rest[0] if rest else {}
    _check_names(metrics)
    values: dict[str, Tensor] = {"loss": loss, **metrics}
    for name, value in values.items():
        if not isinstance(value, Tensor) or (value.dim() and value.shape != (count,)):
            what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(
                f"the loss returned {what} as {name!r} for {count} examples; "
                f"expected a tensor of shape [{count}] (one value per example) or [] (their sum)"
            )
        if value.is_complex():
            raise UserError(
                f"the loss returned {value.dtype} as {name!r}; expected real numbers (.real, .abs())"
            )
    return BatchValues(int(count), {name: value.detach() for name, value in values.items()})


def _check_names(metrics: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise UserError(
            f"the loss returned a {type(metrics).__name__} as third value; expected metrics by name, a dict"
        )
    for name in metrics:
        if not isinstance(name, str) or not name.strip(".") or "/" in name or "\0" in name:
            raise UserError(f"the loss calls a metric {name!r}; expected a name without slashes")
        if name in _TAKEN or name.endswith(_TAKEN_ENDS):
            raise UserError(f"the loss calls a metric {name!r}, a name that is taken; choose another")


def total(batches: Sequence[BatchValues], blocks: int) -> Totals:
    """Sum over `blocks` blocks; fewer where there are fewer examples, or fewer batches with only a sum.

    Raises
    ------
    UserError
        When nothing counts, or batches give other metrics, or values where others give sums.
    """
    sizes = np.array([batch.count for batch in batches], dtype=np.int64)
    if not sizes.sum():
        raise UserError("no examples: every batch is empty, or nothing in it counts; at least one is needed")
    whole = _kinds(batches)
    if all(whole.values()):
        edges = _edges(int(sizes.sum()), blocks)
    else:  # each begins with a batch in which something counts
        full = np.flatnonzero(sizes)
        firsts = full[_edges(len(full), blocks)[:-1]]
        firsts[0] = 0
        edges = np.concatenate([[0], np.cumsum(sizes)])[[*firsts, len(batches)]]
    sums, squares = {}, {}
    for name in whole:
        # Where nothing counts, a plain zero stands for no values.
        values = gathered([batch.values[name] for batch in batches if batch.count or not whole[name]])
        starts = edges[:-1] if whole[name] else firsts
        with np.errstate(invalid="ignore", over="ignore"):
            sums[name] = np.add.reduceat(values, starts)
            squares[name] = float(np.square(values).sum()) if whole[name] else float("nan")
    return Totals(np.diff(edges), sums, squares)


def _kinds(batches: Sequence[BatchValues]) -> dict[str, bool]:
    """Whether there are values per example, by metric; of a single example either will do."""
    names = batches[0].values.keys()
    for number, batch in enumerate(batches):
        if batch.values.keys() != names:
            raise UserError(
                f"the loss returned {', '.join(batch.values)} for batch {number} (from 0) and "
                f"{', '.join(names)} for the first; expected the same for all, NaN where there is no value"
            )
    found = {}
    for name in names:
        several = [bool(batch.values[name].dim()) for batch in batches if batch.count > 1]
        found[name] = any(several or (bool(batch.values[name].dim()) for batch in batches))
        if any(one != found[name] for one in several):
            raise UserError(
                f"the loss returned the sum of {name!r} for some batches and one value per example for "
                "others; expected either for all"
            )
    return found


def _edges(count: int, blocks: int) -> npt.NDArray[np.int64]:
    """Borders of near-equal contiguous parts of ``range(count)``, ``[parts + 1]``."""
    parts = max(1, min(blocks, count))
    return np.arange(parts + 1, dtype=np.int64) * count // parts


def gathered(values: Sequence[Tensor]) -> FloatArray:
    """All values one after the other, ``[N]``."""
    joined = torch.cat([value.reshape(-1) for value in values])
    return np.asarray(joined.to("cpu", torch.float64).numpy(), dtype=np.float64)
