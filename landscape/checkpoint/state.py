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

from landscape.checkpoint.choice import (
    AVERAGED,
    CHOOSE,
    COUNTER,
    WRAPPERS,
    choose,
    holds_weights,
    is_extra,
    listed,
    named_tensors,
    sets_of_weights,
)
from landscape.checkpoint.read import quoted
from landscape.checkpoint.rebuild import NoValues
from landscape.errors import UserError

MASKS = ("mask", "masks", "mask_dict")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
HEADS = ("linear", "fc", "classifier", "head")
NAMES = ("arch", "architecture", "model_name")


@dataclass(frozen=True)
class FoundState:
    """Weights and whatever else a file said about them.

    ``tensors`` are dense, named as in the file; ``mask`` likewise (bool, True = kept), or None. ``module`` is
    a pickled or scripted module where the file held one. ``place`` is the path of keys to the weights.
    ``extra`` is what modules store beside tensors (``get_extra_state``), by name. ``positional`` are chosen
    weights without names, in the order of the network's parameters; they replace those in ``tensors``.
    """

    tensors: dict[str, Tensor]
    mask: dict[str, Tensor] | None = None
    module: nn.Module | None = None
    place: tuple[str, ...] = ()
    architecture: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    positional: tuple[Tensor, ...] = ()


def find_state(
    content: object,
    source: object,
    *,
    weights: str | None = None,
    tied: Mapping[str, str] | None = None,
) -> FoundState:
    """Find the weights in nested dicts: bare, wrapped, beside optimizer entries, pruned, in half precision.

    Parameters
    ----------
    content
        What the file held: a mapping of tensors, a mapping around one, or a module.
    source
        Named in error messages: the file's path.
    weights
        Which of several sets: a key (``ema``, ``ema.shadow``), or the first part of names (``ema_model`` of
        ``ema_model.conv1.weight``).
    tied
        Names that the file leaves out, with the names of the same tensors.

    Raises
    ------
    UserError
        When there are no weights, several sets of them and no telling which is meant, or weights that aren't
        numbers.
    """
    chosen, place = _unwrap(content, (), source) if weights is None else choose(content, weights, source)
    positional: tuple[Tensor, ...] = ()
    if isinstance(chosen, list):
        positional = tuple(_numbers(f"{weights}[{number}]", one, source) for number, one in enumerate(chosen))
        chosen, place = _unwrap(content, (), source)
    if isinstance(chosen, nn.Module):
        module = chosen.module if isinstance(chosen, nn.DataParallel) else chosen
        state, mask = dict(module.state_dict()), None
        extra = {name: value for name, value in state.items() if is_extra(name)}
        tensors = {
            name: _numbers(name, value, source) for name, value in state.items() if isinstance(value, Tensor)
        }
        kinds = _kinds(state.values())
    else:
        module = None
        extra = {str(name): value for name, value in chosen.items() if is_extra(str(name))}
        kinds = _kinds(chosen.values())
        tensors, mask = _merge_pruned(
            {
                name: _numbers(name, value, source)
                for name, value in named_tensors(chosen, source).items()
                if name not in extra
            },
            source,
        )
        tensors |= {
            left: tensors[kept] for left, kept in (tied or {}).items() if _left_out(left, kept, tensors)
        }
    outer = content if isinstance(content, Mapping) else {}
    return FoundState(
        tensors=tensors,
        mask=mask if mask is not None else _stored_mask(outer, tensors, source),
        module=module,
        place=place,
        architecture=next((outer[key] for key in NAMES if _is_name(outer.get(key))), None),
        config=_config(outer),
        metrics=_metrics(outer) if place else {},
        notes=_notes(kinds, outer, place, bool(positional)),
        extra=extra,
        positional=positional,
    )


def _left_out(left: str, kept: str, tensors: Mapping[str, Tensor]) -> bool:
    return left not in tensors and kept in tensors


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.:/-]{1,100}", value) is not None


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
        if tensors[name].dim() == 2 and tensors[name].numel() and short.endswith("weight")
    }
    heads = [name for name in matrices if re.fullmatch(rf"({'|'.join(HEADS)})(\.\d+)?\.weight", name)]
    # safetensors files are sorted by name, so the order of numbered layers is taken from the numbers.
    heads.sort(key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    found = heads or (list(matrices) if guess else [])
    return int(matrices[found[-1]].shape[0]) if found else None


def _unwrap(
    content: object, place: tuple[str, ...], source: object
) -> tuple[Mapping[str, Any] | nn.Module, tuple[str, ...]]:
    if isinstance(content, nn.Module):
        return content, place
    if not isinstance(content, Mapping):
        raise UserError(
            f"{source} holds a {type(content).__name__}; expected a state_dict or a dict around one"
        )
    wrapped = [key for key in (*WRAPPERS, *AVERAGED) if holds_weights(content.get(key))]
    if wrapped:
        return _unwrap(content[wrapped[0]], (*place, wrapped[0]), source)
    if any(isinstance(value, (Tensor, NoValues)) for name, value in content.items() if name != COUNTER):
        return content, place
    others = sets_of_weights(content)
    if len(others) == 1:
        return _unwrap(content[others[0]], (*place, others[0]), source)
    if others:
        raise UserError(f"{source} holds several sets of weights ({listed(others)}); {CHOOSE}")
    raise UserError(f"{source} holds no weights; its keys: {listed(content) or 'none'}")


def _numbers(name: str, value: Tensor | NoValues, source: object) -> Tensor:
    """The tensor as ordinary numbers, dense; refused where it has none."""
    kind = value.kind if isinstance(value, NoValues) else _unusual(value)
    if kind is not None or isinstance(value, NoValues):
        raise UserError(
            f"{source}: {quoted(name)} is a tensor {kind}; expected ordinary numbers: "
            "convert it (dequantize, to_dense, float) before saving"
        )
    dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
    small = (
        dense.is_floating_point() and dense.dtype.itemsize == 1
    )  # float8 can be converted, not computed with
    return dense.float() if small else dense


def _unusual(value: Tensor) -> str | None:
    """What a tensor of a trusted file is that has no ordinary numbers."""
    kinds = {
        "quantized": value.is_quantized,
        "on the device meta, without values": value.is_meta,
        "nested": value.is_nested,
    }
    return next((kind for kind, true in kinds.items() if true), None)


def _kinds(values: Iterable[object]) -> list[str]:
    """The types of the floating-point tensors, as torch names them."""
    floating = (one for one in values if isinstance(one, Tensor) and one.is_floating_point())
    return sorted({str(one.dtype).removeprefix("torch.") for one in floating})


def _merge_pruned(
    tensors: dict[str, Tensor], source: object
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Merge the ``weight_orig`` and ``weight_mask`` of torch.nn.utils.prune into weights and a mask."""
    pairs = [
        name.removesuffix("_orig") for name in tensors if f"{name.removesuffix('_orig')}_mask" in tensors
    ]
    pairs = [name for name in pairs if f"{name}_orig" in tensors]
    if not pairs:
        return tensors, None
    for name in pairs:
        kept, weight = tensors[f"{name}_mask"], tensors[f"{name}_orig"]
        if kept.shape != weight.shape or not is_mask(kept):
            raise UserError(
                f"{source}: {quoted(name)} has a mask that doesn't fit it; expected 0 and 1 in its shape"
            )
        if name in tensors:
            raise UserError(
                f"{source}: {quoted(name)} is there twice, pruned and by itself; save one of them"
            )
    mask = {name: tensors[f"{name}_mask"] != 0 for name in pairs}
    merged = {}
    for name, value in tensors.items():
        base = name.removesuffix("_orig").removesuffix("_mask")
        if base in mask:
            merged[base] = torch.where(mask[base], tensors[f"{base}_orig"], 0)
        else:
            merged[name] = value
    return merged, mask


def _stored_mask(
    outer: Mapping[Any, Any], tensors: Mapping[str, Tensor], source: object
) -> dict[str, Tensor] | None:
    """A mask beside the weights, where it says exactly which weights may be other than zero."""
    for key in MASKS:
        stored = outer.get(key)
        if isinstance(stored, Mapping) and stored and all(isinstance(one, Tensor) for one in stored.values()):
            names = {short: name for name, short in short_names(tensors).items()}
            mask = {
                names.get(short, short): _numbers(name, stored[name], source)
                for name, short in short_names(named_tensors(stored, source)).items()
            }
            if all(_masks(kept, tensors.get(name)) for name, kept in mask.items()):
                return {name: kept != 0 for name, kept in mask.items()}
    return None


def is_mask(kept: Tensor) -> bool:
    """Whether a tensor holds nothing but 0 and 1."""
    return not bool(((kept != 0) & (kept != 1)).any())


def _masks(kept: Tensor, weight: Tensor | None) -> bool:
    if weight is None or kept.shape != weight.shape or not is_mask(kept):
        return False
    return not bool((weight[kept == 0] != 0).any())


def _metrics(outer: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers beside the weights, as Python's: epochs, accuracies."""
    numbers = {}
    for key, value in outer.items():
        if isinstance(value, np.generic) or (_is_strided(value) and value.numel() == 1):
            value = value.item()
        if isinstance(value, (int, float)):
            numbers[str(key)] = value
    return numbers


def _is_strided(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and _unusual(value) is None


def _config(outer: Mapping[Any, Any]) -> dict[str, Any]:
    for key in ("config", "args", "hyper_parameters"):
        value = outer.get(key)
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            return {str(name): plain(one) for name, one in value.items()}
    return {}


def plain(value: object) -> Any:
    """A value as JSON has it; what isn't plain is only named."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f"({type(value).__name__})"


def _notes(
    kinds: list[str], outer: Mapping[Any, Any], place: tuple[str, ...], positional: bool
) -> tuple[str, ...]:
    notes = []
    if other := [kind for kind in kinds if kind != "float32"]:
        notes.append(f"{' and '.join(other)} weights converted to float32")
    averaged = [key for key in AVERAGED if key not in place and holds_weights(outer.get(key))]
    if averaged and not positional:
        notes.append(f"averaged weights ({averaged[0]}) not used; --weights {averaged[0]} takes them")
    return tuple(notes)
