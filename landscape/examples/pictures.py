"""Pictures in files that stand for a tensor of images: decoded when a part is wanted, never all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from landscape.images.prepare import BrokenPictureError, Preparation, decode

CHUNK = 64  # pictures decoded at a time where all are looked at
_MOST_THREADS = 16


@dataclass(frozen=True)
class Pictures:
    """uint8 ``[N, 3, H, W]`` in files.

    What they are is theirs alone: the same part is the same bits each time, as long as the files stay.
    """

    files: tuple[Path, ...]
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of the tensor that they stand for."""
        return (len(self.files), 3, *self.preparation.size)

    def pick(self, index: slice | Tensor) -> Pictures:
        """Some of them."""
        chosen = (
            self.files[index] if isinstance(index, slice) else [self.files[one] for one in index.tolist()]
        )
        return replace(self, files=tuple(chosen))

    def one(self, number: int) -> Tensor:
        """A picture, uint8 ``[3, H, W]``; BrokenPictureError when it can't be decoded."""
        try:
            pixels = decode(self.files[number], self.preparation)
        except BrokenPictureError as error:
            raise BrokenPictureError(
                f"{error}; --skip-broken leaves such pictures out and counts them"
            ) from error
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def decoded(self) -> Tensor:
        """All of them, uint8 ``[N, 3, H, W]``.

        Raises
        ------
        BrokenPictureError
            For the first one that can't be decoded.
        """
        if not self.files:
            return torch.empty(self.shape, dtype=torch.uint8)
        return torch.stack([self.one(number) for number in range(len(self))])

    def in_turn(self, edges: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        """Parts from one number to another, the next one decoded by threads while one is worked on.

        Decoders let other threads run, and hold no more than two parts.
        """
        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "decode")
        try:
            ahead: list[list[Future[Tensor]]] = []
            for start, stop in edges:
                ahead.append([pool.submit(self.one, number) for number in range(start, stop)])
                if len(ahead) == 2:
                    yield torch.stack([one.result() for one in ahead.pop(0)])
            for part in ahead:
                yield torch.stack([one.result() for one in part])
        finally:
            pool.shutdown(cancel_futures=True)


class _Makes(Protocol):
    """What makes batches: normalized, with targets."""

    @property
    def pictures(self) -> Pictures | None: ...

    def batch(self, start: int, stop: int, pixels: Tensor | None = None) -> Any: ...


class MadeBatches(Sequence[Any]):
    """Batches that are each made when they are asked for: the same bits again and again."""

    def __init__(self, source: _Makes, edges: Sequence[int]) -> None:
        self.source, self.spans = source, list(pairwise(edges))

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.source.batch(*self.spans[index])


class PictureBatches(MadeBatches):
    """Those of pictures in files, decoded beside the work on the one before."""

    def __iter__(self) -> Iterator[Any]:
        assert self.source.pictures is not None
        for span, pixels in zip(self.spans, self.source.pictures.in_turn(self.spans), strict=True):
            yield self.source.batch(*span, pixels)
