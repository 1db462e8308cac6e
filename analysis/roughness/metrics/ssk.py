"""Ssk: skewness of a surface's heights."""

from __future__ import annotations

from math import nan

from analysis.roughness.heights import Heights


def ssk(heights: Heights) -> float:
    """``Ssk = (1/|A|) ∬ (L - reference)³ dα dβ / Sq³`` (ISO 25178-2); NaN for a flat surface.

    Positive where narrow peaks stand on a plain, negative where narrow pits lie in one.
    """
    variance = heights.moments[2]
    return heights.moments[3] / variance**1.5 if variance else nan
