"""Which of a network's parameters move: one rule for surfaces, Hessians, sharpness, curvature and curves.

By default those that training moves: real floating-point parameters that require a gradient, all of them
where none does, as after loading TorchScript. What doesn't move stays exactly where it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from landscape.checks.usable import check_usable
from landscape.errors import UserError
from landscape.provenance import digest

TRAINABLE, ALL = "trainable", "all"
ParamsChoice: TypeAlias = str | Sequence[str]
"""``"trainable"``, ``"all"`` floating-point ones, or names and shell patterns, such as ``"layer3.*"``; what
matches one that begins with ``!`` stays."""

_SHOWN = 20  # names of parameters that stay, in what a file says
_TABLES = ("Embedding", "EmbeddingBag")


class Moving(dict[str, Tensor]):
    """Parameters that move, by name, in the order of ``named_parameters``; detached, on the CPU.

    Attributes
    ----------
    fixed
        The others.
    rule
        What was asked for: "trainable", "all", or names and patterns.
    tables
        Names of look-up tables (embeddings): a row of zeros in one is padding, not pruning.
    pruned
        Masks of `torch.nn.utils.prune`, where it still prunes the network; bool, True = kept.
    """

    def __init__(
        self,
        moving: Mapping[str, Tensor],
        fixed: Mapping[str, Tensor],
        rule: Sequence[str] = (TRAINABLE,),
        tables: Iterable[str] = (),
        pruned: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(moving)
        self.pruned = dict(pruned or {})
        self.fixed, self.rule, self.tables = dict(fixed), tuple(rule), frozenset(tables)

    def copied(self) -> Moving:
        """The same in memory of its own."""
        parts = (
            {name: one.clone() for name, one in part.items()} for part in (self, self.fixed, self.pruned)
        )
        moving, fixed, pruned = parts
        return Moving(moving, fixed, self.rule, self.tables, pruned)

    @property
    def every(self) -> dict[str, Tensor]:
        """All of the network's parameters: the moving ones first."""
        return {**self, **self.fixed}

    @property
    def whole(self) -> bool:
        """Whether every floating-point parameter moves."""
        return not any(one.is_floating_point() for one in self.fixed.values())

    @property
    def chosen(self) -> bool:
        """Whether names or patterns said what moves."""
        return self.rule not in ((TRAINABLE,), (ALL,))

    def settings(self) -> dict[str, Any]:
        """What the settings of a result say: nothing where every floating-point parameter moves."""
        if self.whole:
            return {}
        names = digest({name: torch.zeros(0) for name in self})
        return {"params": {"rule": list(self.rule), "tensors": len(self), "names": names}}

    def about(self) -> dict[str, Any]:
        """What a result says about it; JSON types."""
        fixed = list(self.fixed)
        more = [f"… {len(fixed) - _SHOWN} more"] if len(fixed) > _SHOWN else []
        return {
            "moving": {
                "rule": list(self.rule),
                "tensors": len(self),
                "weights": sum(one.numel() for one in self.values()),
                "fixed_weights": sum(one.numel() for one in self.fixed.values()),
                "fixed": fixed[:_SHOWN] + more,
            }
        }


def moving_names(module: nn.Module, params: ParamsChoice = TRAINABLE) -> list[str]:
    """Names of the parameters that move, in the order of ``named_parameters``.

    Parameters
    ----------
    module
        Any network. A parameter that several layers share counts once.
    params
        See `ParamsChoice`.

    Raises
    ------
    UserError
        When none moves, a name or pattern matches nothing, or a parameter that would move is complex.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    >>> moving_names(network, "*.weight")
    ['0.weight', '1.weight']
    >>> _ = network[0].requires_grad_(False)
    >>> moving_names(network)
    ['1.weight']
    """
    every = dict(module.named_parameters())
    rule = _rule(params)
    if rule == (TRAINABLE,):
        found = _trainable(every)
    elif rule == (ALL,):
        found = list(every)
    else:
        found = _matching(every, rule)
    for name in found:
        if every[name].is_complex():
            raise UserError(
                f"the parameter {name!r} is complex, and only real ones can be moved; keep it as a real "
                "tensor (torch.view_as_real), or leave it where it is with params"
            )
    found = [name for name in found if every[name].is_floating_point()]
    if not found:
        asked = "" if rule == (TRAINABLE,) else f" among those that {', '.join(map(repr, rule))} names"
        raise UserError(f"the model has no parameters that can move: no floating-point parameters{asked}")
    return found


def moving_params(model: nn.Module, params: ParamsChoice = TRAINABLE) -> Moving:
    """The parameters of a network, those that move and those that stay.

    Raises
    ------
    UserError
        As `moving_names`; when a weight is NaN, or one that moves is infinite.
    """
    check_usable(model)
    names = set(moving_names(model, params))
    every = {name: value.detach().cpu() for name, value in model.named_parameters()}
    moving = {name: value for name, value in every.items() if name in names}
    fixed = {name: value for name, value in every.items() if name not in names}
    for name, value in every.items():
        bad = ~torch.isfinite(value) if name in names else torch.isnan(value)  # a mask may hold −inf
        if bool(bad.any()):
            raise UserError(
                f"the weights hold {int(bad.sum())} NaN or infinite value(s), the first in {name!r}"
            )
    return Moving(moving, fixed, _rule(params), _tables(model), pruned_masks(model))


def pruned_masks(model: nn.Module) -> dict[str, Tensor]:
    """The masks by which `torch.nn.utils.prune` prunes a network at every call, by parameter name.

    >>> from torch.nn.utils import prune
    >>> layer = prune.l1_unstructured(nn.Linear(2, 2), "weight", amount=3)
    >>> {name: int(kept.sum()) for name, kept in pruned_masks(layer).items()}
    {'weight_orig': 1}
    """
    buffers = dict(model.named_buffers())
    parameters = [name for name, _ in model.named_parameters() if name.endswith("_orig")]
    pairs = {name: buffers.get(f"{name.removesuffix('_orig')}_mask") for name in parameters}
    return {name: (mask != 0).cpu() for name, mask in pairs.items() if mask is not None}


def refuse_other(fixed: Mapping[str, Tensor], other: Mapping[str, Tensor], what: str) -> None:
    """Refuse a second network that differs where nothing moves: no way along what moves leads there.

    Raises
    ------
    UserError
        Naming the parameter.
    """
    for name, value in fixed.items():
        theirs = other.get(name)
        if theirs is None or torch.equal(value.cpu(), theirs.detach().cpu().to(value.dtype)):
            continue
        advice = (
            "it is frozen here; --params all (params='all') moves it, too"
            if value.is_floating_point()
            else f"it is {str(value.dtype).removeprefix('torch.')} and can't be moved"
        )
        raise UserError(f"{what} differs in {name!r}, which doesn't move: {advice}")


def _rule(params: ParamsChoice) -> tuple[str, ...]:
    listed = (params,) if isinstance(params, str) or not isinstance(params, Iterable) else tuple(params)
    rule = tuple(dict.fromkeys(listed)) or (TRAINABLE,)
    if not all(isinstance(one, str) and one.strip("!") for one in rule):
        raise UserError(
            f"params {params!r}: expected 'trainable', 'all', or names and patterns of parameters"
        )
    return rule


def _trainable(every: Mapping[str, nn.Parameter]) -> list[str]:
    movable = {name: one for name, one in every.items() if one.is_floating_point() or one.is_complex()}
    return [name for name, one in movable.items() if one.requires_grad] or list(movable)


def _matching(every: Mapping[str, nn.Parameter], rule: Sequence[str]) -> list[str]:
    """Names that match a pattern and none that begins with ``!``; without others these narrow the default."""
    found: set[str] = set()
    wanted = [one for one in rule if not one.startswith("!")] or [TRAINABLE]
    for pattern in wanted:
        if pattern == TRAINABLE:
            found.update(_trainable(every))
        else:
            found.update(every if pattern == ALL else _matched(every, pattern))
    for pattern in rule:
        if pattern.startswith("!"):
            found.difference_update(_matched(every, pattern[1:]))
    return [name for name in every if name in found]


def _matched(every: Mapping[str, nn.Parameter], pattern: str) -> list[str]:
    found = [name for name in every if fnmatchcase(name, pattern)]
    if not found:
        close = difflib.get_close_matches(pattern, every, 3, 0.0)
        raise UserError(
            f"no parameter matches {pattern!r}; the network's are called {', '.join(close) or 'nothing'}"
            f"{', …' if len(every) > len(close) else ''}"
        )
    if found == [pattern] and not (every[pattern].is_floating_point() or every[pattern].is_complex()):
        kind = str(every[pattern].dtype).removeprefix("torch.")
        raise UserError(f"the parameter {pattern!r} is {kind}; only floating-point ones can be moved")
    return found


def _tables(model: nn.Module) -> list[str]:
    owners = dict(model.named_modules())
    kinds = {name: getattr(one, "original_name", type(one).__name__) for name, one in owners.items()}
    return [name for name, _ in model.named_parameters() if kinds.get(name.rpartition(".")[0], "") in _TABLES]
