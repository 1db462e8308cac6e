"""Masks from scores: keep the best, an exact number of them, ties broken the same way everywhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from landscape.errors import UserError
from training.masks import Layer, Mask
from training.sparsity.distribution import Distribution, layer_counts

Ranking = Distribution | Literal["global"]
"""How kept weights are shared among layers: by a distribution, or by one threshold over all ("global")."""


def keep_top(
    scores: Mapping[str, Tensor],
    sparsity: float,
    ranking: Ranking = "global",
    dense: Collection[Layer] = (),
) -> Mask:
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
    dense
        Layers that have no scores, as for :func:`training.sparsity.distribution.layer_counts`.

    Raises
    ------
    UserError
        When a score isn't a number, or as :func:`training.sparsity.distribution.layer_counts`.
    """
    for name, score in scores.items():
        if bool(score.isnan().any()):
            raise UserError(f"scores of {name} are not a number (NaN); are the weights or the data finite?")
    if ranking != "global":
        shapes = {name: tuple(one.shape) for name, one in scores.items()}
        counts = layer_counts(shapes, sparsity, ranking, dense)
        return {name: top(score, counts[name]) for name, score in scores.items()}
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    chosen = top(flat, round((1 - sparsity) * flat.numel()))
    parts = torch.split(chosen, [score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def check_decided(scores: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
    """Raise UserError where of weights with score 0, in several layers, some stay and others go.

    Scores of networks are exactly 0 only where nothing depends on a weight; which of them stay, the order of
    the layers would say.
    """
    ties = {name: score == 0 for name, score in scores.items()}
    stay = [name for name, tie in ties.items() if bool((tie & mask[name]).any())]
    go = [name for name, tie in ties.items() if bool((tie & ~mask[name]).any())]
    if stay and go and len({*stay, *go}) > 1:
        raise UserError(
            f"{sum(int(tie.sum()) for tie in ties.values())} weights have the score 0, of which some are to "
            f"stay ({stay[0]}) and others to go ({go[-1]}): nothing says which; choose a higher --sparsity, "
            "another --ranking, or another method"
        )


def check_reachable(
    shapes: Mapping[str, tuple[int, ...]], sparsity: float, ranking: Ranking, dense: Collection[Layer]
) -> None:
    """Fail now rather than after epochs where a distribution can't reach the sparsity (UserError)."""
    if ranking != "global":
        layer_counts(shapes, sparsity, ranking, dense)


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
