"""`roughness`: what it accepts, what it refuses, and that its intervals are right."""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from roughness_surfaces import axis, noisy_surface, surface_of
from scipy.special import stdtrit

from analysis.roughness import roughness, roughness_by_plane
from analysis.roughness.heights import heights
from analysis.roughness.metrics import METRICS
from analysis.roughness.metrics.ra import ra
from analysis.statistics.uncertainty import jackknife, t_quantile
from landscape.errors import UserError
from landscape.surface import FloatArray

X = axis(11)
BOWL = 1 + X[:, None] ** 2 + 0.5 * X**2 + 0.3 * np.sin(4 * X[:, None] + X)
EQUAL = np.full(20, 10)
UNEQUAL = np.array([5, 10, 15, 10, 20, 8, 12, 10, 3, 7])


def ra_of(values: FloatArray, *, log: bool = False) -> float:
    return ra(
        heights(axis(values.shape[0]), axis(values.shape[1]), np.log(values) if log else values, "mean")
    )


def test_every_metric_is_there() -> None:
    found = roughness(surface_of(BOWL))
    assert set(found.estimates) == set(METRICS)
    assert found.ra.value == ra_of(BOWL)
    assert found.quantity == "loss"
    assert (found.alpha_range, found.beta_range, found.resolution) == ((-1, 1), (-1, 1), (11, 11))
    assert np.isnan(found.ra.low)  # nothing is known about the spread
    with pytest.raises(AttributeError, match="rx"):
        found.rx  # noqa: B018


def test_log_loss_is_the_roughness_of_the_logarithm() -> None:
    assert roughness(surface_of(BOWL), log=True).ra.value == ra_of(np.log(BOWL))
    with pytest.raises(UserError, match=r"smallest loss is -1, log loss needs positive"):
        roughness(surface_of(BOWL - BOWL.min() - 1), log=True)


def test_span_crops_to_the_inner_square() -> None:
    found = roughness(surface_of(BOWL), span=0.6)
    assert found.alpha_range == pytest.approx((-0.6, 0.6))
    inner = surface_of(BOWL[2:9, 2:9], alpha=X[2:9], beta=X[2:9])
    assert found.ra.value == roughness(inner).ra.value


@pytest.mark.parametrize("span", [0.0, -1.0, nan, inf, 1.1])
def test_impossible_spans(span: float) -> None:
    with pytest.raises(UserError, match=r"span .* expected more than 0 and at most 1"):
        roughness(surface_of(BOWL), span=span)


@pytest.mark.parametrize("reference", ["median", "Mean", None])
def test_an_unknown_reference_is_refused(reference: Any) -> None:
    surface = surface_of(BOWL)
    for measure in (roughness, roughness_by_plane):
        with pytest.raises(UserError, match=r"unknown reference .*; expected one of mean, plane"):
            measure(surface, reference=reference)
        with pytest.raises(UserError, match=r"span must be a number, got '0\.5'"):
            measure(surface, span="0.5")  # type: ignore[arg-type]


def test_refuses_what_has_no_area_or_no_such_split() -> None:
    with pytest.raises(UserError, match=r"1×1 grid points within span 0.1; roughness needs"):
        roughness(surface_of(BOWL), span=0.1)
    with pytest.raises(UserError, match="1×1 grid points; roughness needs"):
        roughness(surface_of(np.ones((1, 1)), alpha=np.zeros(1)))
    with pytest.raises(UserError, match="no split 'train'; it has test"):
        roughness(surface_of(BOWL), split="train")


def test_unfinished_surfaces_are_refused() -> None:
    values = BOWL.copy()
    values[3:5, 1] = nan
    with pytest.raises(UserError, match="unfinished: 2 of 121 points missing"):
        roughness(surface_of(values))


def test_diverged_points_make_it_infinite_and_the_finite_square_is_reported() -> None:
    values = BOWL.copy()
    values[10, 5], values[5, 1], values[9, 9] = inf, inf, inf  # at (1, 0), (0, -0.8), (0.8, 0.8)
    found = roughness(surface_of(values))
    assert found.ra.value == inf
    assert found.diverged_radius == pytest.approx(0.8)
    assert found.finite_span == pytest.approx(0.6)
    assert found.finite is not None
    assert found.finite.ra.value == roughness(surface_of(BOWL), span=0.6).ra.value
    assert found.finite.alpha_range[0] == pytest.approx(-found.finite.alpha_range[1])


def test_divergence_beside_the_center_leaves_no_finite_square() -> None:
    values = BOWL.copy()
    values[6, 5] = inf
    found = roughness(surface_of(values))
    assert found.ra.value == inf
    assert (found.finite, found.finite_span) == (None, None)


def test_divergence_on_any_plane_counts() -> None:
    values = np.stack([BOWL, BOWL])
    values[1, 0, 0] = inf
    found = roughness(surface_of(values))
    assert found.diverged_radius == pytest.approx(sqrt(2))
    assert found.finite is not None
    assert found.finite.planes == 2


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("log", [False, True])
def test_each_plane_is_measured_as_if_it_were_alone(metric: str, log: bool) -> None:
    values = np.stack([BOWL, BOWL**2, BOWL[::-1] + 0.1 * X])
    alone = [roughness(surface_of(one), log=log, span=0.8).estimates[metric].value for one in values]
    found = roughness_by_plane(surface_of(values), metric, log=log, span=0.8)
    np.testing.assert_allclose(found, alone, rtol=1e-13)


def test_a_plane_that_diverges_is_infinite_alone() -> None:
    values = np.stack([BOWL, BOWL])
    values[1, 0, 0] = inf
    whole, diverged = roughness_by_plane(surface_of(values))
    assert whole == roughness(surface_of(BOWL)).ra.value
    assert diverged == inf


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        ("sa", 1.0, "no metric 'sa'; expected one of ra, "),
        ("ra", nan, "unfinished: 1 of 121 points missing"),
        ("ra", 0.0, "the smallest loss is 0, log loss needs positive losses"),
    ],
)
def test_what_by_plane_refuses(metric: str, value: float, message: str) -> None:
    values = BOWL.copy()
    values[3, 3] = value
    with pytest.raises(UserError, match=message):
        roughness_by_plane(surface_of(values), metric, log=True)


def test_lines_work() -> None:
    found = roughness(surface_of(3 * X[:, None]))
    assert found.ra.value == pytest.approx(1.5)
    assert found.resolution == (11, 1)


@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL], ids=["equal blocks", "unequal blocks"])
@pytest.mark.parametrize("log", [False, True])
def test_jackknife_equals_recomputation_without_each_block(counts: Any, log: bool) -> None:
    values, blocks = noisy_surface(np.random.default_rng(1), BOWL, counts)
    found = roughness(surface_of(values, blocks=blocks, counts=counts), log=log)
    n, g = counts.sum(), len(counts)
    ra = ra_of(values, log=log)
    whole = np.log(ra)  # a positive number: everything on the log scale
    left_out = []
    for block in range(g):
        others = [other for other in range(g) if other != block]
        remaining = sum(counts[other] * blocks[..., other] for other in others) / (n - counts[block])
        left_out.append(np.log(ra_of(remaining, log=log)))
    # Busing, Meijer and van der Leeden (1999), equations 6 to 8, written out.
    h = n / counts
    theta_j = g * whole - sum((1 - counts[j] / n) * left_out[j] for j in range(g))
    pseudo = [h[j] * whole - (h[j] - 1) * left_out[j] for j in range(g)]
    variance = sum((pseudo[j] - theta_j) ** 2 / (h[j] - 1) for j in range(g)) / g
    assert found.ra.stderr_examples == pytest.approx(ra * sqrt(variance), rel=1e-9)
    factor = np.exp(stdtrit(g - 1, 0.975) * sqrt(variance))
    assert found.ra.high / found.ra.value == pytest.approx(factor, rel=1e-6)
    assert found.ra.value / found.ra.low == pytest.approx(factor, rel=1e-6)


def test_jackknife_of_a_mean_is_the_textbook_standard_error() -> None:
    sample = np.random.default_rng(0).normal(size=12)
    left_out = (sample.sum() - sample) / 11
    found = jackknife(float(sample.mean()), left_out, np.ones(12, np.int64))
    assert found == pytest.approx(sample.std(ddof=1) / sqrt(12))


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 3, 4.7, 9, 19, 99, 1e4])
def test_t_quantile(degrees: float) -> None:
    assert t_quantile(degrees) == pytest.approx(stdtrit(degrees, 0.975), rel=2e-5)


def test_planes_give_a_t_interval_around_their_mean() -> None:
    scales = np.array([1.0, 1.2, 0.9, 1.1])
    found = roughness(surface_of(scales[:, None, None] * BOWL))
    expected = scales * ra_of(BOWL)
    logs = np.log(expected)
    assert found.ra.value == pytest.approx(np.exp(logs.mean()))
    assert found.ra.stderr_planes == pytest.approx(found.ra.value * logs.std(ddof=1) / 2)
    assert np.log(found.ra.high / found.ra.value) == pytest.approx(stdtrit(3, 0.975) * logs.std(ddof=1) / 2)
    assert found.ra.low > 0
    assert np.isnan(found.ra.stderr_examples)


def test_both_sources_add_in_quadrature() -> None:
    grids = [noisy_surface(np.random.default_rng(2), scale * BOWL, EQUAL) for scale in (1.0, 1.1, 0.9)]
    values, blocks = (np.stack(part) for part in zip(*grids, strict=True))
    found = roughness(surface_of(values, blocks=blocks, counts=EQUAL)).ra
    combined = sqrt(found.stderr_examples**2 + found.stderr_planes**2)
    quantile = np.log(found.high / found.value) * found.value / combined
    assert stdtrit(21, 0.975) < quantile < stdtrit(2, 0.975)


def test_interpolation_error_widens_the_interval_and_bounds_the_truth() -> None:
    rng = np.random.default_rng(3)
    computed = rng.random(BOWL.shape) < 0.5
    error = 0.05
    perturbed = BOWL + np.where(computed, 0, rng.uniform(-error, error, BOWL.shape))
    for log in (False, True):
        exact = roughness(surface_of(BOWL), log=log)
        found = roughness(surface_of(perturbed, computed=computed, error=error), log=log)
        assert found.evaluated == pytest.approx(computed.mean())
        for name in ("ra", "sq", "sz"):
            one = found.estimates[name]
            assert one.error_interpolation > 0
            assert abs(one.value - exact.estimates[name].value) <= one.error_interpolation, name
        assert found.ra.error_interpolation <= (0.2 if log else error)
        assert np.isnan(found.sdc.error_interpolation)


def test_blocks_are_interpolated_like_the_surface_itself() -> None:
    rng = np.random.default_rng(4)
    values, blocks = noisy_surface(rng, BOWL, EQUAL)
    computed = rng.random(BOWL.shape) < 0.6
    computed[[0, 0, -1, -1, 5], [0, -1, 0, -1, 5]] = True
    full = roughness(surface_of(values, blocks=blocks, counts=EQUAL))
    sparse_blocks = np.where(computed[..., None], blocks, nan)
    some = roughness(surface_of(values, blocks=sparse_blocks, counts=EQUAL, computed=computed, error=0.0))
    assert some.ra.stderr_examples == pytest.approx(full.ra.stderr_examples, rel=0.05)


@pytest.fixture
def only_ra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulations look at Ra alone: seven times faster."""
    monkeypatch.setattr("analysis.roughness.METRICS", {"ra": METRICS["ra"]})


@pytest.mark.usefixtures("only_ra")
@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL], ids=["equal blocks", "unequal blocks"])
def test_intervals_over_examples_cover_the_truth(counts: Any) -> None:
    rng, base = np.random.default_rng(5), BOWL[::2, ::2]
    truth = ra_of(base)
    covered = []
    for _ in range(300):
        values, blocks = noisy_surface(rng, base, counts)
        found = roughness(surface_of(values, blocks=blocks, counts=counts)).ra
        covered.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(covered) <= 0.99


@pytest.mark.usefixtures("only_ra")
def test_intervals_over_planes_and_examples_cover_the_truth() -> None:
    rng, base, counts = np.random.default_rng(6), BOWL[::2, ::2], np.full(10, 10)
    truth = ra_of(base)
    covered = []
    for _ in range(200):
        seed = rng.integers(2**31)  # the same examples on every plane
        scales = 1 + 0.1 * rng.normal(size=4)
        grids = [noisy_surface(np.random.default_rng(seed), scale * base, counts) for scale in scales]
        values, blocks = (np.stack(part) for part in zip(*grids, strict=True))
        found = roughness(surface_of(values, blocks=blocks, counts=counts)).ra
        covered.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(covered) <= 0.99
