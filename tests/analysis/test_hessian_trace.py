"""Trace, Frobenius norm and density: unbiased, within their stated errors, exact where nothing is sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hessian_cases import Dense, network_like, with_spectrum

from analysis.hessian.density import SpectralDensity, spectral_density
from analysis.hessian.krylov import Krylov, random_unit
from analysis.hessian.lanczos import Wanted
from analysis.hessian.spectrum_run import Plan, SpectrumRun
from analysis.hessian.trace import Samples, hutchpp, mean_estimate, probes_needed, sample
from landscape.errors import UserError

VALUES = network_like()
MATRIX = with_spectrum(VALUES)


@pytest.mark.parametrize(("basis", "least"), [(0, 90), (10, 95), (20, 95)])
def test_the_stated_error_covers_in_95_of_100_seeds(basis: int, least: int) -> None:
    found = [hutchpp(Dense(MATRIX), basis=basis, probes=10, seed=seed) for seed in range(100)]
    for number, true in enumerate((VALUES.sum(), np.linalg.norm(VALUES))):
        estimates = [one[number] for one in found]
        covered = sum(abs(one.value - true) <= one.error for one in estimates)
        assert covered >= least  # without a basis the samples are skewed, and it is less
        errors = np.array([one.value - true for one in estimates])
        assert abs(errors.mean()) < 4 * errors.std() / 10
        assert 0.7 < errors.std() / np.mean([one.stderr for one in estimates]) < 1.4


def test_the_basis_takes_the_large_eigenvalues_out_of_the_scatter() -> None:
    plain, split = (hutchpp(Dense(MATRIX), basis=basis, probes=10)[0] for basis in (0, 12))
    assert split.stderr < plain.stderr / 10


@pytest.mark.parametrize("values", [np.arange(6.0), np.zeros(6), [1.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
def test_a_basis_of_the_whole_space_leaves_no_error(values: np.ndarray) -> None:
    operator = Dense(with_spectrum(values))
    trace, norm = hutchpp(operator, basis=6, probes=5)
    assert trace.value == pytest.approx(np.sum(values), abs=1e-12)
    assert norm.value == pytest.approx(np.linalg.norm(values), abs=1e-12)
    assert trace.error == norm.error == 0
    assert operator.products == 6


def test_a_matrix_of_low_rank_is_exact_though_probes_are_drawn() -> None:
    trace, norm = hutchpp(Dense(with_spectrum([0.0] * 40 + [1.0, 2.0, 4.0])), basis=6, probes=3)
    assert trace.value == pytest.approx(7, abs=1e-12)
    assert norm.value == pytest.approx(np.sqrt(21), abs=1e-12)
    assert trace.error < 1e-12


def test_a_probe_is_projected_after_its_product() -> None:
    operator = Dense(MATRIX)
    krylov = Krylov(random_unit(operator, 0))
    for _ in range(7):
        krylov.extend(operator)
    vector = random_unit(operator, 9)
    quadratic, square = sample(krylov, vector, operator.multiply(vector))
    outside = vector - krylov.basis.T @ (krylov.basis @ vector)
    outside = outside / outside.norm()
    image = operator.matrix @ outside
    assert quadratic == pytest.approx(float(outside @ image), rel=1e-10)
    image = image - krylov.basis.T @ (krylov.basis @ image)
    assert square == pytest.approx(float(image @ image), rel=1e-10)


def test_students_t_and_two_stages() -> None:
    samples = np.array([1.0, 2.0, 3.0, 4.0])
    whole = mean_estimate(samples, 10.0, 2.0)
    assert whole.value == 15
    assert whole.stderr == pytest.approx(2 * np.std(samples, ddof=1) / 2)
    assert whole.error == pytest.approx(4.540703 * whole.stderr, rel=1e-6)
    staged = mean_estimate(samples, 10.0, 2.0, stage=2)
    assert staged.stderr == pytest.approx(2 * np.sqrt(0.5) / 2)
    assert staged.error == pytest.approx(31.820516 * staged.stderr, rel=1e-6)
    assert np.isnan(mean_estimate(samples[:1], 0.0, 1.0).error)


def test_more_probes_where_the_first_scatter_too_much() -> None:
    krylov = Krylov(random_unit(Dense(MATRIX), 0))
    first = Samples(np.array([0.9, 1.1] * 4), np.ones(8))
    relative = np.std(first.quadratic, ddof=1) / np.sqrt(8)
    assert probes_needed(krylov, 200, first, 2 * relative, 99) == 8
    assert probes_needed(krylov, 200, first, relative / 2.01, 99) == 33
    assert probes_needed(krylov, 200, first, relative / 20, 99) == 99
    centred = Samples(np.array([-1.0, 1.0] * 4), np.ones(8))
    assert probes_needed(krylov, 200, centred, 0.05, 99) == 99


def test_all_unit_vectors_make_every_moment_exact() -> None:
    operator = Dense(MATRIX)
    density = spectral_density(operator, steps=12, starts=torch.eye(200))
    for power in range(24):
        exact = np.mean(VALUES**power)
        assert density.moment(power).value == pytest.approx(exact, rel=1e-9)
    low, high = density.range
    assert VALUES.min() <= low <= high <= VALUES.max() + 1e-9


def test_random_probes_cover_the_moments_they_estimate() -> None:
    found = [spectral_density(Dense(MATRIX), probes=6, steps=8, seed=seed) for seed in range(60)]
    for power in (1, 2):
        estimates = [one.moment(power) for one in found]
        inside = sum(abs(one.value - np.mean(VALUES**power)) <= one.error for one in estimates)
        assert inside >= 51  # 57 ± 1.7 by chance; few probes of a skewed quantity cover a little less


def test_the_smoothed_density_integrates_to_one_and_knows_its_error() -> None:
    density = spectral_density(Dense(MATRIX), probes=8, steps=40)
    grid, values, stderr = density.smooth()
    assert np.trapezoid(values, grid) == pytest.approx(1, abs=0.002)
    step = 0.05
    grid, values, stderr = density.smooth(np.linspace(-0.3, 0.3, 61), step)
    exact = np.exp(-np.square((grid[:, None] - VALUES) / step) / 2).mean(1) / (step * np.sqrt(2 * np.pi))
    assert (np.abs(values - exact) <= 6 * stderr + 1e-3).all()
    assert np.isnan(spectral_density(Dense(MATRIX), probes=1, steps=5).smooth()[2]).all()


def test_known_eigenvalues_are_counted_exactly() -> None:
    density = SpectralDensity(4, np.array([5.0, 7.0]), [np.array([1.0])], [np.array([1.0])])
    assert density.moment(0).value == pytest.approx(1)
    assert density.moment(1).value == pytest.approx((5 + 7 + 1 + 1) / 4)
    grid, values, _ = density.smooth(np.array([5.0]), 0.1)
    assert values[0] == pytest.approx(0.25 / (0.1 * np.sqrt(2 * np.pi)))
    assert len(grid) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.ones(30), 30.0),
        ([0.0] * 29 + [3.0], 1.0),
        ([0.0] * 26 + [2.0, 2.0, -2.0, -2.0], 4.0),
        (np.zeros(9), 0.0),
    ],
)
def test_effective_rank_counts_equal_eigenvalues(values: np.ndarray, expected: float) -> None:
    operator = Dense(with_spectrum(values))
    density = spectral_density(operator, steps=9, starts=torch.eye(operator.size))
    assert density.effective_rank().value == pytest.approx(expected, rel=1e-6)


def test_effective_rank_and_its_error() -> None:
    share = np.abs(VALUES) / np.abs(VALUES).sum()
    exact = np.exp(-(share * np.log(share)).sum())
    found = spectral_density(Dense(MATRIX), probes=20, steps=60).effective_rank()
    assert abs(found.value - exact) <= 2 * found.error
    assert 0 < found.stderr < 0.5 * exact
    assert np.isnan(spectral_density(Dense(MATRIX), probes=1, steps=5).effective_rank().error)


def test_bad_numbers_say_so() -> None:
    with pytest.raises(UserError, match="expected at least 0 and 2"):
        hutchpp(Dense(MATRIX), probes=1)
    with pytest.raises(UserError, match="at least 1 of each"):
        spectral_density(Dense(MATRIX), probes=0)


def test_a_whole_run_covers_trace_and_norm_in_95_of_100_seeds() -> None:
    """With the basis that the eigenvalues left, and as many probes as the first ones ask for."""
    covered, probes = np.zeros(2), []
    for seed in range(100):
        run = SpectrumRun(Dense(MATRIX), Plan(Wanted(3, 0, 1e-2), 0.01, density_probes=0, seed=seed))
        while not run.done:
            run.advance()
        assert run.products == run.expected()
        probes.append(run.products - run.search.products)
        found = (run.probing.trace(), run.probing.frobenius())
        true = (VALUES.sum(), np.linalg.norm(VALUES))
        covered += [abs(one.value - exact) <= one.error for one, exact in zip(found, true, strict=True)]
    assert (covered >= 95).all()
    assert min(probes) >= 8
    assert max(probes) > 8
    assert np.mean(probes) < 25
