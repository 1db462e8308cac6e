"""The project's own checkpoint as one plain dict: a sparse model is stored sparsely.

`encode` and `decode` are pure; writing is ``torch.save`` of the dict, reading
``torch.load(weights_only=True)``, which runs no code from the file. The layout stands at :func:`encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from landscape.errors import UserError

FORMAT = "sharpscape.checkpoint"
FORMAT_VERSION = 1
_REQUIRED = ("architecture", "state_dict", "sparse", "data", "config", "metrics", "environment")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and everything known about it.

    ``state_dict`` is dense; ``mask`` has the names of the prunable tensors, bool, True = kept.
    ``data`` holds ``name``, ``mean``, ``std`` (per channel, pixels in 0..1), ``num_classes`` and
    ``selection`` (the part of the training split that was held out, see ``training.data``).
    """

    architecture: str
    arguments: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    mask: dict[str, torch.Tensor]
    data: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def is_checkpoint(content: object) -> bool:
    """Whether a loaded object claims to be of this format, whatever its version."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def encode(checkpoint: Checkpoint) -> dict[str, Any]:
    """Turn a checkpoint into a dict of plain values and tensors.

    ===============  ==================================================================================
    key              value
    ===============  ==================================================================================
    format           ``"sharpscape.checkpoint"``
    format_version   1
    architecture     ``{"name": str, "arguments": dict}``
    state_dict       tensors without a mask, dense
    sparse           per masked tensor ``shape``, ``values`` (kept weights in row-major order) and either
                     ``indices`` (flat, int32, ascending) or ``bits`` (packed, first weight in the highest
                     bit), whichever is smaller
    order            all tensor names, in the model's order
    data, config, metrics, environment: as in :class:`Checkpoint`
    ===============  ==================================================================================

    Raises
    ------
    UserError
        When a mask has no tensor, another shape or isn't bool, or a weight outside it isn't exactly 0.
    """
    sparse = {}
    for name, mask in checkpoint.mask.items():
        weight = checkpoint.state_dict.get(name)
        if weight is None or weight.shape != mask.shape or mask.dtype != torch.bool:
            what = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
            raise UserError(
                f"mask of {name}: {mask.dtype}, shape {tuple(mask.shape)}, but the tensor is {what}"
            )
        sparse[name] = _pack(name, weight.detach().cpu(), mask.cpu())
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": {"name": checkpoint.architecture, "arguments": dict(checkpoint.arguments)},
        "state_dict": {
            name: tensor.detach().cpu().contiguous().clone()  # a view would save its whole storage
            for name, tensor in checkpoint.state_dict.items()
            if name not in sparse
        },
        "order": list(checkpoint.state_dict),
        "sparse": sparse,
        "data": dict(checkpoint.data),
        "config": dict(checkpoint.config),
        "metrics": dict(checkpoint.metrics),
        "environment": dict(checkpoint.environment),
    }


def _pack(name: str, weight: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    if bool((weight[~mask] != 0).any()):
        raise UserError(f"{name}: weights outside the mask are not exactly 0; apply the mask before saving")
    flat = mask.reshape(-1)
    indices = flat.nonzero().squeeze(1)
    packed: dict[str, Any] = {"shape": list(weight.shape), "values": weight.reshape(-1)[indices].clone()}
    if 4 * len(indices) < -(-flat.numel() // 8):
        packed["indices"] = indices.to(torch.int32)
    else:
        packed["bits"] = torch.from_numpy(np.packbits(flat.numpy()))
    return packed


def decode(content: Mapping[str, Any]) -> Checkpoint:
    """Rebuild the dense checkpoint from :func:`encode`'s dict.

    Raises
    ------
    UserError
        When the dict isn't of this format, is of a newer version, or is incomplete or inconsistent.
    """
    if not is_checkpoint(content):
        raise UserError(f"not a {FORMAT}: expected a dict with format = {FORMAT!r}")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{FORMAT} of version {version}; this program reads {FORMAT_VERSION}: update it")
    missing = [key for key in _REQUIRED if not isinstance(content.get(key), dict)]
    if missing:
        raise UserError(f"incomplete {FORMAT}: {', '.join(missing)} missing or no dict; save it again")
    try:
        return _decode(content)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"damaged {FORMAT}: {type(error).__name__}: {error}; save it again") from error


def _decode(content: Mapping[str, Any]) -> Checkpoint:
    dense = dict(content["state_dict"])
    mask = {}
    for name, packed in content["sparse"].items():
        dense[name], mask[name] = _unpack(packed)
    order = content.get("order", list(dense))
    if sorted(order) != sorted(dense) or not all(isinstance(value, torch.Tensor) for value in dense.values()):
        raise ValueError("the names in order, state_dict and sparse differ")
    return Checkpoint(
        architecture=str(content["architecture"]["name"]),
        arguments=dict(content["architecture"]["arguments"]),
        state_dict={name: dense[name] for name in order},
        mask=mask,
        **{key: dict(content[key]) for key in ("data", "config", "metrics", "environment")},
    )


def _unpack(packed: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense weight and mask of one stored tensor; ValueError when the parts don't fit together."""
    shape = [int(length) for length in packed["shape"]]
    values = packed["values"]
    size = int(np.prod(shape, dtype=np.int64))
    if "bits" in packed:
        if packed["bits"].numel() != -(-size // 8):
            raise ValueError(f"{packed['bits'].numel()} bytes of mask for {size} weights")
        flat = torch.from_numpy(np.unpackbits(packed["bits"].numpy(), count=size)).bool()
    else:
        indices = packed["indices"].long()
        if indices.numel() and (indices[0] < 0 or indices[-1] >= size or bool((indices.diff() <= 0).any())):
            raise ValueError("indices out of range or not ascending")
        flat = torch.zeros(size, dtype=torch.bool)
        flat[indices] = True
    if int(flat.sum()) != values.numel():
        raise ValueError(f"{values.numel()} values for {int(flat.sum())} kept weights")
    weight = torch.zeros(size, dtype=values.dtype)
    weight[flat] = values
    return weight.reshape(shape), flat.reshape(shape)
