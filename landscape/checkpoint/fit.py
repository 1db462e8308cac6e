"""Weights into a model: names compared under their usual aliases, differences named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checkpoint.choice import is_extra
from landscape.checkpoint.read import quoted
from landscape.checkpoint.state import HEADS, short_names
from landscape.errors import UserError

# Counters that older files lack, and what a profiler (thop) leaves behind: no part of the function.
_IGNORED = ("num_batches_tracked", "total_ops", "total_params")
_ALIASES = {"downsample": "shortcut"}


@dataclass(frozen=True)
class Fit:
    """How a file's tensors and a model's compare.

    ``names`` maps the file's names to the model's for all tensors that both have, in the same shape.
    """

    names: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every weight has its place."""
        return not self.differences

    @property
    def differences(self) -> int:
        """Number of tensors that differ."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    @property
    def summary(self) -> str:
        """The first difference of each kind, with shapes, and how many there are."""
        parts = (self.reshaped, self.missing, self.unexpected)
        return "; ".join(
            f"{first[0]}{f' and {len(first) - 1} more' if first[1:] else ''}" for first in parts if first
        )


def compare(tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> Fit:
    """Compare a file's tensors with a model's ``state_dict``.

    Prefixes of wrappers are left out on both sides; a classifier may be called linear, fc, classifier or
    head, a shortcut also downsample, where that is unambiguous. A tensor that the model has under several
    names may be in the file under one of them.
    """
    wanted = {name: value for name, value in wanted.items() if isinstance(value, Tensor)}
    same = set(tensors) == set(wanted)
    ours = {name: name for name in wanted} if same else _canonical(wanted)
    theirs = {name: name for name in tensors} if same else _canonical(tensors)
    both = [name for name in theirs if name in ours]
    reshaped = [name for name in both if tensors[theirs[name]].shape != wanted[ours[name]].shape]
    there = {ours[name] for name in both}
    tied = {name for group in tied_names(wanted) if there.intersection(group) for name in group}
    missing = [ours[name] for name in ours if name not in theirs and ours[name] not in tied]
    unexpected = [theirs[name] for name in theirs if name not in ours]
    return Fit(
        names={theirs[name]: ours[name] for name in both if name not in reshaped},
        missing=tuple(f"missing {name!r} {_shape(wanted[name])}" for name in missing if _matters(name)),
        unexpected=tuple(
            f"unexpected {quoted(name)} {_shape(tensors[name])}" for name in unexpected if _matters(name)
        ),
        reshaped=tuple(
            f"{ours[name]!r} is {_shape(tensors[theirs[name]])} in the file, "
            f"{_shape(wanted[ours[name]])} in the model"
            for name in reshaped
        ),
    )


def tied_names(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Groups of names under which a model has one and the same tensor."""
    by_place: dict[tuple[object, ...], list[str]] = {}
    for name, value in state.items():
        if value.numel() and value.layout == torch.strided:
            place = (
                value.untyped_storage()._cdata,
                value.storage_offset(),
                tuple(value.shape),
                value.stride(),
            )
            by_place.setdefault(place, []).append(name)
    return [names for names in by_place.values() if len(names) > 1]


def load_into(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    source: object,
    extra: Mapping[str, Any] | None = None,
) -> Fit:
    """Copy a file's weights into a model.

    Parameters
    ----------
    what
        The model's name for messages.
    source
        The file's path for messages.
    extra
        What modules stored beside tensors (``get_extra_state``), by name.

    Raises
    ------
    UserError
        When the weights don't fit (names the first differing keys and shapes), are of another kind of number,
        or aren't finite.
    """
    given, wanted = tensors, model.state_dict()
    fit = compare(tensors, wanted)
    if not fit.exact:
        tensors, fit = _by_own_names(model, tensors, wanted, fit)
    check_fit(fit, wanted, what=what, source=source)
    renamed = {ours: tensors[theirs] for theirs, ours in fit.names.items()}
    _check_ties(renamed, wanted, source)
    converted = {name: _converted(name, value, wanted[name], source) for name, value in renamed.items()}
    check_finite(converted, source)
    beside = _extra_states(extra or {}, given, wanted, source)
    try:
        with _without_hooks(model) if tensors is not given else nullcontext():  # they have run
            model.load_state_dict(wanted | converted | beside)
    except Exception as error:  # a module's own set_extra_state may raise anything
        raise UserError(
            f"{source} can't be loaded into {what}: {str(error).splitlines()[0][:200]}"
        ) from error
    return _of_file(fit, tensors, given)


def _by_own_names(
    model: nn.Module, tensors: Mapping[str, Tensor], wanted: Mapping[str, Any], fit: Fit
) -> tuple[Mapping[str, Tensor], Fit]:
    """The tensors under the names that the model's hooks give older ones, where they fit then.

    As ``load_state_dict`` would: torch's weight normalization takes ``weight_g`` and ``weight_v`` of before.
    """
    ours, theirs = short_names(wanted), short_names(tensors)
    prefix = next((name.removesuffix(short) for name, short in ours.items()), "")
    for called in (
        {name: name for name in tensors},
        {name: prefix + short for name, short in theirs.items()},
    ):
        fresh = {called[name]: value for name, value in tensors.items()}
        try:
            for name, module in model.named_modules():
                for hook in module._load_state_dict_pre_hooks.values():
                    hook(fresh, f"{name}." if name else "", {}, True, [], [], [])
            found = compare(fresh, wanted)
        except Exception:  # a hook of a user's own, made for other files
            continue
        if found.exact:
            return fresh, found
    return tensors, fit


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Inside it modules load as if they had no hooks that translate a file."""
    held = [
        (module._load_state_dict_pre_hooks, {**module._load_state_dict_pre_hooks})
        for module in model.modules()
    ]
    for hooks, _ in held:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in held:
            hooks.update(before)


def _of_file(fit: Fit, tensors: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Fit:
    """With the file's own names of tensors that were given others."""
    names = {id(value): name for name, value in given.items()}
    return replace(fit, names={names.get(id(tensors[name]), name): ours for name, ours in fit.names.items()})


def load_positional(model: nn.Module, weights: Sequence[Tensor], *, source: object) -> None:
    """Replace a model's parameters by weights in their order, as EMA packages store them.

    Raises
    ------
    UserError
        When they are neither as many as all parameters nor as those that were trained, or of other shapes.
    """
    parameters = dict(model.named_parameters())
    trained = {name: one for name, one in parameters.items() if one.requires_grad}
    chosen = trained if len(weights) == len(trained) else parameters
    shapes = [tuple(one.shape) for one in chosen.values()]
    if [tuple(one.shape) for one in weights] != shapes:
        raise UserError(
            f"{source}: the {len(weights)} weights without names aren't of the shapes of the model's "
            f"{len(parameters)} parameters; choose the right --model"
        )
    named = dict(zip(chosen, weights, strict=True))
    converted = {name: _converted(name, value, chosen[name], source) for name, value in named.items()}
    check_finite(converted, source)
    with torch.no_grad():
        for name, value in converted.items():
            chosen[name].copy_(value)


def check_fit(fit: Fit, wanted: Mapping[str, Any], *, what: str, source: object) -> None:
    """Refuse weights that don't fit a model; UserError names the first differing keys and shapes."""
    if not fit.exact:
        raise UserError(
            f"{source} doesn't fit {what}: {fit.summary} "
            f"({fit.differences} tensors differ, the model has {len(wanted)}); choose the right --model"
        )


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Refuse NaN and infinite weights, and variances below 0.

    Raises
    ------
    UserError
        Naming the first such tensor and how many values are concerned.
    """
    bad = {
        name: int((~torch.isfinite(value)).sum())
        for name, value in tensors.items()
        if (value.is_floating_point() or value.is_complex()) and not bool(torch.isfinite(value).all())
    }
    if bad:
        first = next(iter(bad))
        total = f", {sum(bad.values())} in {len(bad)} tensors" if len(bad) > 1 else ""
        raise UserError(
            f"{source}: {quoted(first)} has {bad[first]} NaN or infinite values{total}; "
            "training diverged there"
        )
    for name, value in tensors.items():
        if name.rpartition(".")[2] == "running_var" and bool((value < 0).any()):
            raise UserError(
                f"{source}: {quoted(name)} has {int((value < 0).sum())} variances below 0; "
                "expected 0 or more: the file is damaged, save it again"
            )


def _converted(name: str, value: Tensor, wanted: Tensor, source: object) -> Tensor:
    """The file's numbers in the model's type, where that changes them by no more than rounding."""
    if value.dtype == wanted.dtype:
        return value
    kinds = _kind(value), _kind(wanted)
    made = value.to(wanted.dtype) if (kinds[0], kinds[1]) != ("complex", "real") else value.real
    fits = (
        kinds[0] == kinds[1]
        or (kinds == ("whole", "real") and value.dim() < 2)
        or (kinds == ("real", "whole") and bool((made.to(value.dtype) == value).all()))
    )
    if not fits:
        raise UserError(
            f"{source}: {quoted(name)} holds {kinds[0]} numbers ({_type(value)}), the model expects "
            f"{kinds[1]} ones ({_type(wanted)}); convert them before saving"
        )
    return made


def _kind(value: Tensor) -> str:
    return "complex" if value.is_complex() else "real" if value.is_floating_point() else "whole"


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _check_ties(renamed: Mapping[str, Tensor], wanted: Mapping[str, Any], source: object) -> None:
    """Refuse different values for what is one tensor in the model."""
    tensors = {name: value for name, value in wanted.items() if isinstance(value, Tensor)}
    for group in tied_names(tensors):
        there = [name for name in group if name in renamed]
        for name in there[1:]:
            if not torch.equal(renamed[there[0]], renamed[name]):
                raise UserError(
                    f"{source}: {there[0]!r} and {name!r} are one tensor in the model, but differ in the "
                    "file; choose the right --model"
                )


def _extra_states(
    extra: Mapping[str, Any], tensors: Mapping[str, Tensor], wanted: Mapping[str, Any], source: object
) -> dict[str, Any]:
    """The file's states of modules beside tensors under the model's names."""
    ours = {short: name for name, short in short_names(wanted).items() if is_extra(name)}
    theirs = {short: name for name, short in short_names([*tensors, *extra]).items() if name in extra}
    missing, unknown = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if missing:
        raise UserError(f"{source} lacks {missing[0]!r}, which the model stores beside its tensors")
    if unknown:
        raise UserError(
            f"{source} has {quoted(theirs[unknown[0]])} beside its tensors, which the model doesn't know"
        )
    return {name: extra[theirs[short]] for short, name in ours.items()}


def _canonical(names: Iterable[str]) -> dict[str, str]:
    """Map names under which a file's and a model's tensors are compared to the names themselves."""
    short = short_names(names)
    common = {_alias(value): name for name, value in short.items()}
    return common if len(common) == len(short) else {value: name for name, value in short.items()}


def _alias(name: str) -> str:
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in HEADS:
        parts[0] = HEADS[0]
    return ".".join(_ALIASES.get(part, part) for part in parts)


def _matters(name: str) -> bool:
    return name.rpartition(".")[2] not in _IGNORED


def _shape(value: Tensor) -> str:
    return str(list(value.shape))
