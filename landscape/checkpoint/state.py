"""The weights inside what a checkpoint file held, whatever it is wrapped in."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UserError

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
AVERAGED = ("model_ema", "ema_model", "ema", "state_dict_ema", "ema_state_dict")
MASKS = ("mask", "masks", "mask_dict")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
HEADS = ("linear", "fc", "classifier", "head")
NAMES = ("arch", "architecture", "model_name")


@dataclass(frozen=True)
class FoundState:
    """Weights and whatever else a file said about them.

    ``tensors`` are dense, named as in the file; ``mask`` likewise (bool, True = kept), or None. ``module`` is
    a pickled or scripted module where the file held one. ``place`` is the path of keys to the weights.
    """

    tensors: dict[str, Tensor]
    mask: dict[str, Tensor] | None = None
    module: nn.Module | None = None
    place: tuple[str, ...] = ()
    architecture: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_state(content: object, source: object) -> FoundState:
    """Find the weights in nested dicts: bare, wrapped, beside optimizer entries, pruned, in half precision.

    Parameters
    ----------
    content
        What the file held: a mapping of tensors, a mapping around one, or a module.
    source
        Named in error messages: the file's path.

    Raises
    ------
    UserError
        When there are no weights, or several sets of them and no telling which is meant.
    """
    weights, place = _unwrap(content, (), source)
    if isinstance(weights, nn.Module):
        module = weights.module if isinstance(weights, nn.DataParallel) else weights
        tensors, mask = dict(module.state_dict()), None
    else:
        module = None
        tensors, mask = _merge_pruned({name: _dense(value) for name, value in weights.items()})
    outer = content if isinstance(content, Mapping) else {}
    return FoundState(
        tensors=tensors,
        mask=mask if mask is not None else _stored_mask(outer, tensors),
        module=module,
        place=place,
        architecture=next((outer[key] for key in NAMES if isinstance(outer.get(key), str)), None),
        config=_config(outer),
        metrics=_metrics(outer) if place else {},
        notes=_notes(tensors, outer, place),
    )


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Map names to what is left without wrappers' prefixes, in any order and nesting.

    >>> short_names(["module._orig_mod.conv1.weight", "module._orig_mod.fc.bias"])
    {'module._orig_mod.conv1.weight': 'conv1.weight', 'module._orig_mod.fc.bias': 'fc.bias'}
    """
    short = {name: name.replace("._orig_mod.", ".") for name in names}
    while short:
        for prefix in PREFIXES:
            if all(value.startswith(prefix) for value in short.values()):
                short = {name: value.removeprefix(prefix) for name, value in short.items()}
                break
        else:
            break
    return short


def head_classes(tensors: Mapping[str, Tensor], *, guess: bool = False) -> int | None:
    """Number of outputs of the layer that is named like a classifier.

    With `guess`, where there is none by that name, of the last matrix.
    """
    matrices = {
        short: tensors[name]
        for name, short in short_names(tensors).items()
        if tensors[name].dim() == 2 and short.endswith("weight")
    }
    heads = [name for name in matrices if re.fullmatch(rf"({'|'.join(HEADS)})(\.\d+)?\.weight", name)]
    # safetensors files are sorted by name, so the order of numbered layers is taken from the numbers.
    heads.sort(key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    found = heads or (list(matrices) if guess else [])
    return int(matrices[found[-1]].shape[0]) if found else None


def _unwrap(
    content: object, place: tuple[str, ...], source: object
) -> tuple[Mapping[str, Tensor] | nn.Module, tuple[str, ...]]:
    if isinstance(content, nn.Module):
        return content, place
    if not isinstance(content, Mapping):
        raise UserError(
            f"{source} holds a {type(content).__name__}; expected a state_dict or a dict around one"
        )
    wrapped = [key for key in (*WRAPPERS, *AVERAGED) if _holds_weights(content.get(key))]
    if wrapped:
        return _unwrap(content[wrapped[0]], (*place, wrapped[0]), source)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    tensors.pop("n_averaged", None)  # torch.optim.swa_utils.AveragedModel counts there
    if tensors:
        return tensors, place
    others = [str(key) for key, value in content.items() if _holds_weights(value)]
    if len(others) == 1:
        return _unwrap(content[others[0]], (*place, others[0]), source)
    if others:
        raise UserError(
            f"{source} holds several sets of weights ({', '.join(others)}); "
            "save the wanted one by itself, as torch.save(checkpoint[…], …)"
        )
    raise UserError(f"{source} holds no weights; its keys: {', '.join(map(str, content)) or 'none'}")


def _holds_weights(value: object) -> bool:
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(inner, Tensor) for inner in value.values()):
        return all(isinstance(name, str) for name in value)
    return any(_holds_weights(value.get(key)) for key in (*WRAPPERS, *AVERAGED, "shadow"))


def _dense(value: Tensor) -> Tensor:
    return value.detach() if value.layout == torch.strided else value.detach().to_dense()


def _merge_pruned(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Merge the ``weight_orig`` and ``weight_mask`` of torch.nn.utils.prune into weights and a mask."""
    pairs = [
        name.removesuffix("_orig") for name in tensors if f"{name.removesuffix('_orig')}_mask" in tensors
    ]
    pairs = [name for name in pairs if f"{name}_orig" in tensors]
    if not pairs:
        return tensors, None
    mask = {name: tensors[f"{name}_mask"] != 0 for name in pairs}
    merged = {}
    for name, value in tensors.items():
        base = name.removesuffix("_orig").removesuffix("_mask")
        if base in mask:
            merged[base] = torch.where(mask[base], tensors[f"{base}_orig"], 0)
        else:
            merged[name] = value
    return merged, mask


def _stored_mask(outer: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A mask beside the weights, where it says exactly which weights may be other than zero."""
    for key in MASKS:
        stored = outer.get(key)
        if isinstance(stored, Mapping) and stored and all(isinstance(one, Tensor) for one in stored.values()):
            names = {short: name for name, short in short_names(tensors).items()}
            mask = {
                names.get(short, short): _dense(stored[name]) for name, short in short_names(stored).items()
            }
            if all(_masks(kept, tensors.get(name)) for name, kept in mask.items()):
                return {name: kept != 0 for name, kept in mask.items()}
    return None


def _masks(kept: Tensor, weight: Tensor | None) -> bool:
    if weight is None or kept.shape != weight.shape or bool(((kept != 0) & (kept != 1)).any()):
        return False
    return not bool((weight[kept == 0] != 0).any())


def _metrics(outer: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers beside the weights, as Python's: epochs, accuracies."""
    numbers = {}
    for key, value in outer.items():
        if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
            value = value.item()
        if isinstance(value, (int, float)):
            numbers[str(key)] = value
    return numbers


def _config(outer: Mapping[Any, Any]) -> dict[str, Any]:
    for key in ("config", "args", "hyper_parameters"):
        value = outer.get(key)
        if isinstance(value, argparse.Namespace):
            return vars(value)
        if isinstance(value, Mapping):
            return dict(value)
    return {}


def _notes(
    tensors: Mapping[str, Tensor], outer: Mapping[Any, Any], place: tuple[str, ...]
) -> tuple[str, ...]:
    notes = []
    kinds = sorted(
        {str(one.dtype).removeprefix("torch.") for one in tensors.values() if one.is_floating_point()}
    )
    if other := [kind for kind in kinds if kind != "float32"]:
        notes.append(f"{' and '.join(other)} weights converted to float32")
    averaged = [key for key in AVERAGED if key not in place and _holds_weights(outer.get(key))]
    if averaged:
        notes.append(f"averaged weights ({averaged[0]}) not used")
    return tuple(notes)
