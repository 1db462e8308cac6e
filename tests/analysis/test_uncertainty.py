"""Intervals: they cover what they say, and never leave what is possible."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis.roughness.heights import heights
from analysis.statistics.uncertainty import Estimate, estimate, positive_interval, wilson

NO_BLOCKS = np.zeros(0, np.int64)


def of_planes(values: list[float] | np.ndarray, *, signed: bool = False, error: float = 0.0) -> Estimate:
    numbers = np.asarray(values, dtype=np.float64)
    return estimate(numbers, np.zeros((len(numbers), 0)), NO_BLOCKS, signed=signed, error=error)


@pytest.mark.parametrize("spread", [0.35, 0.5, 0.8])
@pytest.mark.parametrize("planes", [3, 10])
def test_positive_numbers_are_covered_in_95_of_100_cases(spread: float, planes: int) -> None:
    """Ra over planes is about log-normal; its typical value is the geometric mean."""
    drawn = np.exp(np.random.default_rng(0).normal(0.0, spread, (1500, planes)))
    found = [of_planes(row) for row in drawn]
    covered = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.02)
    assert min(one.low for one in found) > 0


def test_signed_numbers_keep_the_plain_interval() -> None:
    found = of_planes([1.0, 2.0, 4.0], signed=True)
    assert found.value == pytest.approx(7 / 3)
    assert found.high - found.value == pytest.approx(found.value - found.low)
    assert found.low < 0


def test_zero_on_one_plane_has_no_logarithm() -> None:
    found = of_planes([0.0, 1.0, 2.0])
    assert (found.value, found.low) == (1.0, 0.0)
    flat = of_planes([0.0, 0.0])
    assert (flat.value, flat.low, flat.high) == (0.0, 0.0, 0.0)


def test_an_interpolation_error_is_a_factor_that_reaches_as_far_up_as_it_says() -> None:
    found = of_planes([2.0, 2.0], error=1.0)
    assert (found.low, found.high) == pytest.approx((4 / 3, 3.0))
    assert of_planes([2.0, 2.0], error=100.0).low > 0


@pytest.mark.parametrize(("hits", "count"), [(300, 300), (0, 300), (299, 300), (1, 1), (37, 50)])
def test_wilson_is_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_all_right_and_of_nothing() -> None:
    low, high = wilson(1.0, 300)
    assert (round(low, 3), high) == (0.987, 1.0)
    assert np.isnan(wilson(0.5, 0)).all()


def test_a_small_loss_has_a_positive_interval() -> None:
    low, high = positive_interval(0.01, 0.02)
    assert 0 < low < 0.01 < high
    assert low * high == pytest.approx(1e-4)


@pytest.mark.parametrize("uneven", [False, True])
def test_the_reference_plane_is_that_of_the_triangles(uneven: bool) -> None:
    """Least squares over the surface as it is integrated: by a fine quadrature of every triangle."""
    generator = np.random.default_rng(1)
    alpha = np.sort(generator.uniform(-1, 1, 6)) if uneven else np.linspace(-1, 1, 6)
    beta = np.sort(generator.uniform(-2, 1, 5)) if uneven else np.linspace(-1, 2, 5)
    z = generator.normal(size=(6, 5))
    shown = heights(alpha, beta, z, "plane")
    places, values, weights = [], [], []
    for i in range(5):
        for j in range(4):
            ring = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            centre = np.array([(alpha[i] + alpha[i + 1]) / 2, (beta[j] + beta[j + 1]) / 2])
            top = np.mean([z[one] for one in ring])
            for first, second in zip(ring, ring[1:] + ring[:1], strict=True):
                corners = np.array(
                    [[alpha[first[0]], beta[first[1]]], [alpha[second[0]], beta[second[1]]], centre]
                )
                tops = np.array([z[first], z[second], top])
                area = (alpha[i + 1] - alpha[i]) * (beta[j + 1] - beta[j]) / 4
                # Mid-points of the sides: exact for products of two linear functions.
                for share in ([0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]):
                    places.append(np.array(share) @ corners)
                    values.append(np.array(share) @ tops)
                    weights.append(area / 3)
    design = np.column_stack([np.ones(len(places)), places])
    root = np.sqrt(weights)
    plane = np.linalg.lstsq(design * root[:, None], np.array(values) * root, rcond=None)[0]
    expected = z - (plane[0] + plane[1] * alpha[:, None] + plane[2] * beta)
    np.testing.assert_allclose(shown.z * shown.scale, expected, atol=1e-12)


@pytest.mark.parametrize("signed", [True, False])
def test_blocks_without_examples_say_nothing(signed: bool) -> None:
    """Batches in which every label is padding, where a loss gives sums."""
    values, left_out, counts = np.array([2.0]), np.array([[2.1, 1.8, 2.3]]), np.array([5, 4, 6])
    known = estimate(values, left_out, counts, signed=signed)
    empty = estimate(values, np.insert(left_out, 1, 2.0, axis=1), np.insert(counts, 1, 0), signed=signed)
    assert (empty.low, empty.high, empty.stderr_examples) == (known.low, known.high, known.stderr_examples)
    assert known.stderr_examples > 0
