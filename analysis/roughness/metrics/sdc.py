"""Sdc: root mean square curvature of a surface."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np

from analysis.roughness.heights import FloatArray, Heights, trapezoid_weights


def sdc(heights: Heights) -> float:
    """``Sdc² = (1/|A|) ∬ L_αα² + 2 L_αβ² + L_ββ² dα dβ``, loss per squared unit; NaN below three points.

    The second derivative of Myers 1962 on an area: the Frobenius norm of the plane's Hessian, which doesn't
    change when the plane's axes are turned. Three-point second differences, exact for quadratics. It
    amplifies what is small and fast, the error of an interpolated surface included.
    """
    if len(heights.alpha) < 3 or (len(heights.beta) < 3 and not heights.line):
        return nan
    weights = np.outer(trapezoid_weights(heights.alpha), trapezoid_weights(heights.beta))
    total = float((weights * _second_difference(heights.alpha, heights.z) ** 2).sum())
    if not heights.line:
        total += float((weights * _second_difference(heights.beta, heights.z.T).T ** 2).sum())
        twist = np.diff(np.diff(heights.z, axis=0), axis=1)
        twist = twist / np.outer(np.diff(heights.alpha), np.diff(heights.beta))
        total += 2 * float((twist**2 * heights.cell_shares).sum())
    return heights.scale * sqrt(total)


def _second_difference(points: FloatArray, z: FloatArray) -> FloatArray:
    """Second derivative along the first axis; the outermost points take their neighbour's."""
    gaps = np.diff(points)[:, None]
    inner = 2 * np.diff(np.diff(z, axis=0) / gaps, axis=0) / (gaps[1:] + gaps[:-1])
    return np.pad(inner, ((1, 1), (0, 0)), mode="edge")
