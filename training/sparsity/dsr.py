"""Dynamic sparse reparameterization: one threshold over all layers, weights move between layers.

Mostafa & Wang, "Parameter Efficient Training of Deep Convolutional Neural Networks by Dynamic Sparse
Reparameterization", 2019, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.masks import Layer, Mask, kept
from training.sparsity.base import MaskedMethod, Moment, Situation, Source
from training.sparsity.distribution import Distribution
from training.sparsity.prune_grow import check_positive, check_share, grow_random
from training.sparsity.random import Random
from training.sparsity.ranking import top


@dataclass(frozen=True)
class Dsr(MaskedMethod):
    """Prune |w| below a threshold, then grow as many at random, more of them where more have survived.

    The threshold is the same in all layers and adapts, so that about the same number is pruned each time.
    Each layer keeps at least one weight. A grown weight starts from 0 and, unlike the authors', without
    momentum; places just emptied are no candidates.
    The schedule is the authors' for CIFAR-10, 200 epochs of 500 steps, and in shares of the training. They
    keep the first convolution and the shortcuts dense; the classifier is masked on ResNet-50, and dense on a
    wide ResNet (``--keep-dense first last shortcut``).

    Attributes
    ----------
    distribution
        How the kept weights are shared among the layers at first.
    threshold
        The first threshold, in units of the weights (H).
    prune_fraction
        Share of all kept weights that the threshold should prune each time (N_p).
    tolerance
        The threshold is doubled when fewer than 1 − tolerance of this are pruned, halved when more than
        1 + tolerance; the new one holds for the next time.
    update_interval
        Steps from change to change at first (P); by default 100, and a fortieth of trainings shorter than
        4,000 steps.
    doublings
        Shares of the training at which the interval doubles.
    stop
        Share of the training from which on the mask stays as it is.
    """

    distribution: Distribution = "uniform"
    threshold: float = 1e-3
    prune_fraction: float = 0.14
    tolerance: float = 0.1
    update_interval: int | None = None
    doublings: tuple[float, ...] = (0.125, 0.4, 0.7)
    stop: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        check_positive("update-interval", self.first_interval(4000))
        for name in ("prune-fraction", "tolerance", "stop"):
            check_share(name, getattr(self, name.replace("-", "_")))
        for share in self.doublings:
            check_share("doublings", share)

    def published_dense(self) -> tuple[Layer, ...]:
        """What their networks have in common."""
        return "first", "shortcut"

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Draw at random."""
        random = Random(self.sparsity, self.distribution, keep_dense=self.keep_dense)
        return random.init_mask(model, source, generator)

    def update_due(self, moment: Moment) -> bool:
        """At the multiples of the present interval, from the first interval's end until `stop`."""
        passed = sum(moment.step >= share * moment.steps for share in self.doublings)
        due = moment.step % (self.first_interval(moment.steps) * 2**passed) == 0
        return due and 0 < moment.step < self.stop * moment.steps

    def first_interval(self, steps: int) -> int:
        """Steps from change to change at the beginning of a training of `steps`."""
        return min(100, max(1, steps // 40)) if self.update_interval is None else self.update_interval

    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """One mask, because no weight that was just pruned can grow; adapts ``memory["threshold"]``."""
        threshold = now.memory.setdefault("threshold", self.threshold)
        weights = now.weights()
        sizes = {name: weights[name].detach().abs() for name in now.mask}
        below = {name: _below(sizes[name], mask, threshold) for name, mask in now.mask.items()}
        now.memory["threshold"] = threshold * self._change(kept(below), kept(now.mask))
        room = {name: int((~mask).sum()) for name, mask in now.mask.items()}
        pruned = _smallest(sizes, below, sum(room.values()))
        left = {name: mask & ~pruned[name] for name, mask in now.mask.items()}
        counts = apportion(
            kept(pruned), {name: int(one.sum()) for name, one in left.items()}, room, now.generator
        )
        return (
            {
                name: grow_random(one, counts[name], now.generator, among=~now.mask[name])
                for name, one in left.items()
            },
        )

    def _change(self, pruned: int, active: int) -> float:
        """Factor of the threshold for the next time."""
        wanted = self.prune_fraction * active
        if pruned > (1 + self.tolerance) * wanted:
            return 0.5
        return 2.0 if pruned < (1 - self.tolerance) * wanted else 1.0


def apportion(
    total: int, weights: Mapping[str, int], room: Mapping[str, int], generator: torch.Generator
) -> dict[str, int]:
    """Share `total` in proportion to `weights`, no entry above its `room`; the sum is exact.

    What rounding down leaves over goes to an entry drawn at random, what doesn't fit is offered again to
    those with room. `total` is at most the sum of `room`.
    """
    given = dict.fromkeys(weights, 0)
    while left := total - sum(given.values()):
        open_ = [name for name in weights if given[name] < room[name]]
        # Survivors of no open layer: then the whole rest counts as left over from rounding.
        sum_open = max(1, sum(weights[name] for name in open_))
        offers = {name: left * weights[name] // sum_open for name in open_}
        lucky = open_[int(torch.randint(len(open_), (1,), generator=generator))]
        offers[lucky] += left - sum(offers.values())
        for name, offer in offers.items():
            given[name] += min(offer, room[name] - given[name])
    return given


def _below(size: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Kept weights below the threshold, but for the largest one when no other would stay."""
    above = mask & (size >= threshold)
    return mask & ~(above if bool(above.any()) else top(size, 1, among=mask))


def _smallest(sizes: Mapping[str, Tensor], below: Mask, count: int) -> Mask:
    """The `count` smallest of the weights in `below`, over all layers; no more than can grow elsewhere."""
    if kept(below) <= count:
        return below
    flat = torch.cat([-size.reshape(-1) for size in sizes.values()])
    among = torch.cat([below[name].reshape(-1) for name in sizes])
    parts = top(flat, count, among).split_with_sizes([size.numel() for size in sizes.values()])
    return {name: part.reshape(sizes[name].shape) for name, part in zip(sizes, parts, strict=True)}
