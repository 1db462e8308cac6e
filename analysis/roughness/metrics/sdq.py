"""Sdq: root mean square slope of a surface."""

from __future__ import annotations

from math import sqrt

import numpy as np

from analysis.roughness.heights import FloatArray, Heights


def sdq(heights: Heights) -> float:
    """``Sdq² = (1/|A|) ∬ (∂L/∂α)² + (∂L/∂β)² dα dβ`` (ISO 25178-2; Myers 1962), loss per unit of α or β.

    Exact for the surface that is bilinear within each grid cell; the true one's follows to O(spacing²).
    """
    along = np.diff(heights.z, axis=0) / np.diff(heights.alpha)[:, None]
    across = np.diff(heights.z, axis=1) / np.diff(heights.beta)
    squares = _mean_square(along[:, :-1], along[:, 1:]) + _mean_square(across[:-1], across[1:])
    return heights.scale * sqrt(float((squares * heights.cell_shares).sum()))


def _mean_square(first: FloatArray, second: FloatArray) -> FloatArray:
    """Mean square of a slope that goes linearly from `first` at one cell edge to `second` at the other."""
    squares: FloatArray = (first**2 + first * second + second**2) / 3
    return squares
