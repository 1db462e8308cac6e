"""Plasma fractals by the diamond-square algorithm (Fournier, Fussell and Carpenter, CACM 1982)."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from analysis.robustness.cifar.imaging import Pixels

_FIRST = 100.0  # roughness of the first step


def plasma(size: int, decay: float, draw: RandomState) -> Pixels:
    """A square of heights from 0 to 1 whose edges fit together.

    From a coarse grid to the finest, the middle of each square, then of each edge, is the mean of the four
    points around it and a uniform number of at most the step's roughness squared, which each step divides by
    `decay` squared.

    Parameters
    ----------
    size
        A power of two.
    """
    heights = np.zeros((size, size))
    step, rough = size, _FIRST
    while step >= 2:
        half = step // 2

        def drawn(around: Pixels, rough: float = rough) -> Pixels:
            found: Pixels = around / 4 + rough * draw.uniform(-rough, rough, around.shape)
            return found

        corners = heights[::step, ::step]
        rows = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = drawn(rows + np.roll(rows, -1, 1))
        middles = heights[half::step, half::step]
        above_and_below = middles + np.roll(middles, 1, 0)
        heights[::step, half::step] = drawn(above_and_below + corners + np.roll(corners, -1, 1))
        beside = middles + np.roll(middles, 1, 1)
        heights[half::step, ::step] = drawn(beside + corners + np.roll(corners, -1, 0))
        step, rough = half, rough / decay
    heights -= heights.min()
    found: Pixels = heights / heights.max()
    return found
