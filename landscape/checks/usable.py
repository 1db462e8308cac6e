"""Whether a network has numbers to start from; what hasn't is refused before anything is copied or moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from landscape.errors import UserError


def check_usable(model: Any) -> None:
    """Refuse what is no network, lazy layers that were never run, and weights without numbers.

    Raises
    ------
    UserError
        With the layer or weight, and what to do.
    """
    if not isinstance(model, nn.Module):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        hint = "; call the class to make one" if isinstance(model, type) else ""
        raise UserError(f"the model is a {kind}; expected a torch.nn.Module{hint}")
    for name, one in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(one, UninitializedParameter | UninitializedBuffer):
            raise UserError(
                f"{name!r} belongs to a lazy layer that was never run, so it has no weights; "
                "call the model on one batch first (or load its weights)"
            )
        if one.is_meta:
            raise UserError(
                f"{name!r} is on the device 'meta' and holds no numbers; load the weights on a real device"
            )
        if isinstance(one, nn.Parameter) and one.layout != torch.strided:
            raise UserError(f"{name!r} is a sparse tensor ({one.layout}); expected dense ones: .to_dense()")
