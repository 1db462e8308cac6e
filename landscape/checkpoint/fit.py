"""Weights into a model: names compared under their usual aliases, differences named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


def compare(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Fit:
    """Compare a file's tensors with a model's ``state_dict``.

    Prefixes of wrappers are left out on both sides; a classifier may be called linear, fc, classifier or
    head, a shortcut also downsample, where that is unambiguous.
    """
    same = set(tensors) == set(wanted)
    ours = {name: name for name in wanted} if same else _canonical(wanted)
    theirs = {name: name for name in tensors} if same else _canonical(tensors)
    both = [name for name in theirs if name in ours]
    reshaped = [name for name in both if tensors[theirs[name]].shape != wanted[ours[name]].shape]
    missing = [ours[name] for name in ours if name not in theirs]
    unexpected = [theirs[name] for name in theirs if name not in ours]
    return Fit(
        names={theirs[name]: ours[name] for name in both if name not in reshaped},
        missing=tuple(f"missing {name!r} {_shape(wanted[name])}" for name in missing if _matters(name)),
        unexpected=tuple(
            f"unexpected {name!r} {_shape(tensors[name])}" for name in unexpected if _matters(name)
        ),
        reshaped=tuple(
            f"{ours[name]!r} is {_shape(tensors[theirs[name]])} in the file, "
            f"{_shape(wanted[ours[name]])} in the model"
            for name in reshaped
        ),
    )


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], *, what: str, source: object) -> Fit:
    """Copy a file's weights into a model.

    Parameters
    ----------
    what
        The model's name for messages.
    source
        The file's path for messages.

    Raises
    ------
    UserError
        When the weights don't fit (names the first differing keys and shapes) or aren't finite.
    """
    wanted = model.state_dict()
    fit = compare(tensors, wanted)
    if not fit.exact:
        raise UserError(
            f"{source} doesn't fit {what}: {fit.summary} "
            f"({fit.differences} tensors differ, the model has {len(wanted)}); choose the right --model"
        )
    renamed = {ours: tensors[theirs] for theirs, ours in fit.names.items()}
    check_finite(renamed, source)
    model.load_state_dict(wanted | renamed)
    return fit


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Refuse NaN and infinite weights.

    Raises
    ------
    UserError
        Naming the first such tensor and how many values are concerned.
    """
    bad = {
        name: int((~torch.isfinite(value)).sum())
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    }
    if bad:
        first = next(iter(bad))
        total = f", {sum(bad.values())} in {len(bad)} tensors" if len(bad) > 1 else ""
        raise UserError(
            f"{source}: {first!r} has {bad[first]} NaN or infinite values{total}; training diverged there"
        )


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
