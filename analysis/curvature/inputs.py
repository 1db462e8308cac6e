"""Network, examples and mask of a stored surface, checked against what the file says they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from landscape.checks.identity import Functions
from landscape.compute import Data, as_examples, choose_mask
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.settings import FUNCTIONS, result_difference
from landscape.losses import Loss
from landscape.parameters import ALL, Moving, moving_params
from landscape.planes.directions import Params
from landscape.provenance import digest
from landscape.surface import Surface


def same_network(surface: Surface, model: nn.Module, loss: Loss) -> Moving:
    """The network's parameters, of which those move that the surface moved.

    Raises
    ------
    UserError
        When weights, buffers or the loss aren't those that the surface was computed from, or it is
        unfinished.
    """
    if not surface.complete:
        raise UserError("the surface is unfinished; give the command that computes it again to finish it")
    params = moving_params(model, surface.settings.get("params", {}).get("rule", ALL))
    stored = surface.settings.get("network")
    if stored not in (None, digest({**dict(model.named_parameters()), **dict(model.named_buffers())})):
        raise UserError("the surface was computed from other weights; name the checkpoint that it belongs to")
    name = getattr(loss, "__qualname__", type(loss).__name__)
    if surface.settings.get("loss") not in (None, name):
        raise UserError(
            f"the surface is of the loss {surface.settings['loss']!r}, not {name!r}; pass the same loss"
        )
    wanted = {FUNCTIONS: Functions(model, loss).about()}
    known = {key: value for key, value in surface.settings.items() if key == FUNCTIONS}
    difference = result_difference(known, wanted)
    if difference is not None:
        raise UserError(f"the surface was computed with other functions ({difference}); pass the same")
    return params


def same_examples(surface: Surface, data: Data | Mapping[str, Data], split: str) -> Examples:
    """The examples of a split.

    Raises
    ------
    UserError
        When they aren't those of the surface.
    """
    if split not in surface.splits:
        raise UserError(f"the surface has no split {split!r}; it has {', '.join(surface.splits)}")
    if isinstance(data, Mapping) and split not in data:
        raise UserError(f"no examples for the split {split!r}; got {', '.join(data) or 'none'}")
    examples = as_examples(data[split] if isinstance(data, Mapping) else data)
    digests = surface.settings.get("examples")
    stored = digests.get(split) if isinstance(digests, Mapping) else None
    if stored not in (None, examples.digest()):
        raise UserError(
            f"these aren't the {surface.planes[0].splits[split].examples} {split} examples of the surface; "
            "pass the same data, seed and normalization"
        )
    return examples


def same_mask(
    surface: Surface, mask: Mapping[str, Tensor] | Literal["auto", "none"] | None, params: Params
) -> Mapping[str, Tensor] | None:
    """The mask of the surface; None for none.

    "auto" infers it from exact zeros where the surface's mask came from there, and takes none where it had
    none.

    Raises
    ------
    UserError
        When it isn't the surface's.
    """
    stored = surface.settings.get("mask", {})
    if mask == "auto" and stored.get("source") == "none":
        mask = "none"
    kept = choose_mask(mask, "given", params)[0]
    if stored.get("digest") not in (None, digest(kept or {})):
        raise UserError(
            f"this isn't the surface's mask (from: {stored.get('source')}); pass the one it was computed with"
        )
    return kept


def fewer(examples: Examples, count: int | None) -> Examples:
    """The first `count` examples, which are balanced where all are.

    Raises
    ------
    UserError
        For less than one, more than there are, or batches that can't be cut.
    """
    if count is None:
        return examples
    if not examples.rebatchable:
        raise UserError("examples: given batches are used as they are; pass fewer of them")
    if not 1 <= count <= len(examples.tensors[0]):
        raise UserError(
            f"examples {count}: expected 1 to {len(examples.tensors[0])}, as many as the surface has"
        )
    return examples.head(count)
