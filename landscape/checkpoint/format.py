"""The project's own checkpoint as one plain dict: a sparse model is stored sparsely.

`encode` and `decode` are pure; writing is ``torch.save`` of the dict, reading
`landscape.checkpoint.read.read_file`, which runs no code from the file. The layout stands at :func:`encode`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from landscape.checkpoint.integrity import KEY, check_seal, sealed
from landscape.checkpoint.read import printable
from landscape.checkpoint.rebuild import BYTES_PER_BYTE, FREE_BYTES
from landscape.errors import UserError
from landscape.files.archives import Allowance, UnreadableError

FORMAT = "sharpscape.checkpoint"
FORMAT_VERSION = 2  # 1 had no digest
_REQUIRED = ("architecture", "state_dict", "sparse", "data", "config", "metrics", "environment")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and everything known about it.

    ``state_dict`` is dense; ``mask`` has the names of the prunable tensors, bool, True = kept.
    ``data`` holds ``name``, ``mean``, ``std`` (per channel, pixels in 0..1), ``num_classes``, ``classes``
    (their names by number, where they have any) and ``selection`` (the part of the training split that was
    held out, see ``training.data``).
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
    format_version   2
    architecture     ``{"name": str, "arguments": dict}``; of a network with fewer channels the name is
                     ``"shrunk"``, and the arguments are ``model`` and ``arguments`` of the whole one and
                     the ``shapes`` of the tensors that are smaller
    state_dict       tensors without a mask, dense
    sparse           per masked tensor ``shape``, ``values`` (kept weights in row-major order) and either
                     ``indices`` (flat, int32, ascending) or ``bits`` (packed, first weight in the highest
                     bit), whichever is smaller
    order            all tensor names, in the model's order
    digest           SHA-256 of all the others, see `landscape.checkpoint.integrity`
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
    content = {
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
    return sealed(content)


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
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{FORMAT} of version {printable(repr(version), 20)}; this program reads 1 to {FORMAT_VERSION}: "
            "update it"
        )
    missing = [key for key in _REQUIRED if not isinstance(content.get(key), dict)]
    if missing:
        raise UserError(f"incomplete {FORMAT}: {', '.join(missing)} missing or no dict; save it again")
    if version > 1 and not isinstance(content.get(KEY), str):
        raise UserError(f"incomplete {FORMAT}: it has no {KEY}; save it again")
    check_seal(content)
    try:
        return _decode(content)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = printable(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"damaged {FORMAT}: {reason}; save it again") from error


def _decode(content: Mapping[str, Any]) -> Checkpoint:
    dense = dict(content["state_dict"])
    if both := sorted(set(dense) & set(content["sparse"])):
        raise ValueError(f"{both[0]} is stored twice, dense and sparse")
    stored = [value for value in dense.values() if isinstance(value, torch.Tensor)]
    stored += [part for packed in content["sparse"].values() for part in packed.values() if _is_tensor(part)]
    room = Allowance(sum(value.nbytes for value in stored), FREE_BYTES, BYTES_PER_BYTE)
    mask = {}
    for name, packed in content["sparse"].items():
        dense[name], mask[name] = _unpack(packed, room)
    order = content.get("order", list(dense))
    names_agree = isinstance(order, list) and sorted(order) == sorted(dense)
    if not names_agree or not all(_is_tensor(value) for value in dense.values()):
        raise ValueError("the names in order, state_dict and sparse differ")
    for key in ("config", "metrics", "environment"):
        _check_plain(content[key], key)
    name, arguments = content["architecture"]["name"], content["architecture"]["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("the architecture has no name, or no arguments")
    _check_plain(arguments, "architecture")
    _check_data(content["data"])
    return Checkpoint(
        architecture=name,
        arguments=dict(arguments),
        state_dict={name: dense[name].to_dense() for name in order},
        mask=mask,
        **{key: dict(content[key]) for key in ("data", "config", "metrics", "environment")},
    )


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _check_plain(value: object, where: str) -> None:
    """Texts, numbers, lists and dicts with texts for keys, as JSON has them; ValueError for others."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{where} has keys that are no texts")
        for one in value.values():
            _check_plain(one, where)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _check_plain(one, where)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{where} has a {type(value).__name__}")


def _check_data(data: Mapping[str, Any]) -> None:
    """What is known of the data set, where it is known; ValueError for what can't be."""
    for key in ("mean", "std"):
        values = data.get(key)
        if values is not None and not (
            isinstance(values, (list, tuple))
            and all(type(one) in (int, float) and math.isfinite(one) for one in values)
            and (key == "mean" or all(one > 0 for one in values))
        ):
            raise ValueError(f"the data's {key} is {printable(values, 40)}")
    classes, name = data.get("num_classes"), data.get("name")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise ValueError(f"the data's num_classes is {printable(classes, 40)}")
    names = data.get("classes")
    if names is not None and not (
        isinstance(names, (list, tuple)) and names and all(isinstance(one, str) for one in names)
    ):
        raise ValueError(f"the data's classes are {printable(names, 40)}")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"the data's name is a {type(name).__name__}")
    if not isinstance(data.get("selection", {}), dict):
        raise ValueError("the data's selection is no dict")


def _unpack(packed: Mapping[str, Any], room: Allowance) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense weight and mask of one stored tensor; ValueError when the parts don't fit together."""
    shape, values = packed["shape"], packed["values"]
    if not isinstance(shape, (list, tuple)) or not all(type(one) is int and one >= 0 for one in shape):
        raise ValueError(f"shape {shape!r:.60} isn't one of whole numbers")
    if not _is_tensor(values) or values.dim() != 1:
        raise ValueError("the values of a sparse tensor aren't a row")
    size = math.prod(shape)
    try:
        room.take(size * (values.itemsize + 1), f"a sparse tensor of shape {list(shape)}")
    except UnreadableError as error:
        raise ValueError(str(error)) from error
    form, where = ("bits", packed["bits"]) if "bits" in packed else ("indices", packed["indices"])
    if where.is_floating_point() or where.is_complex() or where.dtype == torch.bool or where.dim() != 1:
        raise ValueError(f"the {form} of a mask are {where.dtype}; expected a row of whole numbers")
    if form == "bits":
        if where.dtype != torch.uint8 or where.numel() != -(-size // 8):
            raise ValueError(f"{where.numel()} bytes of mask for {size} weights")
        unpacked = np.unpackbits(where.numpy())
        if unpacked[size:].any():
            raise ValueError("the mask has bits beyond its last weight")
        flat = torch.from_numpy(unpacked[:size]).bool()
    else:
        indices = where.long()
        if indices.numel() and (indices[0] < 0 or indices[-1] >= size or bool((indices.diff() <= 0).any())):
            raise ValueError("indices out of range or not ascending")
        flat = torch.zeros(size, dtype=torch.bool)
        flat[indices] = True
    if int(flat.sum()) != values.numel():
        raise ValueError(f"{values.numel()} values for {int(flat.sum())} kept weights")
    weight = torch.zeros(size, dtype=values.dtype)
    weight[flat] = values
    return weight.reshape(shape), flat.reshape(shape)
