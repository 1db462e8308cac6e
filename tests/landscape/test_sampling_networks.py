"""The sampler on exact surfaces of real networks, which took an hour to compute and lie beside this file.

``exact_surfaces.npz`` has the losses (float64, 51×51, span 1, seed 0, 256 examples of the sample's training
split, filter-normalized and masked directions) of the two shipped ResNet-20 and of a 90 % sparse ResNet-32 of
widths 32-64-128; ``tests/benchmarks/bench_adaptive.py`` computes them.
"""

from pathlib import Path

import numpy as np
import pytest

from landscape.sampling import Index, adaptive
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import FloatArray

SURFACES = np.load(Path(__file__).with_name("exact_surfaces.npz"))
AXIS = np.linspace(-1, 1, 51)


def replay(exact: FloatArray, limit: int, tolerance: float) -> tuple[FloatArray, int, float]:
    """The filled grid, the number of points, and the stated error as a share of the range."""
    sampler = adaptive(AXIS, AXIS, tolerance, limit)
    computed = np.zeros(exact.shape, dtype=bool)

    def losses(indices: list[Index]) -> FloatArray:
        return np.array([exact[index] for index in indices])

    for batch in sampler.batches(losses):  # type: ignore[arg-type]
        for index in batch:
            computed[index] = True
    return interpolate_grid(AXIS, AXIS, computed, exact), int(computed.sum()), sampler.relative_error


def ra(surface: FloatArray) -> float:
    """Mean absolute deviation by the trapezoidal rule."""
    line = np.r_[0.5, np.ones(49), 0.5] / 50
    area = np.outer(line, line)
    return float((area * np.abs(surface - (area * surface).sum())).sum())


@pytest.mark.parametrize("name", SURFACES.files)
def test_two_hundred_points_are_enough(name: str) -> None:
    exact = SURFACES[name]
    filled, count, stated = replay(exact, 200, 1e-9)
    worst = float(np.abs(filled - exact).max() / np.ptp(exact))
    assert count == 200
    assert worst < 0.005
    assert worst <= stated < 0.01
    assert ra(filled) == pytest.approx(ra(exact), rel=0.005)


@pytest.mark.parametrize("name", SURFACES.files)
@pytest.mark.parametrize("limit", [60, 80, 100, 125, 150, 175])
def test_the_stated_error_covers_the_true_one(name: str, limit: int) -> None:
    exact = SURFACES[name]
    filled, _, stated = replay(exact, limit, 1e-9)
    assert float(np.abs(filled - exact).max() / np.ptp(exact)) <= stated
