"""The two networks of a curve: what moves between them, and which weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.checks.determinism import relative_difference
from landscape.engine import own_copy
from landscape.engine.contract import first_batches
from landscape.engine.precision import in_precision
from landscape.engine.probe import probe
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.kept_weights import checked_mask
from landscape.losses import Loss
from landscape.parameters import ALL, TRAINABLE, Moving, ParamsChoice, moving_params
from landscape.planes.directions import Params, direction_between
from landscape.provenance import digest

BatchNormChoice = Literal["recalibrate", "interpolate"]
_STATISTICS = ("running_mean", "running_var")
_SAME = 1e-4  # relative; the same operations on the same numbers


@dataclass(frozen=True, eq=False)
class Ends:
    """Two networks of one architecture.

    Attributes
    ----------
    module
        A copy of the first, in evaluation mode. With "interpolate" the running statistics of its batch norm
        are parameters, so that whatever moves parameters moves them.
    start, end
        Everything that moves, by name: parameters, and running statistics with "interpolate".
    statistics
        Names of the running statistics among them; these aren't trained.
    batch_norm
        "recalibrate" or "interpolate".
    kept
        Bool tensors by parameter name: weights that the bend may use. None for all.
    moving
        The first network's parameters: those that move and those that stay.
    """

    module: nn.Module
    start: Params
    end: Params
    statistics: frozenset[str]
    batch_norm: BatchNormChoice
    kept: Mapping[str, Tensor] | None = None
    moving: Moving = field(default_factory=lambda: Moving({}, {}))

    def settings(self) -> dict[str, Any]:
        """What determines a curve between them; JSON types."""
        fixed = self.moving.fixed
        return {
            "ends": [digest(self.start), digest(self.end)],
            "buffers": digest(dict(self.module.named_buffers())),
            **self.moving.settings(),
            **({"fixed": digest(fixed)} if fixed else {}),
        }

    @property
    def difference(self) -> Params:
        """From the first to the second."""
        return direction_between(self.start, self.end)

    @property
    def middle(self) -> Params:
        """Half-way on the straight line, from where a bend starts."""
        # A file of a sparse network keeps no sign of a pruned weight's zero; adding 0 makes it positive.
        return {name: (value + self.end[name]) / 2 + 0.0 for name, value in self.start.items()}


def prepare_ends(
    first: nn.Module,
    second: nn.Module,
    masks: tuple[Mapping[str, Tensor] | None, Mapping[str, Tensor] | None] = (None, None),
    batch_norm: BatchNormChoice = "recalibrate",
    params: ParamsChoice = TRAINABLE,
) -> Ends:
    """Check that two networks can be connected, and copy what is needed.

    Parameters
    ----------
    first, second
        Modules with the same parameters; neither is modified.
    masks
        Kept weights of each, by name; None for a dense network. A bend may use the weights that one of them
        keeps.
    batch_norm, params
        See `analysis.connectivity.connection.connect`.

    Raises
    ------
    UserError
        For different architectures, weights that aren't finite, buffers that differ and running statistics
        that can't be moved, or weights outside the masks.
    """
    if batch_norm not in get_args(BatchNormChoice):
        raise UserError(f"unknown batch norm {batch_norm!r}; expected recalibrate or interpolate")
    moving = moving_params(first, params)
    try:
        direction_between(moving, moving_params(second, ALL).every)
    except UserError as error:
        raise UserError(f"the two networks can't be connected: {error}") from error
    copies = [own_copy(one).eval() for one in (first, second)]
    for one in copies:
        _check_statistics(one)
    _check_buffers(*copies)
    names = [_statistics_as_parameters(one) if batch_norm == "interpolate" else [] for one in copies]
    moved = {*moving, *names[0]}
    start, end = (
        {name: value.detach().cpu() for name, value in one.named_parameters() if name in moved}
        for one in copies
    )
    direction_between(start, end)
    kept = _union(*masks, moving)
    for weights in (start, end):
        _check_pruned(weights, kept or {})
    return Ends(copies[0], start, end, frozenset(names[0]), batch_norm, kept, moving)


def check_same_function(first: nn.Module, second: nn.Module, loss: Loss, examples: Examples) -> None:
    """Refuse networks that differ in more than weights and running statistics: that is all that moves.

    The first one with the second's numbers must give the second's loss, or no curve of it ends there:
    activations, settings and integer buffers may differ between networks of the same parameters.

    Raises
    ------
    UserError
        With both losses.
    """
    carrier, other = (own_copy(one).eval() for one in (first, second))
    numbers = dict(other.named_parameters()) | _statistics(other)
    with torch.no_grad():
        for name, value in (dict(carrier.named_parameters()) | _statistics(carrier)).items():
            value.copy_(numbers.get(name, value))
    dtype = next(one.dtype for one in carrier.parameters() if one.is_floating_point())
    dtype = torch.promote_types(dtype, torch.float32)
    batch = first_batches(examples, torch.device("cpu"), dtype)[0]
    try:
        found, wanted = (
            probe(in_precision(one, "cpu", dtype), loss, batch).values.values["loss"].double()
            for one in (carrier, other)
        )
    except Exception:
        return  # whoever evaluates the curve says what is wrong
    if relative_difference(found, wanted) > _SAME:
        one, two = (f"{float(values.mean()):.8g}" for values in (found, wanted))
        raise UserError(
            f"the two networks can't be connected: the first with the weights of the second gives {one} "
            f"where the second gives {two} (a few examples), so they differ in more than weights (an "
            "activation, a setting, an integer buffer?); make both by the same code"
        )


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: one for name, one in module.named_buffers() if name.rpartition(".")[2] in _STATISTICS}


def _check_statistics(module: nn.Module) -> None:
    """Refuse networks (TorchScript) whose running statistics are out of reach."""
    known = {name for name, one in module.named_modules() if isinstance(one, _BatchNorm)}
    for name, _ in module.named_buffers():
        owner, _, last = name.rpartition(".")
        if last in _STATISTICS and owner not in known:
            raise UserError(
                f"the running statistics {name!r} aren't of torch's batch norm and can't follow a curve; "
                "load the network with --model instead of as TorchScript"
            )


def _check_buffers(first: nn.Module, second: nn.Module) -> None:
    """Refuse networks whose other buffers differ: the first one's would be used all along the curve."""
    others = dict(second.named_buffers())
    for name, value in first.named_buffers():
        other = others.get(name)
        if name.rpartition(".")[2] in _STATISTICS or other is None or not value.is_floating_point():
            continue
        if value.shape != other.shape or not torch.equal(value.cpu(), other.cpu()):
            raise UserError(
                f"the two networks can't be connected: their buffers {name!r} differ, and only parameters "
                "and running statistics move along a curve; make it a parameter, or equal in both"
            )


def _check_pruned(params: Params, mask: Mapping[str, Tensor]) -> None:
    """Refuse weights that a mask leaves out and that aren't 0."""
    for name, kept in mask.items():
        if bool((params[name].cpu()[~kept] != 0).any()):
            raise UserError(
                f"the masks leave out weights of {name!r} that aren't 0; set these to 0, or give other masks"
            )


def _statistics_as_parameters(module: nn.Module) -> list[str]:
    """Turn running means and variances into parameters, in place; gives their names."""
    found = []
    for name, norm in module.named_modules():
        for kind in _STATISTICS if isinstance(norm, _BatchNorm) else ():
            value = norm._buffers.get(kind)
            if value is not None:
                del norm._buffers[kind]
                norm.register_parameter(kind, nn.Parameter(value.detach().clone(), requires_grad=False))
                found.append(f"{name}.{kind}" if name else kind)
    return found


def _union(
    first: Mapping[str, Tensor] | None, second: Mapping[str, Tensor] | None, moving: Moving
) -> Mapping[str, Tensor] | None:
    """Weights that one of the two keeps; None where that is all of them.

    A tensor that a mask doesn't name is wholly kept, and so is everything in a dense network.
    """
    masks = [None if mask is None else checked_mask(mask, moving) for mask in (first, second)]
    if masks[0] is None or masks[1] is None:
        return None
    one, two = masks[0], masks[1]
    both = {name: one[name] | two[name] for name in one if name in two and name in moving}
    return {name: kept for name, kept in both.items() if not bool(kept.all())} or None
