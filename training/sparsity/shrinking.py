"""Masks that only lose weights: the next one of a sequence, nested in the one before."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from training.masks import Layer, Mask, kept
from training.sparsity.ranking import Ranking, keep_top, top


def shrink(
    mask: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    sparsity: float,
    ranking: Ranking = "global",
    dense: Collection[Layer] = (),
) -> Mask:
    """Keep the best of the kept weights, ``round((1 - sparsity) * total)`` of them.

    Never brings a weight back, so a mask that is sparser already stays as it is.

    Parameters
    ----------
    mask
        Bool by weight name, True = kept.
    scores
        Real tensors of the same names and shapes; those of pruned weights are ignored.
    sparsity
        Pruned share of all weights of the mask, in [0, 1).
    ranking, dense
        As in :func:`training.sparsity.ranking.keep_top`, which also says what is raised.
    """
    alive = {name: scores[name].masked_fill(~part, -torch.inf) for name, part in mask.items()}
    wanted = keep_top(alive, sparsity, ranking, dense)
    chosen = {name: part & mask[name] for name, part in wanted.items()}
    missing = kept(wanted) - kept(chosen)
    if not missing:
        return chosen
    # Rounded to a lower total, a layer's share may be larger than before (Balinski and Young 1982). Then the
    # layer keeps all that it has, and the best of the other layers' losers make up the total.
    flat = {key: _flat(part) for key, part in (("mask", mask), ("chosen", chosen), ("score", alive))}
    more = top(flat["score"], missing, flat["mask"] & ~flat["chosen"])
    parts = torch.split(more, [part.numel() for part in mask.values()])
    return {
        name: chosen[name] | part.reshape(mask[name].shape) for name, part in zip(mask, parts, strict=True)
    }


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
