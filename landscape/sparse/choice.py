"""Whether the sparse kernels are worth it, and the reason where they aren't used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from landscape.errors import UserError
from landscape.sparse.fusing import mask_shape
from landscape.sparse.machine import Machine, host, missing
from landscape.sparse.trace import Operation, Traced

Sparse: TypeAlias = Literal["auto", "on", "off"]

NARROW = 16
"""Output channels up to which oneDNN's convolutions are slow for their number of multiplications."""
_MOST = 0.95  # above, there is nothing to gain


@dataclass(frozen=True)
class BreakEven:
    """Density up to which the kernels are as fast as oneDNN, as measured (docs/sparse.md).

    Attributes
    ----------
    wide
        In networks of layers with many channels.
    narrow
        How much dearer a dense multiplication is in layers of up to `NARROW` output channels.
    """

    wide: float
    narrow: float = 1.0


_BY_PROCESSOR = {"znver4": BreakEven(0.65, 2.5), "znver5": BreakEven(0.65, 2.5)}
_BY_VECTOR = {64: BreakEven(0.6), 32: BreakEven(0.73, 1.4)}
_UNKNOWN = BreakEven(0.5)


def check_choice(sparse: str) -> None:
    """Refuse anything but the three words."""
    if sparse not in get_args(Sparse):
        raise UserError(f"sparse {sparse!r}: expected auto, on or off")


def density(traced: Traced, kept: Mapping[str, Tensor]) -> float:
    """Kept share of a network's multiplications."""
    some = every = 0.0
    for one, area, size in _layers(traced):
        mask = kept.get(f"{one.module}.weight" if one.module else "weight")
        every += area * size
        some += area * (size if mask is None else int(mask.sum()))
    return some / every if every else 1.0


def break_even(machine: Machine, traced: Traced) -> float:
    """Density below which the kernels are used for a network; a function of its shapes alone."""
    known = _BY_PROCESSOR.get(machine.cpu) or _BY_VECTOR.get(machine.vector_bytes, _UNKNOWN)
    plain = dear = 0.0
    for one, area, size in _layers(traced):
        plain += area * size
        dear += area * size * (known.narrow if one.form.channels <= NARROW else 1.0)
    return min(_MOST, known.wide * dear / plain) if plain else 0.0


def _layers(traced: Traced) -> Iterator[tuple[Operation, int, int]]:
    """Convolutions and linear layers, with positions and weights."""
    for one in traced.operations:
        if one.kind == "convolution":
            shape = mask_shape(one, traced.operations[one.inputs[0]])
            yield one, one.form.height * one.form.width, shape[0] * shape[1] * shape[2] * shape[3]


def reason_against(kept: Mapping[str, Tensor]) -> str | None:
    """Why there is nothing to gain, told by the mask alone; None where it has to be looked at closely."""
    if not any(not bool(one.all()) for one in kept.values()):
        return "no weight is pruned"
    return missing()


def reason_against_network(traced: Traced, kept: Mapping[str, Tensor], sparse: Sparse) -> str | None:
    """Why a network that can run on the kernels shouldn't; never where they are asked for."""
    share, limit = density(traced, kept), break_even(host(), traced)
    if sparse == "on" or share < limit:
        return None
    return f"{share:.0%} of the multiplications are left, dense ones are faster from {limit:.0%} on"
