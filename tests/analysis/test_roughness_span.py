"""Roughness within a span of a stored surface: refused or doubted where the points there don't carry it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from roughness_surfaces import surface_of

from analysis.roughness import roughness
from landscape.errors import UserError

pytestmark = pytest.mark.slow  # among the first files that start

AXIS = np.linspace(-0.5, 0.5, 21)
VALLEY = 1 + 30 * np.add.outer(AXIS**2, 0.5 * AXIS**2)


def computed_with(inside: int, span: float = 0.25) -> np.ndarray:
    """Everything beyond the span, and so many points within."""
    near = np.abs(AXIS) <= span + 1e-9
    computed = ~np.outer(near, near)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(~computed))[:inside]
    computed.flat[chosen] = True
    return computed


@pytest.mark.parametrize("inside", [0, 1, 7])
def test_too_few_evaluated_points_are_refused(inside: int) -> None:
    surface = surface_of(VALLEY, alpha=AXIS, beta=AXIS, computed=computed_with(inside))
    message = f"within span 0.25 only {inside} of 121 points were evaluated"
    with pytest.raises(UserError, match=re.escape(message)):
        roughness(surface, span=0.25)
    assert roughness(surface, span=0.5).ra.value > 0
    assert roughness(surface).ra.value > 0


def test_enough_points_and_small_whole_squares_are_measured() -> None:
    surface = surface_of(VALLEY, alpha=AXIS, beta=AXIS, computed=computed_with(60))
    assert roughness(surface, span=0.25).ra.value > 0
    whole = surface_of(VALLEY, alpha=AXIS, beta=AXIS)
    assert roughness(whole, span=0.05).resolution == (3, 3)  # nine points, all evaluated


def test_a_large_interpolation_error_is_told() -> None:
    rough = np.random.default_rng(1).uniform(1, 2, VALLEY.shape)
    surface = surface_of(rough, alpha=AXIS, beta=AXIS, computed=computed_with(20))
    assert roughness(surface, span=0.25).unsure
    assert not roughness(surface_of(VALLEY, alpha=AXIS, beta=AXIS), span=0.25).unsure
