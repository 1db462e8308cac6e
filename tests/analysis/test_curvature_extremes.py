"""Both ends of a spectrum: against known spectra, small λmin included, and divergence."""

from __future__ import annotations

import numpy as np
import pytest
from hessian_cases import Dense, network_like, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.curvature.extremes import DIVERGED, FLOOR, extremes
from landscape.errors import UserError


@settings(max_examples=30)
@given(
    st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=12),
    st.integers(0, 5),
)
def test_small_matrices_exactly(values: list[float], seed: int) -> None:
    """Repeated, zero and single eigenvalues among them."""
    found = extremes(Dense(with_spectrum(values, seed)), tolerance=1e-9)
    scale = max(1e-12, float(np.abs(values).max()))
    assert found.converged
    assert found.high == pytest.approx(max(values), abs=1e-8 * scale)
    assert found.low == pytest.approx(min(values), abs=1e-8 * scale)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("low", [-0.2, -1.0, -5.0])
def test_a_small_negative_end_is_as_accurate_as_the_large_one(seed: int, low: float) -> None:
    values = np.append(network_like(300), low)
    operator = Dense(with_spectrum(values, seed))
    found = extremes(operator, tolerance=0.01, seed=seed)
    assert found.converged
    assert found.products == operator.products < 60
    assert found.high == pytest.approx(12.0, rel=0.01)
    assert found.low == pytest.approx(values.min(), rel=0.011, abs=0.01 * FLOOR * 12)


def test_ends_are_not_those_that_the_start_vector_shows_first() -> None:
    """Of two neighbours many start vectors see the inner one first, and no residual tells."""
    values = np.append(np.linspace(-0.3, 0.5, 40), [-0.44, -0.41, 0.9])
    matrix = with_spectrum(list(values), 0)
    found = [extremes(Dense(matrix), tolerance=0.01, seed=seed) for seed in range(60)]
    far = [one.low for one in found if abs(one.low + 0.44) > 0.0045 or abs(one.high - 0.9) > 0.009]
    assert not far
    assert np.mean([one.products for one in found]) < 24


def test_residuals_bound_the_distance_to_an_eigenvalue() -> None:
    matrix = with_spectrum(network_like(300), 1)
    found = extremes(Dense(matrix), tolerance=0.2)
    exact = np.linalg.eigvalsh(matrix)
    for value, residual in ((found.high, found.residual_high), (found.low, found.residual_low)):
        assert np.abs(exact - value).min() <= residual + 1e-12


def test_what_has_no_time_to_converge_says_so() -> None:
    found = extremes(Dense(with_spectrum(network_like(300))), tolerance=1e-6, max_products=5)
    assert (found.products, found.converged) == (5, False)


def test_definite_and_zero_matrices() -> None:
    definite = extremes(Dense(with_spectrum([1.0, 2.0, 3.0])))
    assert (definite.low, definite.high) == (pytest.approx(1.0), pytest.approx(3.0))
    zero = extremes(Dense(np.zeros((4, 4))))
    assert (zero.low, zero.high, zero.converged) == (0.0, 0.0, True)


def test_a_product_that_is_not_finite_is_divergence() -> None:
    matrix = with_spectrum(network_like(50))
    for bad in (np.inf, np.nan):
        broken = matrix.copy()
        broken[3, 3] = bad
        assert extremes(Dense(broken)) is DIVERGED


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"max_products": 0}])
def test_numbers_without_sense(options: dict[str, float]) -> None:
    with pytest.raises(UserError):
        extremes(Dense(np.eye(3)), **options)  # type: ignore[arg-type]
