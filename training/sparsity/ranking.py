"""Masks from scores: keep the best, an exact number of them, ties broken the same way everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from landscape.errors import UserError
from training.masks import Mask
from training.sparsity.distribution import Distribution, layer_counts

Ranking = Distribution | Literal["global"]
"""How kept weights are shared among layers: by a distribution, or by one threshold over all ("global")."""


def keep_top(scores: Mapping[str, Tensor], sparsity: float, ranking: Ranking = "global") -> Mask:
    """Keep ``round((1 - sparsity) * total)`` weights with the largest scores.

    Of equal scores the earlier layer's and, in a layer, the earlier position's is kept.

    Parameters
    ----------
    scores
        Any real tensors by weight name, first layer first.
    sparsity
        Pruned share in [0, 1).
    ranking
        "global" ranks over all layers (one may become empty), others rank within each.

    Raises
    ------
    UserError
        When a score isn't a number, or as :func:`training.sparsity.distribution.layer_counts`.
    """
    for name, score in scores.items():
        if bool(score.isnan().any()):
            raise UserError(f"scores of {name} are not a number (NaN); are the weights or the data finite?")
    if ranking != "global":
        counts = layer_counts({name: tuple(one.shape) for name, one in scores.items()}, sparsity, ranking)
        return {name: top(score, counts[name]) for name, score in scores.items()}
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    chosen = top(flat, round((1 - sparsity) * flat.numel()))
    parts = torch.split(chosen, [score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def check_reachable(shapes: Mapping[str, tuple[int, ...]], sparsity: float, ranking: Ranking) -> None:
    """Fail now rather than after epochs where a distribution can't reach the sparsity (UserError)."""
    if ranking != "global":
        layer_counts(shapes, sparsity, ranking)


def top(score: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Where the `count` largest scores are, bool of the same shape; ties go to the earlier position.

    With `among` (bool, same shape) only there, all of them when there are fewer.
    """
    flat = score.detach().reshape(-1)
    candidates = None if among is None else among.reshape(-1).nonzero().squeeze(1)
    values = flat if candidates is None else flat[candidates]
    best = _best(values, min(max(count, 0), len(values)))
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[best if candidates is None else candidates[best]] = True
    return chosen.reshape(score.shape)


def _best(values: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest of (n,) values, ties to the earlier one; in no order."""
    if not 0 < count < len(values) or values.is_cuda or bool(values.isnan().any()):
        return torch.sort(values, descending=True, stable=True).indices[:count]
    # Eight times as fast as sorting all on a CPU; on a GPU it isn't deterministic.
    least = torch.kthvalue(values, len(values) - count + 1).values
    above = (values > least).nonzero().squeeze(1)
    ties = (values == least).nonzero().squeeze(1)
    return torch.cat([above, ties[: count - len(above)]])
