"""Whether answers depend on image and weights alone: not on chance, on calls before, or on other images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.determinism import check_determined, relative_difference
from landscape.errors import UserError
from landscape.factories import place_of

_APART = 1e-3  # relative; what other kernels for other numbers of images round differently is far below

Scores = Callable[[nn.Module, Tensor], Tensor]
"""``scores(model, inputs)``: ``[n, classes]``."""


def check_dependable(
    scores: Scores, model: nn.Module, fresh: Callable[[], nn.Module], inputs: Tensor
) -> None:
    """Refuse scores that aren't the same for the same images, whatever is shown before or beside them.

    Parameters
    ----------
    scores
        Asks a network.
    model
        In evaluation mode.
    fresh
        Gives another copy that was never called.
    inputs
        A few images, ``[n, 3, height, width]``.

    Raises
    ------
    UserError
        With what differs, and what helps; and where the network fails on the images.
    """
    half = len(inputs) // 2
    whole = _first(scores, model, inputs)
    parts = _works(scores, model, inputs[:half]) if half else None

    def call(asked: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"scores": scores(asked, batch)}

    try:
        check_determined(call, model, inputs, None if parts is None else inputs[:half], fresh=fresh)
    except UserError as error:  # it speaks of losses
        why = str(error).partition(": ")[2]
        raise UserError(f"the answers are no function of image and weights: {why}") from None
    if parts is None:
        return
    apart = relative_difference(whole, torch.cat([parts, scores(model, inputs[half:])]))
    if apart > _APART:
        raise UserError(
            f"an image's scores depend on the others in its batch (by {apart:.1g} of their size: batch norm "
            "in training mode, or without running statistics?), so answers would depend on the batch size; "
            "give the network running statistics, or let forward take each image by itself"
        )


def _first(scores: Scores, model: nn.Module, inputs: Tensor) -> Tensor:
    """The scores; what the network raises in one line."""
    try:
        return scores(model, inputs)
    except UserError:
        raise
    except Exception as error:
        shape = list(inputs.shape)
        raise UserError(f"the model fails on the first images, {shape}: {place_of(error)}") from error


def _works(scores: Scores, model: nn.Module, inputs: Tensor) -> Tensor | None:
    """The scores; None where that many images are no batch."""
    try:
        return scores(model, inputs)
    except Exception:
        return None
