"""Sku: kurtosis of a surface's heights."""

from __future__ import annotations

from math import nan

from analysis.roughness.heights import Heights


def sku(heights: Heights) -> float:
    """``Sku = (1/|A|) ∬ (L - reference)⁴ dα dβ / Sq⁴`` (ISO 25178-2); NaN for a flat surface.

    3 for normally distributed heights, 1.8 for a tilted line, larger where a few points stick out.
    """
    variance = heights.moments[2]
    return heights.moments[4] / variance**2 if variance else nan
