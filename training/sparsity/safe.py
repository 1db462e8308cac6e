"""SAFE: dense weights are pulled towards sparse ones until they are sparse; with SAM, at a flat place.

Lee, Lee, Chung and Lee, "SAFE: Finding Sparse and Flat Minima to Improve Pruning" (ICML 2025), algorithm 1.
The sparse weights z and the dual variable u are those of the alternating direction method of multipliers
(ADMM): z is the projection of ``w + u``, its largest weights, and ``u + w − z`` the next u. "SAFE" stands for
this together with SAM, ``--method safe --optimizer sam``; any other optimizer makes its steps with the same
pull, and `sgd` is pruning by ADMM alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import UserError
from training.masks import Mask
from training.sparsity.base import MaskedMethod, Moment, Situation, Source
from training.sparsity.ranking import Ranking, check_reachable, keep_top

_SPLIT, _DUAL = "z of ", "u of "  # memory: tensors like the weights
_IMAGES = 256  # in a forward pass of the recalibration


@dataclass(frozen=True)
class Safe(MaskedMethod):
    """Pull all weights towards their largest ones, and prune after the last step.

    To the gradient at the perturbed weights comes ``λ_t (w − z + u)`` at the weights themselves, before
    momentum. The defaults are those of the released code's run for a ResNet-20 on CIFAR-10 (which has rho 0.1
    for SAM, 200 epochs of batches of 128, 5 epochs of warm-up).

    Attributes
    ----------
    penalty
        λ, the strength of the pull; published: 1e-3, and 1e-4.
    penalty_schedule
        cosine: from 0 to the penalty, ``λ (1 − cos(π t / T)) / 2`` in step t of T; linear; or constant.
    dual_interval
        Steps between two updates of z and u.
    ranking
        What is projected on: one threshold over all layers (global), or a distribution that says how much
        each layer keeps.
    recalibrate
        Training images, not augmented, from which batch norm's running statistics are estimated anew after
        pruning; 0 leaves them.
    """

    penalty: float = 1e-3
    penalty_schedule: Literal["cosine", "linear", "constant"] = "cosine"
    dual_interval: int = 32
    ranking: Ranking = "global"
    recalibrate: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty < math.inf:
            raise UserError(f"penalty {self.penalty}: expected a finite number of at least 0")
        if self.dual_interval < 1:
            raise UserError(f"dual-interval {self.dual_interval}: expected 1 or more")
        if self.recalibrate < 0:
            raise UserError(f"recalibrate {self.recalibrate}: expected 0 or more images")

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> Mask:
        """Keep everything."""
        check_reachable(self.shapes(model), self.sparsity, self.ranking, self.keep_dense)
        return keep_top(self._scores(model), 0)

    def first_memory(self, model: nn.Module, mask: Mask) -> dict[str, Any]:
        """The first weights' projection, and a dual variable of 0."""
        weights = {name: weight.detach() for name, weight in self.maskable(model).items()}
        kept = self.projected(weights)
        return {_SPLIT + name: one for name, one in kept.items()} | {
            _DUAL + name: torch.zeros_like(one) for name, one in weights.items()
        }

    def projected(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The nearest tensors of this sparsity: the largest values, 0 elsewhere."""
        sizes = {name: one.abs() for name, one in values.items()}
        kept = keep_top(sizes, self.sparsity, self.ranking, self.keep_dense)
        return {name: one * kept[name] for name, one in values.items()}

    def penalty_at(self, moment: Moment) -> float:
        """λ before step ``moment.step`` (from 0)."""
        share = moment.step / moment.steps
        if self.penalty_schedule == "constant":
            return self.penalty
        rising = share if self.penalty_schedule == "linear" else (1 - math.cos(math.pi * share)) / 2
        return self.penalty * rising

    @torch.no_grad()
    def pull(self, model: nn.Module, memory: Mapping[str, Any], moment: Moment) -> dict[str, Tensor]:
        """``λ_t (w − z + u)`` for each masked weight."""
        strength = self.penalty_at(moment)
        if not strength:
            return {}
        return {
            name: (weight.detach() - memory[_SPLIT + name] + memory[_DUAL + name]) * strength
            for name, weight in self.maskable(model).items()
        }

    def update_due(self, moment: Moment) -> bool:
        """After every `dual_interval` steps."""
        return moment.step > 0 and moment.step % self.dual_interval == 0

    @torch.no_grad()
    def update_mask(self, now: Situation) -> Sequence[Mask]:
        """Next z and u; the mask stays."""
        sums = {name: weight + now.memory[_DUAL + name] for name, weight in now.weights().items()}
        for name, split in self.projected(sums).items():
            now.memory[_SPLIT + name] = split
            now.memory[_DUAL + name] = sums[name] - split
        return ()

    def last_masks(self, now: Situation) -> Sequence[Mask]:
        """Prune to the largest weights."""
        return (keep_top(self._scores(now.model), self.sparsity, self.ranking, self.keep_dense),)

    def restored(self, now: Situation, mask: Mask) -> Mapping[str, Tensor]:
        """Running statistics of the pruned network."""
        if not self.recalibrate or all(bool(part.all()) for part in mask.values()):
            return {}
        images, _ = now.source.draw(self.recalibrate, now.generator)
        return _statistics(now.model, images)

    def _scores(self, model: nn.Module) -> dict[str, Tensor]:
        return {name: weight.detach().abs() for name, weight in self.maskable(model).items()}


@torch.no_grad()
def _statistics(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Means over batches of (N, 3, H, W) images, of each batch norm's mean and variance, by name."""
    copied = copy.deepcopy(model).eval()
    norms = {
        name: one
        for name, one in copied.named_modules()
        if isinstance(one, _BatchNorm) and one.track_running_stats
    }
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    pieces = max(1, round(len(images) / _IMAGES))
    for batch in images.tensor_split(pieces) if norms else ():
        copied(batch)
    found = {f"{name}.{key}": one for name, norm in norms.items() for key, one in norm.named_buffers()}
    return {name: one for name, one in found.items() if not name.endswith("num_batches_tracked")}
