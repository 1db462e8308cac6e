"""Sq: root mean square height of a surface."""

from __future__ import annotations

from math import sqrt

from analysis.roughness.heights import Heights


def sq(heights: Heights) -> float:
    """``Sq² = (1/|A|) ∬ (L - reference)² dα dβ`` (ISO 25178-2), in the units of the loss.

    At least Ra. An error in the loss moves it by at most that error's root mean square (triangle inequality;
    taking the reference away is a projection).
    """
    return heights.scale * sqrt(heights.moments[2])
