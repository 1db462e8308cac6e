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
    order = torch.sort(flat, descending=True, stable=True).indices
    if among is not None:
        order = order[among.reshape(-1)[order]]
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen.reshape(score.shape)
