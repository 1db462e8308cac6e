"""Which weights a sparse network keeps: from the checkpoint, or inferred from exact zeros.

A mask holds bool tensors keyed like ``named_parameters``, True = kept, for the prunable tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.parameters import Moving

Mask = dict[str, Tensor]
MaskChoice = Literal["auto", "checkpoint", "zeros", "none"]

ZERO_SHARE = 0.10
"""A weight with a larger share of exact zeros counts as pruned; trained dense weights have none."""


def infer_mask(params: Mapping[str, Tensor]) -> Mask | None:
    """Take exact zeros for pruned weights, in tensors of ≥ 2 dimensions with more than 10 % of them.

    Zeros that were put there and not left by pruning are none: a whole tensor of them (LoRA's B, a class
    token), one whole row alone (padding), and whole rows of a look-up table.

    Parameters
    ----------
    params
        Tensors of any shape by parameter name; of `landscape.parameters.Moving` those that move.

    Returns
    -------
    dict or None
        Bool tensors of the same shapes for the tensors that are sparse; None when none is.

    >>> infer_mask({"weight": torch.tensor([[0.0, 2.0], [3.0, 4.0]]), "bias": torch.zeros(2)})
    {'weight': tensor([[False,  True],
            [ True,  True]])}
    """
    mask = {}
    tables = params.tables if isinstance(params, Moving) else frozenset()
    for name, value in params.items():
        kept = value.detach().cpu() != 0
        if value.dim() < 2 or int((~kept).sum()) <= ZERO_SHARE * kept.numel():
            continue
        if _pruned(kept, name in tables):
            mask[name] = kept
    return mask or None


def _pruned(kept: Tensor, table: bool) -> bool:
    """Whether the zeros can't be those of a whole tensor, of one whole row, or of rows of a look-up table."""
    rows = (~kept).flatten(1)
    whole = rows.all(1)
    if bool(whole.all()):
        return False
    only_rows = not bool(rows[~whole].any())
    return not (only_rows and (table or int(whole.sum()) == 1))


def resolve_mask(
    choice: str, stored: Mapping[str, Tensor] | None, params: Mapping[str, Tensor]
) -> tuple[Mask | None, str]:
    """Choose the mask and say where it comes from: ``"checkpoint"``, ``"zeros"`` or ``"none"``.

    Parameters
    ----------
    choice
        ``auto``: the stored mask, else exact zeros, else none. ``checkpoint``: the stored one.
        ``zeros``: exact zeros even where a mask is stored. ``none``: treat the network as dense.
    stored
        The mask that came with the checkpoint, None where there was none: then that by which
        `torch.nn.utils.prune` prunes the network at present counts as stored, and with ``auto`` the exact
        zeros of weights that it doesn't prune count beside it.
    params
        The network's parameters by name; of `landscape.parameters.Moving`, zeros of those that move count.

    Raises
    ------
    UserError
        When `choice` is unknown, ``checkpoint`` finds no mask, or a stored mask doesn't fit `params`.
    """
    if not isinstance(choice, str) or choice not in get_args(MaskChoice):
        raise UserError(f"unknown mask {choice!r}; expected one of {', '.join(get_args(MaskChoice))}")
    stored = stored or _pruned_at_present(params, choice)
    if choice == "checkpoint" and not stored:
        raise UserError("--mask checkpoint: the checkpoint stores no mask; use --mask zeros, none or auto")
    if choice in ("auto", "checkpoint") and stored:
        return checked_mask(stored, params), "checkpoint"
    mask = infer_mask(params) if choice in ("auto", "zeros") else None
    return mask, "none" if mask is None else "zeros"


def density(mask: Mapping[str, Tensor]) -> float:
    """Kept share of the masked tensors' weights, in 0..1; 1 for an empty mask.

    >>> density({"weight": torch.tensor([[True, False], [False, False]])})
    0.25
    """
    total = sum(kept.numel() for kept in mask.values())
    return sum(int(kept.sum()) for kept in mask.values()) / total if total else 1.0


def _pruned_at_present(params: Mapping[str, Tensor], choice: str) -> Mask | None:
    """What `torch.nn.utils.prune` masks; for "auto" with the zeros of layers whose pruning was made final."""
    if not isinstance(params, Moving) or not params.pruned:
        return None
    others = {name: one for name, one in params.items() if name not in params.pruned}
    zeros = infer_mask(Moving(others, {}, tables=params.tables)) if choice == "auto" else None
    return {**params.pruned, **(zeros or {})}


def checked_mask(mask: Mapping[str, Any], params: Mapping[str, Tensor]) -> Mask:
    """A mask of bool tensors or arrays, as tensors on the CPU.

    Raises
    ------
    UserError
        When it names no parameter, or isn't bool of a parameter's shape.
    """
    params = params.every if isinstance(params, Moving) else params
    found = {}
    for name, given in mask.items():
        if name not in params:
            raise UserError(f"the mask names {name!r}, which is no parameter of the network")
        shape = tuple(params[name].shape)
        kept = torch.tensor(given) if isinstance(given, np.ndarray) and given.dtype == np.bool_ else given
        if not isinstance(kept, Tensor):
            what = f"an array of {kept.dtype}" if isinstance(kept, np.ndarray) else f"a {type(kept).__name__}"
            raise UserError(f"the mask of {name!r} is {what}; expected a bool tensor of shape {shape}")
        if kept.dtype != torch.bool or tuple(kept.shape) != shape:
            raise UserError(
                f"the mask of {name!r} is {kept.dtype} of shape {tuple(kept.shape)}; "
                f"expected torch.bool of shape {shape}"
            )
        found[name] = kept.detach().cpu()
    return found
