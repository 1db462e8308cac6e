"""Examples that stay on the device, as one tensor per part, and are cut into batches without copying.

On a GPU pixels stay bytes, a quarter of the memory, and are normalized batch by batch, bit by bit as at once;
what takes more than half of its free memory stays with the host and is moved batch by batch. Pictures that
are too many for the host stay in their files: see `landscape.examples.pictures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from landscape.checks.description import describe_data, summary
from landscape.devices import free_bytes
from landscape.errors import UserError
from landscape.examples.pictures import CHUNK, MadeBatches, PictureBatches, Pictures
from landscape.examples.structure import map_tensors
from landscape.provenance import digest

_MOST = 0.5  # of a GPU's free memory, for examples
_CHUNK = 1024  # images normalized at a time, so that no second float copy of all of them is needed


class Place(NamedTuple):
    """Where batches are made, and as what."""

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format


@dataclass(frozen=True)
class Examples:
    """Examples in a fixed order; use one of the constructors below.

    Either tensors of equal length, which may be cut into batches of any size, or batches that are used
    exactly as they were given. Where there are `pictures`, they stand before the tensors. Where there is a
    `place`, batches are made of both when they are asked for.
    """

    tensors: tuple[Tensor, ...] = ()
    given: tuple[Any, ...] = ()
    normalization: tuple[Tensor, Tensor] | None = None
    pictures: Pictures | None = None
    place: Place | None = None

    @classmethod
    def from_tensors(cls, *tensors: Tensor) -> Examples:
        """From tensors ``[N, …]`` of equal N, for example inputs and targets; a batch is a tuple of slices.

        Raises
        ------
        UserError
            When the lengths differ or are zero.

        >>> [len(inputs) for inputs, _ in Examples.from_tensors(torch.ones(5, 2), torch.ones(5)).batches(2)]
        [1, 2, 2]
        """
        lengths = [len(one) if one.dim() else 0 for one in tensors]
        if not lengths or len(set(lengths)) > 1:
            raise UserError(f"the tensors have lengths {lengths}; expected one common number of examples")
        if not lengths[0]:
            raise UserError("no examples: the tensors are empty; at least one is needed")
        return cls(tensors=tensors)

    @classmethod
    def from_images(
        cls, images: Tensor, targets: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> Examples:
        """From images ``[N, C, …]`` and targets ``[N]``.

        uint8 pixels become ``(pixel / 255 - mean) / std``, with `mean` and `std` per channel, once, on the
        device. Without them the images are taken as they are.

        Raises
        ------
        UserError
            As `from_tensors`, and when the numbers of channels differ.
        """
        plain = cls.from_tensors(images, targets)
        if mean is None or std is None:
            return plain
        if not len(mean) == len(std) == images.shape[1]:
            raise UserError(
                f"images with {images.shape[1]} channels, normalization for {len(mean)} and {len(std)}; "
                "expected a mean and a standard deviation per channel"
            )
        shape = (1, -1, *[1] * (images.dim() - 2))
        numbers = (
            torch.tensor(tuple(one), dtype=torch.float64, device="cpu").reshape(shape) for one in (mean, std)
        )
        return replace(plain, normalization=(next(numbers), next(numbers)))

    @classmethod
    def from_pictures(
        cls, pictures: Pictures, targets: Tensor, mean: Sequence[float], std: Sequence[float]
    ) -> Examples:
        """From pictures in files and targets ``[N]``; everything comes out as by `from_images`, bit by bit.

        Raises
        ------
        UserError
            As `from_images`.
        """
        if len(pictures) != len(targets):
            raise UserError(f"{len(pictures)} pictures, {len(targets)} targets; expected as many")
        like = cls.from_images(torch.empty((len(targets), 3, 0, 0), dtype=torch.uint8), targets, mean, std)
        return replace(like, tensors=like.tensors[1:], pictures=pictures)

    @classmethod
    def from_batches(cls, batches: Iterable[Any]) -> Examples:
        """From batches of any structure (tuples, dicts, … of tensors), used as they are.

        Raises
        ------
        UserError
            When there are none.
        """
        given = tuple(batches)
        if not given:
            raise UserError("no examples: the batches are empty; at least one is needed")
        return cls(given=given)

    @property
    def rebatchable(self) -> bool:
        """Whether the engine may choose the batch size."""
        return not self.given

    @property
    def streamed(self) -> bool:
        """Whether batches are made anew each time that they are asked for."""
        return self.pictures is not None or self.place is not None

    @property
    def host_keeps(self) -> bool:
        """Whether the tensors that batches on a GPU are made of lie with the host."""
        return self.place is not None and any(not one.is_cuda for one in self.tensors)

    def batches(self, size: int) -> Sequence[Any]:
        """All examples in order: the given batches, or near-equal ones of at most `size`.

        Near-equal, because a short last batch would leave one of several threads waiting.
        """
        if self.given:
            return list(self.given)
        total = len(self.tensors[0])
        parts = math.ceil(total / size)
        return self.cut([total * part // parts for part in range(parts + 1)])

    def cut(self, edges: Sequence[int]) -> Sequence[Any]:
        """Batches of examples from each number to the next; not of given batches."""
        if self.pictures is not None:
            return PictureBatches(self, edges)
        if self.place is not None:
            return MadeBatches(self, edges)
        return [tuple(one[start:stop] for one in self.tensors) for start, stop in pairwise(edges)]

    def batch(self, start: int, stop: int, pixels: Tensor | None = None) -> tuple[Tensor, ...]:
        """A batch, made of bytes and what the host keeps; `pixels` of pictures that are decoded already."""
        place = self.place or Place()
        parts = [one[start:stop] for one in self.tensors]
        if self.pictures is not None:
            parts.insert(0, self.pictures.pick(slice(start, stop)).decoded() if pixels is None else pixels)
        if self.normalization is None:
            return tuple(_moved(one, place) for one in parts)
        images = self._normalized(parts[0], torch.device(place.device), place.dtype, place.layout)
        return images, *(_moved(one, place) for one in parts[1:])

    def head(self, count: int) -> Examples:
        """The first `count` examples, or the first given batch."""
        return replace(self, given=self.given[:1]) if self.given else self.pick(slice(count))

    def pick(self, index: slice | Tensor) -> Examples:
        """Some examples, in the order of `index`; not of given batches."""
        tensors = tuple(
            one[index if isinstance(index, slice) else index.to(one.device)] for one in self.tensors
        )
        pictures = None if self.pictures is None else self.pictures.pick(index)
        return replace(self, tensors=tensors, pictures=pictures)

    def apart(self) -> Examples:
        """The same in memory of its own, for a network that writes into its input."""
        given = tuple(map_tensors(one, torch.clone) for one in self.given)
        return replace(self, given=given, tensors=tuple(one.clone() for one in self.tensors))

    def to(self, device: torch.device | str, dtype: torch.dtype, *, channels_last: bool = False) -> Examples:
        """On `device`: floating-point tensors in `dtype`, images normalized, optionally NHWC in memory."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        place = Place(device, dtype, layout)
        move = partial(_moved, place=place)
        if self.given:
            return replace(self, given=tuple(map_tensors(one, move) for one in self.given))
        if self.pictures is not None:
            return replace(self, tensors=tuple(move(one) for one in self.tensors), place=place)
        if torch.device(device).type == "cuda":
            fits = sum(_bytes_there(one, dtype) for one in self.tensors) <= _MOST * free_bytes(device)
            if not fits or (self.normalization is not None and self.tensors[0].dtype == torch.uint8):
                return self._to_be_made(place, fits)
        if self.normalization is None:
            return replace(self, tensors=tuple(move(one) for one in self.tensors))
        images = self._normalized(self.tensors[0], torch.device(device), dtype, layout)
        return Examples(tensors=(images, *(move(one) for one in self.tensors[1:])))

    def _to_be_made(self, place: Place, fits: bool) -> Examples:
        """Bytes on the GPU if they fit, else everything with the host, of which batches there are made."""
        numbers = self.normalization
        if numbers is not None:  # there already: a copy in the middle of a captured point would be none
            exact = torch.float64 if place.dtype == torch.float64 else torch.float32
            numbers = numbers[0].to(place.device, exact), numbers[1].to(place.device, exact)
        if fits:
            images, *rest = self.tensors
            tensors = (images.to(place.device), *(_moved(one, place) for one in rest))
        else:
            tensors = tuple(one.detach().cpu() for one in self.tensors)
        return replace(self, tensors=tensors, normalization=numbers, place=place)

    def _normalized(
        self, images: Tensor, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
    ) -> Tensor:
        assert self.normalization is not None
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        mean, std = (one.to(device, exact) for one in self.normalization)
        layout = layout if images.dim() == 4 else torch.contiguous_format
        result = torch.empty(images.shape, dtype=dtype, device=device, memory_format=layout)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK].to(device)
            pixels = part.to(exact) / 255 if part.dtype == torch.uint8 else part.to(exact)
            result[start : start + _CHUNK] = (pixels - mean) / std
        return result

    def digest(self) -> str:
        """Short SHA-256 over every tensor's type, shape and bytes, normalization, and all else in batches."""
        if any(not _is_plain(one) for one in self.given):
            return summary(describe_data(self.given))
        if self.pictures is not None:
            edges = [
                (start, min(start + CHUNK, len(self.pictures)))
                for start in range(0, len(self.pictures), CHUNK)
            ]
            rest = {
                str(number): one for number, one in enumerate((*self.tensors, *(self.normalization or ())), 1)
            }
            return digest(rest, first=("0", self.pictures.shape, self.pictures.in_turn(edges)))
        leaves = [leaf for one in self.given for leaf in (one if not isinstance(one, Tensor) else (one,))]
        leaves = leaves or list(self.tensors) + list(self.normalization or ())
        return digest({str(number): leaf for number, leaf in enumerate(leaves)})


def _moved(value: Tensor, place: Place) -> Tensor:
    """A tensor at its place: floating-point ones in its type, images in its layout."""
    value = value.clone() if value.is_inference() else value.detach()  # else no gradients
    value = value.to(place.device, place.dtype if value.is_floating_point() else None)
    if value.layout != torch.strided:  # an adjacency matrix, say
        return value
    return value.contiguous(memory_format=place.layout if value.dim() == 4 else torch.contiguous_format)


def _bytes_there(value: Tensor, dtype: torch.dtype) -> int:
    """Of a tensor on the device."""
    return value.numel() * (dtype.itemsize if value.is_floating_point() else value.element_size())


def _is_plain(batch: Any) -> bool:
    """Whether a batch is a tensor, or a tuple or list of tensors."""
    if type(batch) not in (tuple, list):
        return isinstance(batch, Tensor)
    return all(isinstance(one, Tensor) for one in batch)
