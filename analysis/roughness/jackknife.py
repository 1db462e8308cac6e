"""Surfaces with one block of examples left out: what the spread over examples is estimated from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landscape.surface import Plane, Split, Surface

FloatArray = npt.NDArray[np.float64]


def block_counts(surface: Surface, split: str) -> npt.NDArray[np.int64]:
    """Shape ``[K]``: examples per block; empty where the blocks weren't kept on every plane."""
    parts = [plane.splits[split] for plane in surface.planes]
    counts = parts[0].block_counts
    same = all(np.array_equal(part.block_counts, counts) for part in parts)
    kept = all(part.metrics["loss"].blocks is not None for part in parts)
    return counts if same and kept and len(counts) > 1 else np.zeros(0, np.int64)


def leave_one_out(surface: Surface, plane: Plane, split: str) -> FloatArray:
    """Loss over all examples but those of block k, shape ``[alpha, beta, K]``.

    Exact at computed points. On a grid with interpolated points each of the K surfaces is interpolated like
    the one with all examples was, so that interpolated points share the examples' noise. Diverged points
    are inf, or whatever the interpolation makes of them: callers look at finite regions only.
    """
    points = _leave_one_out_at_points(plane.splits[split])
    if plane.computed.all():
        return points
    from landscape.sampling.interpolate import interpolate_grid

    transforms = plane.about.get("interpolation", {}).get("transform", {})
    return interpolate_grid(
        surface.alpha,
        surface.beta,
        plane.computed,
        points,
        transform=transforms.get(split, "auto"),
        bounded=True,
    )


def _leave_one_out_at_points(split: Split) -> FloatArray:
    blocks, counts = split.metrics["loss"].blocks, split.block_counts
    assert blocks is not None, "callers ask block_counts() first"
    with np.errstate(invalid="ignore"):  # inf - inf where the network diverged
        weighted = blocks * counts
        result: FloatArray = (weighted.sum(axis=-1, keepdims=True) - weighted) / (counts.sum() - counts)
    return result
