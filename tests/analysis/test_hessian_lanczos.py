"""Eigenpairs against numpy's, and what is said about those that weren't reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hessian_cases import Dense, network_like, with_spectrum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.hessian.krylov import Krylov, random_unit
from analysis.hessian.lanczos import Lanczos, Wanted, eigenpairs
from analysis.hessian.operator import HessianOperator
from landscape.errors import UserError
from landscape.losses import regression


def check(values: Any, top: int, bottom: int, **options: Any) -> Dense:
    """Both ends to 1e-8 of the largest, with vectors and residuals that are what they claim to be."""
    operator = Dense(with_spectrum(values))
    exact = np.linalg.eigvalsh(operator.matrix.numpy())
    scale = max(np.abs(exact).max(), 1e-300)
    for pairs, expected in zip(
        eigenpairs(operator, top, bottom, tolerance=1e-9, **options),
        (exact[::-1][:top], exact[:bottom]),
        strict=True,
    ):
        np.testing.assert_allclose(pairs.values, expected, atol=1e-8 * scale, rtol=1e-8)
        assert pairs.converged.all()
        assert (pairs.residuals <= 1e-9 * scale).all()
        vectors = pairs.vectors.numpy()
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-8)
        true = np.linalg.norm(vectors @ operator.matrix.numpy() - pairs.values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(true, pairs.residuals, atol=1e-12 * scale)
    return operator


@pytest.mark.parametrize(
    ("values", "top", "bottom"),
    [
        (network_like(), 5, 3),
        (network_like(), 5, 0),
        (network_like(), 0, 2),
        (np.arange(40.0), 3, 3),
        (-np.arange(1.0, 41.0), 3, 3),
        ([3.0], 1, 1),
        ([3.0, -2.0], 5, 5),
        (np.zeros(12), 3, 2),
        (np.ones(12), 3, 0),
        ([0.0] * 60 + [1.0, 2.0, 3.0], 6, 2),
        ([5.0, 5.0, 5.0, 4.0] + [1.0] * 50, 4, 1),
        ([-1.0, -1.0] + [0.0] * 30 + [2.0, 2.0], 3, 3),
        (1e-9 * network_like(), 3, 1),
        (1e9 * network_like(), 3, 1),
    ],
)
def test_both_ends(values: Any, top: int, bottom: int) -> None:
    check(values, top, bottom)


@settings(max_examples=15)
@given(st.data())
def test_any_spectrum_with_repeated_values(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-4, 4), min_size=1, max_size=25))
    top, bottom = data.draw(st.sampled_from([(1, 0), (2, 1), (0, 3), (4, 4)]))
    check(values, top, bottom, seed=data.draw(st.integers(0, 3)))


def test_restarts_reach_the_same() -> None:
    operator = Dense(with_spectrum(np.concatenate([np.linspace(0, 1, 395), [1.01, 1.02, 1.04, 1.1, 1.2]])))
    search = Lanczos(operator, Wanted(3, 1, 1e-8, 2000), basis_bytes=0)
    assert search.capacity == 28
    while not search.done:
        search.advance()
        assert search.krylov.size <= search.capacity
    assert search.products > 2 * search.capacity
    top, bottom = search.pairs()
    exact = np.linalg.eigvalsh(operator.matrix.numpy())
    np.testing.assert_allclose(top.values, exact[::-1][:3], rtol=1e-10)
    np.testing.assert_allclose(bottom.values, exact[:1], atol=1e-8)
    assert top.converged.all()
    assert bottom.converged.all()
    true = np.linalg.norm(operator.matrix @ top.vectors.T - top.vectors.T * torch.tensor(top.values), axis=0)
    assert (true <= 1.2e-8).all()


def test_no_more_products_than_allowed_and_no_claim_beyond_them() -> None:
    operator = Dense(with_spectrum(network_like()))
    top, _ = eigenpairs(operator, 5, 1, tolerance=1e-6, max_products=10)
    assert operator.products == 10
    exact = np.linalg.eigvalsh(operator.matrix.numpy())
    assert not top.converged.all()
    for value, residual, converged in zip(top.values, top.residuals, top.converged, strict=True):
        assert np.abs(exact - value).min() <= residual * (1 + 1e-9)
        assert converged == (residual <= 1e-6 * np.abs(top.values).max())


def test_fewer_products_than_eigenvalues_gives_fewer() -> None:
    top, bottom = eigenpairs(Dense(with_spectrum(network_like())), 5, 5, max_products=2)
    assert len(top.values) == len(bottom.values) == 2
    assert not top.converged.any()


def test_float32_residuals_say_what_its_rounding_leaves() -> None:
    matrix = with_spectrum(network_like())
    top, _ = eigenpairs(Dense(matrix, torch.float32), 5, 1, tolerance=1e-4)
    vectors = top.vectors.double().numpy()
    true = np.linalg.norm(vectors @ matrix - top.values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(true, top.residuals, atol=2e-6 * 12)
    assert top.converged.all()


def test_a_product_that_is_not_symmetric_shows_in_the_residuals() -> None:
    operator = Dense(with_spectrum(network_like()))
    operator.matrix[0] += 0.5
    top, _ = eigenpairs(operator, 2, 0, tolerance=1e-6, max_products=60)
    assert not top.converged.any()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    found = [
        eigenpairs(Dense(with_spectrum(network_like())), seed=seed)[0].vectors.numpy().tobytes()
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_a_krylov_decomposition_holds_after_anything() -> None:
    operator = Dense(with_spectrum(np.repeat([1.0, 2.0, 3.0, 7.0], 8)))
    avoided = torch.linalg.qr(torch.randn(32, 2, generator=torch.Generator().manual_seed(0)).double())[0].T
    krylov = Krylov(random_unit(operator, 0), deflated=torch.empty(0, 32))
    krylov.deflated = krylov.deflated.double()
    for step in range(20):
        krylov.extend(operator)
        if step == 12:
            krylov.compress(krylov.ritz().vectors[:, [0, 3, 9]])
        assert krylov.next is not None
        left = operator.matrix @ krylov.basis.T
        right = krylov.basis.T @ torch.tensor(krylov.projected)
        right += krylov.next[:, None] * torch.tensor(krylov.coupling)
        torch.testing.assert_close(left, right, atol=1e-10, rtol=0)
        every = torch.cat([krylov.basis, krylov.next[None]])
        torch.testing.assert_close(every @ every.T, torch.eye(len(every)).double(), atol=1e-12, rtol=0)
    assert krylov.exhausted > 1
    start = random_unit(operator, 1)
    start = start - avoided.T @ (avoided @ start)
    beside = Krylov(start / start.norm(), deflated=avoided)
    while beside.next is not None:
        beside.extend(operator)
    assert beside.size == 30
    assert float((beside.basis @ avoided.T).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top": 0, "bottom": 0}, "at least one eigenvalue"),
        ({"top": -1}, "top -1"),
        ({"tolerance": 0.0}, "tolerance must lie between 0 and 1"),
        ({"tolerance": float("nan")}, "tolerance must lie"),
        ({"max_products": 0}, "max_products must be at least 1"),
    ],
)
def test_bad_numbers_say_so(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        eigenpairs(Dense(np.eye(3)), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [2, 5])
def test_repeated_eigenvalues_are_found_as_often_as_they_occur(dtype: torch.dtype, copies: int) -> None:
    outliers = np.repeat([9.0, 7.0, 4.0], copies)
    values = np.concatenate([network_like(), outliers, np.full(copies, -3.0)])
    operator = Dense(with_spectrum(values), dtype)
    for top, bottom in ((copies + 2, copies), (3, 1), (1, 0), (0, 2)):
        above, below = eigenpairs(operator, top, bottom, tolerance=1e-3, max_products=500)
        order = np.sort(values)
        np.testing.assert_allclose(above.values, order[::-1][:top], atol=2e-3)
        np.testing.assert_allclose(below.values, order[:bottom], atol=2e-3)
        assert above.converged.all()
        assert below.converged.all()
        products = (above.vectors @ above.vectors.T).double().numpy()
        np.testing.assert_allclose(products, np.eye(top), atol=1e-4)


def test_regression_with_ten_outputs_has_every_eigenvalue_tenfold() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    model = nn.Linear(6, 10, bias=False)
    operator = HessianOperator(model, (inputs, torch.zeros(40, 10)), loss=regression, dtype="float64")
    found, _ = eigenpairs(operator, 12, 0, tolerance=1e-6)
    single = np.linalg.eigvalsh(2 * (inputs.T @ inputs).numpy() / 40 / 10)[::-1]
    np.testing.assert_allclose(found.values, [*[single[0]] * 10, *[single[1]] * 2], rtol=1e-6)
    assert found.converged.all()
