"""Directions in weight space: random, between checkpoints, given; masked and normalized.

A direction is a dict of tensors keyed like ``named_parameters``. Everything is drawn and normalized on the
CPU in float64-safe steps, tensor by tensor in order, so that a seed means the same direction everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from landscape.checks.arguments import whole
from landscape.errors import UserError
from landscape.parameters import Moving, refuse_other

Params = dict[str, Tensor]
Normalization = Literal["filter", "layer", "weight", "none"]


def random_direction(params: Mapping[str, Tensor], seed: int, axis: int) -> Params:
    """Standard Gaussian direction for one axis of a plane.

    Each (seed, axis) pair has its own generator, so an axis doesn't depend on how many others are drawn.
    Drawn in float64 and rounded: float32 draws differ in the last bits between vectorized and plain kernels.
    """
    generator = torch.Generator(device="cpu").manual_seed(_mix(whole("seed", seed, -(2**63)), axis))
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu").float()
        for name, value in params.items()
    }


def direction_between(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> Params:
    """`end` − `start`, so that coordinate 1 is the other network. Floating-point parameters only.

    Raises
    ------
    UserError
        When the two networks don't have the same parameters and shapes, or differ in one that doesn't move
        (see `landscape.parameters.Moving`; not where the caller chose by name what moves).
    """
    fixed = start.fixed if isinstance(start, Moving) else {}
    known = {name: value for name, value in fixed.items() if name in end}
    _check_same_parameters({**start, **known}, end, "the other checkpoint")
    if isinstance(start, Moving) and not start.chosen:
        refuse_other(known, end, "the other checkpoint")
    return {name: _precise(end[name]) - _precise(value) for name, value in start.items()}


def given_direction(params: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> Params:
    """A caller's direction, completed with zeros for the parameters that it doesn't name.

    Raises
    ------
    UserError
        When it names a parameter that the network lacks, has another shape, or isn't finite.
    """
    unknown = [name for name in direction if name not in params]
    if unknown and isinstance(params, Moving) and unknown[0] in params.fixed:
        raise UserError(
            f"the direction moves {unknown[0]!r}, which doesn't move here; leave it out, or say with params "
            "(--params all, --params NAME) that it moves"
        )
    if unknown:
        raise UserError(f"the direction names {unknown[0]!r}, which is no parameter of the network")
    _check_same_parameters({name: params[name] for name in direction}, direction, "the direction")
    bad = [name for name, value in direction.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise UserError(f"the direction isn't finite in {bad[0]!r}; expected finite numbers")
    return {
        name: _precise(direction[name]) if name in direction else torch.zeros(value.shape, device="cpu")
        for name, value in params.items()
    }


def check_directions(given: object) -> None:
    """Refuse what is no sequence of mappings from parameter names to tensors.

    Raises
    ------
    UserError
        With what it is.
    """
    if isinstance(given, Mapping) or not isinstance(given, Sequence):
        raise UserError(f"a plane of one {type(given).__name__}; expected a list, one mapping for each axis")
    for one in given:
        if not isinstance(one, Mapping):
            raise UserError(
                f"a plane of a {type(one).__name__}; expected tensors by parameter name, "
                "such as dict(model.named_parameters())"
            )
        for name, value in one.items():
            if not isinstance(value, Tensor):
                raise UserError(f"the plane's {name!r} is a {type(value).__name__}; expected a tensor")
            if value.layout != torch.strided:
                raise UserError(f"the plane's {name!r} is a sparse tensor ({value.layout}); give .to_dense()")


def _precise(value: Tensor) -> Tensor:
    """On the CPU, in float32 at least."""
    return value.detach().cpu().to(torch.promote_types(value.dtype, torch.float32))


def apply_mask(direction: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None) -> Params:
    """The direction with exact zeros wherever `mask` is False; tensors without a mask are unchanged."""
    if mask is None:
        return dict(direction)
    return {
        name: torch.where(mask[name].cpu(), value, torch.zeros_like(value)) if name in mask else value
        for name, value in direction.items()
    }


def normalize(
    direction: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
    how: Normalization = "filter",
    *,
    skip_vectors: bool = True,
) -> Params:
    """Give the direction the scale of the weights.

    ``filter``: each slice along dimension 0 gets the norm of the same slice of the weights (Li et al.,
    "Visualizing the Loss Landscape of Neural Nets", 2018, section 4). ``layer``: each tensor gets the norm of
    the weight tensor. ``weight``: each entry gets the magnitude of its weight. ``none``: unchanged.

    Parameters
    ----------
    skip_vectors
        Zero the direction in `vectors` (biases, norm layers), as Li et al. do: their networks' loss is
        invariant to, or dominated by, the scale of these.
    """
    if how not in get_args(Normalization):
        raise UserError(
            f"unknown normalization {how!r}; expected one of {', '.join(get_args(Normalization))}"
        )
    scale, skipped = _SCALES[how], vectors(direction) if skip_vectors else frozenset()
    return {
        name: torch.zeros_like(value) if name in skipped else scale(value, params[name])
        for name, value in direction.items()
    }


def vectors(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of tensors that hold one number per output and no filters.

    Those of at most one dimension; scales and shifts of channels, ``[C, 1, 1]`` or ``[1, C, 1, 1]``, that
    are no layer's weight; and weight normalization's gains ``[C, 1, …]``, which multiply whole filters
    (Salimans and Kingma, "Weight normalization", 2016): a direction in them only rescales.

    >>> scales = {"norm.bias": torch.ones(3), "scale": torch.ones(3, 1, 1), "weight_g": torch.ones(3, 1)}
    >>> sorted(vectors({**scales, "weight_v": torch.ones(3, 5), "conv.weight": torch.ones(3, 1, 1, 1)}))
    ['norm.bias', 'scale', 'weight_g']
    """
    return frozenset(
        name
        for name, value in tensors.items()
        if value.dim() <= 1 or _of_channels(name, value) or _is_gain(name, value, tensors)
    )


def _of_channels(name: str, value: Tensor) -> bool:
    one_axis = value.dim() >= 3 and value.numel() == max(value.shape) and value.shape[-1] == 1
    return one_axis and not any(part.startswith("weight") for part in name.split(".")[-2:])


def _is_gain(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> bool:
    """Whether it is the length that weight normalization splits off the tensor of its direction."""
    if name.endswith("_g"):
        partner = tensors.get(f"{name.removesuffix('_g')}_v")
    elif name.endswith(".original0"):
        partner = tensors.get(f"{name.removesuffix('0')}1")
    else:
        return False
    return (
        partner is not None
        and partner.dim() == value.dim()
        and partner.numel() > value.numel() == max(value.shape)
        and all(size in (1, full) for size, full in zip(value.shape, partner.shape, strict=True))
    )


def checked(directions: Iterable[Mapping[str, Tensor]], params: Mapping[str, Tensor]) -> list[Params]:
    """The directions of a plane in the parameters that move.

    Raises
    ------
    UserError
        As `check_directions`; when one moves another parameter or is complex; when every entry is zero: the
        surface would be flat, and its Ra exactly 0, whatever the network.
    """
    if isinstance(directions, Iterable) and not isinstance(directions, Mapping):  # a generator, say
        directions = list(directions)
    check_directions(directions)
    found = []
    for axis, direction in enumerate(directions):
        for name, value in direction.items():
            if not bool(value.isfinite().all()):
                raise UserError(f"the direction isn't finite in {name!r}; expected finite numbers")
            if value.is_complex():
                raise UserError(f"the direction of {name!r} is complex; expected real numbers")
            if name not in params and bool(value.any()):
                raise UserError(
                    f"the plane moves {name!r}, which doesn't move here; make it of the moving parameters, "
                    "or say with params (--params) that it moves"
                )
        found.append({name: value for name, value in direction.items() if name in params})
        if any(bool(value.any()) for value in direction.values()):
            continue
        skipped = vectors(params)
        reason = (
            "every parameter that moves is a vector or a scalar (bias, norm layer, gain), which directions "
            "leave alone; choose others with --params, or pass RandomPlane(skip_vectors=False)"
            if skipped.issuperset(params)
            else "no weight is left that moves along it: look at the mask, at --params, and whether another "
            "network that was named is this one"
        )
        raise UserError(f"the direction of {'αβ'[axis] if axis < 2 else axis} is zero everywhere: {reason}")
    return found


def filter_norms(tensor: Tensor) -> Tensor:
    """Euclidean norm of each slice along dimension 0, shape ``[tensor.shape[0]]``, in float64."""
    value = tensor.detach().double()
    norms: Tensor = (value.flatten(1) if value.dim() > 1 else value.reshape(-1, 1)).norm(dim=1)
    return norms  # of none, too: shape [0, 4] has no filter


def _per_filter(direction: Tensor, weight: Tensor) -> Tensor:
    shape = (-1, *[1] * (direction.dim() - 1)) if direction.dim() else ()
    factor = _ratio(filter_norms(weight.cpu()), filter_norms(direction)).reshape(shape)
    return (direction.double() * factor).to(direction.dtype)


def _per_layer(direction: Tensor, weight: Tensor) -> Tensor:
    factor = _ratio(weight.detach().cpu().double().norm(), direction.double().norm())
    return (direction.double() * factor).to(direction.dtype)


def _per_weight(direction: Tensor, weight: Tensor) -> Tensor:
    return torch.sign(direction) * weight.detach().cpu().abs().to(direction.dtype)


def _unchanged(direction: Tensor, weight: Tensor) -> Tensor:
    return direction


_SCALES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "filter": _per_filter,
    "layer": _per_layer,
    "weight": _per_weight,
    "none": _unchanged,
}


def _ratio(weight_norm: Tensor, direction_norm: Tensor) -> Tensor:
    """weight/direction, and 0 where the direction is 0 (a wholly pruned filter)."""
    return torch.where(direction_norm > 0, weight_norm / direction_norm, torch.zeros_like(direction_norm))


def _mix(seed: int, axis: int) -> int:
    """Distinct 63-bit generator seeds for neighbouring (seed, axis) pairs (Weyl steps of SplitMix64)."""
    return (seed * 0x9E3779B97F4A7C15 + (axis + 1) * 0xBF58476D1CE4E5B9) % (1 << 63)


def _check_same_parameters(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str) -> None:
    for name in _union(ours, theirs):
        if name not in theirs:
            raise UserError(f"{what} lacks the parameter {name!r}; both must be of one architecture")
        if name not in ours:
            raise UserError(f"{what} has an extra parameter {name!r}; both must be of one architecture")
        if ours[name].shape != theirs[name].shape:
            raise UserError(
                f"{what} has shape {tuple(theirs[name].shape)} for {name!r}, "
                f"expected {tuple(ours[name].shape)}"
            )


def _union(first: Iterable[str], second: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
