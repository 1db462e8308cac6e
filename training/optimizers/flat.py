"""Tensors in one vector, and the length of many tensors together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-12  # added to a length before dividing by it
_ALIGN = 16  # elements; parts that start aligned are read in wide words


class Flat:
    """Zeros laid out like `like`, in one vector per device and type: a few operations reach them all.

    Parameters
    ----------
    like
        Tensors whose shapes, strides, devices and types the parts get.

    Attributes
    ----------
    vectors
        One tensor of one dimension for each device and type.
    parts
        Views into them, in the order of `like`.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        self.like = list(like)
        self.vectors: list[Tensor] = []
        parts: dict[int, Tensor] = {}
        for (device, dtype), members in grouped(like).items():
            room = [-(-tensor.numel() // _ALIGN) * _ALIGN for _, tensor in members]
            vector = torch.zeros(sum(room), device=device, dtype=dtype)
            start = 0
            for (index, tensor), size in zip(members, room, strict=True):
                # A tensor that doesn't fill its memory gets the dense strides that torch would choose.
                strides = torch.empty_like(tensor, device="meta").stride()
                parts[index] = vector.as_strided(tensor.shape, strides, start)
                start += size
            self.vectors.append(vector)
        self.parts = [parts[index] for index in range(len(parts))]

    def allocate(self) -> None:
        """Take memory again after `release`; the values are arbitrary."""
        for vector in self.vectors:
            vector.untyped_storage().resize_(vector.numel() * vector.element_size())

    def release(self) -> None:
        """Give the memory back; `parts` stay valid for when it is allocated again."""
        for vector in self.vectors:
            vector.untyped_storage().resize_(0)

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the tensors that it was laid out for, still of that type and on that device."""
        return same(self.like, tensors) and all(
            one.dtype == part.dtype and one.device == part.device
            for one, part in zip(tensors, self.parts, strict=True)
        )


def same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether both hold the same objects in the same order."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def strided(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sparse ones as dense ones, duplicates of an index summed; the others themselves."""
    return [one if one.layout == torch.strided else one.to_dense() for one in tensors]


def real(tensor: Tensor) -> Tensor:
    """A complex tensor as a view of its real and imaginary parts, in a last dimension; others themselves."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def grouped(
    tensors: Sequence[Tensor],
) -> dict[tuple[torch.device, torch.dtype], list[tuple[int, Tensor]]]:
    """Tensors with their indices, by device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[int, Tensor]]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.dtype), []).append((index, tensor))
    return groups


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean length of all tensors as one vector, a real scalar on the first one's device; never waits."""
    norms: list[Tensor] = []
    for (_, dtype), members in grouped([real(tensor) for tensor in tensors]).items():
        wide = torch.promote_types(dtype, torch.float32)  # float16 would overflow at 65,504
        norms += torch._foreach_norm([tensor for _, tensor in members], 2, dtype=wide)
    if len(norms) == 1:
        return norms[0]
    device = norms[0].device
    together: Tensor = torch.linalg.vector_norm(
        torch.stack([norm.to(device, norms[0].dtype) for norm in norms])
    )
    return together


def divide_(tensors: Sequence[Tensor], length: Tensor) -> None:
    """Divide in place by the scalar `length`; all become 0 where it is NaN or infinite.

    The quotient of a finite number and infinity is 0, every other one of these is NaN: replacing NaN is all
    that it takes, and nobody has to look at the length, for which a GPU would have to be waited.
    """
    length, parts = length + EPSILON, [real(tensor) for tensor in tensors]
    for (device, _), members in grouped(parts).items():
        torch._foreach_div_([tensor for _, tensor in members], length.to(device))
    for part in parts:
        part.nan_to_num_(0.0, 0.0, 0.0)


def normalize_(tensors: Sequence[Tensor]) -> None:
    """Scale in place to joint length 1; zeros stay, and a length that isn't finite gives zeros."""
    divide_(tensors, joint_norm(tensors))


def normalize(vectors: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """The same into `out`, tensors like `vectors`."""
    length = joint_norm(vectors) + EPSILON
    for vector, place in zip(vectors, out, strict=True):
        torch.div(real(vector), length.to(vector.device), out=real(place)).nan_to_num_(0.0, 0.0, 0.0)
