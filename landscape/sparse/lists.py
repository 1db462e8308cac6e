"""Lists of kept weights: which input each one reads, channel by channel, from the mask alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landscape.sparse.layout import Border, Form, Place

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input; pairs are (rows, columns).

    Attributes
    ----------
    before
        Padding above and to the left.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def border(self, form: Form, out: Form) -> Border:
        """Zeros that the input needs around it."""
        ends = [
            (size - 1) * step + (reach - 1) * apart - pad
            for size, step, reach, apart, pad in zip(
                (out.height, out.width), self.stride, self.kernel, self.dilation, self.before, strict=True
            )
        ]
        bottom, right = (
            max(0, end - (size - 1)) for end, size in zip(ends, (form.height, form.width), strict=True)
        )
        return Border(self.before[0], self.before[1], bottom, right)


@dataclass(frozen=True)
class KeptList:
    """Kept weights in the order in which a kernel walks them.

    Attributes
    ----------
    starts
        int32 ``[channels + 1]``: where each output channel's list begins.
    offsets
        int32 ``[kept]``: bytes from a position to what the weight reads there.
    order
        int64 ``[kept]``: the weight's place in the tensor ``[out, in, row, column]``, row-major.
    """

    starts: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    order: Ints

    def __len__(self) -> int:
        return len(self.order)


def forward_list(mask: Bools, geometry: Geometry, source: Place, turning: bool = False) -> KeptList:
    """For the convolution itself: channels are output channels.

    Where it is `turning`, every second channel's list is walked backwards through memory: what the one before
    read last is still in the first-level cache.

    Parameters
    ----------
    mask
        ``[out, in / groups, rows, columns]``, True = kept.
    source
        The input.
    """
    out, within, y, x = np.nonzero(mask)
    channel = _input_channel(mask, geometry, out, within)
    (dy, dx) = geometry.dilation
    offsets = channel * source.channel + y * dy * source.row + x * dx * source.column
    order = np.flatnonzero(mask)
    keys = np.where(out % 2 == 1, -offsets, offsets) if turning else offsets
    return _sorted(mask.shape[0], out, offsets, order, keys)


def backward_list(mask: Bools, geometry: Geometry, parity: tuple[int, int], source: Place) -> KeptList:
    """For the gradient by the input, at the positions ``parity + stride · j``; channels are input channels.

    `source` is the gradient by the output; j moves by one position there.
    """
    out, within, y, x = np.nonzero(mask)
    channel = _input_channel(mask, geometry, out, within)
    rows = parity[0] + geometry.before[0] - y * geometry.dilation[0]
    columns = parity[1] + geometry.before[1] - x * geometry.dilation[1]
    reads = (rows % geometry.stride[0] == 0) & (columns % geometry.stride[1] == 0)
    order = np.flatnonzero(mask)[reads]
    rows, columns = rows[reads] // geometry.stride[0], columns[reads] // geometry.stride[1]
    offsets = out[reads] * source.channel + rows * source.row + columns * source.column
    return _sorted(mask.shape[1] * geometry.groups, channel[reads], offsets, order, offsets)


def backward_border(geometry: Geometry, form: Form, out: Form) -> Border:
    """Zeros that the gradient by the output needs around it."""
    sides = []
    for axis, (size, size_out) in enumerate(((form.height, out.height), (form.width, out.width))):
        step, pad, apart = geometry.stride[axis], geometry.before[axis], geometry.dilation[axis]
        before = after = 0
        for parity in range(min(step, size)):
            last = (size - 1 - parity) // step
            for place in range(geometry.kernel[axis]):
                offset, rest = divmod(parity + pad - place * apart, step)
                if not rest:
                    before, after = max(before, -offset), max(after, offset + last - (size_out - 1))
        sides.append((before, after))
    (top, bottom), (left, right) = sides
    return Border(top, left, bottom, right)


def _input_channel(mask: Bools, geometry: Geometry, out: Ints, within: Ints) -> Ints:
    """Absolute input channel of each kept weight."""
    per_group = max(1, mask.shape[0] // geometry.groups)
    channel: Ints = out // per_group * mask.shape[1] + within
    return channel


def _sorted(channels: int, channel: Ints, offsets: Ints, order: Ints, keys: Ints) -> KeptList:
    """By channel, then by key."""
    by = np.lexsort((keys, channel))
    starts = np.searchsorted(channel[by], np.arange(channels + 1))
    return KeptList(starts.astype(np.int32), offsets[by].astype(np.int32), order[by].astype(np.int64))
