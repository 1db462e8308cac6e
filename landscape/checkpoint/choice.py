"""Several sets of weights in one file: which are there, and the one that ``--weights`` names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from landscape.checkpoint.read import printable, quoted
from landscape.checkpoint.rebuild import NoValues
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
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the weights
CHOOSE = "choose one with --weights NAME (weights=…)"
LONGEST_NAME = 1000
_BESIDE = re.compile(
    r"(.*_)?(criterion|criteria|loss|losses|loss_fn|loss_func|loss_function|objective|metric|metrics|acc|accuracy)"
)
"""First parts of names that belong to a training script and not to its network."""


def holds_weights(value: object) -> bool:
    """Whether a value of a file is a set of weights, or a dict around one."""
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(inner, (Tensor, NoValues)) for inner in value.values()):
        return all(isinstance(name, str) for name in value)
    return any(holds_weights(value.get(key)) for key in (*WRAPPERS, *AVERAGED, "shadow"))


def sets_of_weights(content: Mapping[Any, Any]) -> list[str]:
    """The keys of a file under which there are weights."""
    return [str(key) for key, value in content.items() if holds_weights(value)]


def named_tensors(weights: Mapping[Any, Any], source: object) -> dict[str, Any]:
    """The tensors of a set of weights by name, those without values included.

    Raises
    ------
    UserError
        When names are too long, or two of them differ in type only.
    """
    found = [(name, value) for name, value in weights.items() if isinstance(value, (Tensor, NoValues))]
    named = {str(name): value for name, value in found if name != COUNTER}
    if len(named) < len([name for name, _ in found if name != COUNTER]):
        raise UserError(f"{source} names two tensors alike; save a state_dict with texts for names")
    longest = max(named, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise UserError(
            f"{source} has a tensor's name of {len(longest)} characters: {printable(longest, 40)}"
        )
    return named


def is_extra(name: str) -> bool:
    """Whether a name is that of what a module stores beside its tensors."""
    return name.rpartition(".")[2] == "_extra_state"


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names for a message, the first of many."""
    texts = [printable(name, 40) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def choose(
    content: object, weights: str, source: object
) -> tuple[Mapping[str, Any] | nn.Module | list[Tensor], tuple[str, ...]]:
    """The set of weights that `weights` names, and where it stands.

    A list of tensors without names (torch_ema's ``shadow_params``) comes back as such.

    Raises
    ------
    UserError
        When there is none by that name; names those that are there.
    """
    found = _at(content, weights)
    if found is None:
        places = (_at(one, weights) for one in _inner(content))
        found = next((one for one in places if one is not None), None)
    if isinstance(found, (list, tuple)) and found and all(isinstance(one, Tensor) for one in found):
        return list(found), (weights,)
    if isinstance(found, (Mapping, nn.Module)):
        while isinstance(found, Mapping) and not _has_tensors(found):
            inner = [key for key in (*WRAPPERS, *AVERAGED, "shadow") if holds_weights(found.get(key))]
            if not inner:
                break
            found = found[inner[0]]
        if isinstance(found, nn.Module) or _has_tensors(found):
            return found, (weights,)
    there = listed(choices(content))
    raise UserError(f"{source} has no weights {quoted(weights)}; it has {there or 'one set only'}")


def choices(content: object) -> list[str]:
    """What ``--weights`` can be for a file."""
    found: list[str] = []
    for one in (content, *_inner(content)):
        if isinstance(one, Mapping):
            found += [key for key in sets_of_weights(one) if key not in found]
            found += [str(key) for key, value in one.items() if _is_tensor_list(value)]
            found += [group for group in groups(one) if group not in found]
    return found


def groups(names: Iterable[object]) -> dict[str, list[str]]:
    """Names by their first part, where they have several."""
    found: dict[str, list[str]] = {}
    for name in names:
        first, dot, _ = str(name).partition(".")
        if dot:
            found.setdefault(first, []).append(str(name))
    return found


def twins(tensors: Mapping[str, Tensor]) -> list[str]:
    """First parts of names under which the same names and shapes stand: copies of one network, EMA's say."""
    kinds: dict[frozenset[tuple[str, tuple[int, ...]]], list[str]] = {}
    for first, names in groups(tensors).items():
        if len(names) < 2:  # two layers without a bias are no copies
            continue
        kind = frozenset((name.partition(".")[2], tuple(tensors[name].shape)) for name in names)
        kinds.setdefault(kind, []).append(first)
    found = max(kinds.values(), key=len, default=[])
    covered = sum(len(names) for first, names in groups(tensors).items() if first in found)
    scalars = sum(
        value.numel() <= 1 for name, value in tensors.items() if name.partition(".")[0] not in found
    )
    return found if len(found) > 1 and covered + scalars == len(tensors) else []


def without_script(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without those of a training script's loss and metrics, and the names of these.

    Nothing is left out unless the others stand under one first part together (``model.``).
    """
    parts = {name: name.partition(".")[0] for name in tensors}
    beside = [name for name, first in parts.items() if _BESIDE.fullmatch(first)]
    rest = {first for first in parts.values() if not _BESIDE.fullmatch(first)}
    if not beside or len(rest) != 1 or any("." not in name for name in tensors if name not in beside):
        return dict(tensors), []
    return {name: value for name, value in tensors.items() if name not in beside}, beside


def _inner(content: object) -> list[object]:
    """The sets of weights that a file's usual wrappers hold, outermost first."""
    found: list[object] = []
    while isinstance(content, Mapping):
        wrapped = [key for key in (*WRAPPERS, *AVERAGED) if holds_weights(content.get(key))]
        if not wrapped:
            break
        content = content[wrapped[0]]
        found.append(content)
    return found


def _at(content: object, path: str) -> object:
    """What stands under a path of keys, or under a first part of names; None for nothing."""
    if not isinstance(content, Mapping):
        return None
    if path in content:
        found: object = content[path]
        return found
    for place in [at.start() for at in re.finditer(r"\.", path)]:
        if path[:place] in content:
            return _at(content[path[:place]], path[place + 1 :])
    prefix = f"{path}."
    under = {
        name.removeprefix(prefix): value
        for name, value in content.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, (Tensor, NoValues))
    }
    return under or None


def _has_tensors(content: object) -> bool:
    return isinstance(content, Mapping) and any(
        isinstance(one, (Tensor, NoValues)) for one in content.values()
    )


def _is_tensor_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, Tensor) for one in value)
