"""Sz: maximum height of a surface."""

from __future__ import annotations

from analysis.roughness.heights import Heights


def sz(heights: Heights) -> float:
    """``Sz = max(L - reference) - min(L - reference)`` over the grid (ISO 25178-2), in units of the loss.

    A loss error of at most e moves it by at most 2e, and by 8e above the plane, whose own range can move
    by 3e along each axis.
    """
    return heights.scale * float(heights.z.max() - heights.z.min())
