"""Samplers: they end, ask for nothing twice, repeat themselves, and state an error that holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_surfaces import network_surface

from landscape.sampling import Index, Sampler, adaptive, exact
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import BoolArray, FloatArray

Field = Callable[[FloatArray, FloatArray], FloatArray]

SURFACES: dict[str, Field] = {
    "bowl": lambda x, y: np.exp(2 * x**2 + y**2 + x * y),
    "ripples": lambda x, y: np.exp(x**2 + 0.3 * np.sin(4 * x + 3 * y)),
    "kink": lambda x, y: 1 + np.abs(x + 0.3 * y) + 0.5 * y**2,
    "constant": lambda x, y: np.full_like(x, 2.3),
    "zero": lambda x, y: np.zeros_like(x),
    "negative": lambda x, y: x - y**2 + 0.2 * np.sin(3 * x),
    "partly diverged": lambda x, y: np.where(x**2 + y**2 > 1.2, np.inf, np.exp(x + y**2)),
    "a corner left": lambda x, y: np.where(x + y < 1.5, np.inf, 1 + x * y),
    "diverged": lambda x, y: np.full_like(x, np.inf),
    "huge": lambda x, y: 1e300 * (0.1 + x**2 + y**2),
    "huge range": lambda x, y: 10.0 ** (40 * (x**2 + y**2) - 3),
}


def axes(first: int, second: int) -> tuple[FloatArray, FloatArray]:
    return np.linspace(-1, 1, first), np.linspace(-1, 1, second)


def values(field: Field, first: int, second: int) -> FloatArray:
    return field(*np.meshgrid(*axes(first, second), indexing="ij"))


def converse(sampler: Sampler, losses: FloatArray) -> list[list[Index]]:
    """Every batch, after checking that only known losses were asked for."""
    known: set[Index] = set()
    batches = []

    def lookup(indices: Sequence[Index]) -> FloatArray:
        assert set(indices) <= known
        return np.array([losses[index] for index in indices])

    for batch in sampler.batches(lookup):
        assert not known & set(batch)
        assert len(set(batch)) == len(batch)
        known |= set(batch)
        batches.append(batch)
    return batches


def mask_of(batches: Sequence[Sequence[Index]], shape: tuple[int, int]) -> BoolArray:
    computed = np.zeros(shape, bool)
    for batch in batches:
        for index in batch:
            computed[index] = True
    return computed


@pytest.mark.parametrize("name", SURFACES)
def test_adaptive_ends_on_any_surface(name: str) -> None:
    losses = values(SURFACES[name], 15, 11)
    sampler = adaptive(*axes(15, 11), 0.01)
    batches = converse(sampler, losses)
    computed = mask_of(batches, losses.shape)
    assert 45 <= computed.sum() <= losses.size
    if computed.all():
        assert sampler.error == sampler.relative_error == 0.0
    else:
        assert sampler.relative_error <= 0.01
        assert sampler.error >= 0
    assert sampler.expected <= losses.size


@pytest.mark.parametrize("name", ["bowl", "constant", "zero", "partly diverged"])
def test_easy_surfaces_need_few_points(name: str) -> None:
    computed = mask_of(converse(adaptive(*axes(21, 21), 0.01), values(SURFACES[name], 21, 21)), (21, 21))
    assert computed.sum() < 441 / 3


def test_every_divergence_border_is_pinned_down_to_a_cell_or_two() -> None:
    losses = values(SURFACES["partly diverged"], 21, 21)
    computed = mask_of(converse(adaptive(*axes(21, 21), 0.01), losses), losses.shape)
    filled = interpolate_grid(*axes(21, 21), computed, losses)
    wrong = np.argwhere(np.isinf(filled) != np.isinf(losses))
    border = np.abs(np.hypot(*np.meshgrid(*axes(21, 21), indexing="ij")) - 1.2**0.5)
    assert all(border[i, j] <= 0.15 for i, j in wrong)


@given(
    st.integers(5, 9),
    st.integers(13, 17),
    st.integers(1, 120),
    st.sampled_from(["ripples", "partly diverged"]),
)
@settings(max_examples=10)
def test_max_points_is_respected(first: int, second: int, limit: int, name: str) -> None:
    sampler = adaptive(*axes(first, second), 1e-9, limit)
    count = sum(map(len, converse(sampler, values(SURFACES[name], first, second))))
    assert count <= min(limit, first * second)
    assert count == min(limit, first * second) or sampler.relative_error <= 1e-9
    assert sampler.expected <= limit or count == first * second


@pytest.mark.parametrize("name", ["ripples", "kink", "partly diverged"])
def test_the_same_losses_give_the_same_points(name: str) -> None:
    losses = values(SURFACES[name], 13, 13)
    first, second = (converse(adaptive(*axes(13, 13), 0.01), losses) for _ in range(2))
    assert first == second


@given(data=st.data())
@settings(max_examples=5)
def test_later_points_depend_on_the_losses_so_far_only(data: st.DataObject) -> None:
    """A run that stopped after any prefix, and knows nothing of the rest, asks for the same next batch."""
    losses = values(SURFACES["ripples"], 13, 13)
    batches = converse(adaptive(*axes(13, 13), 0.01), losses)
    stop = data.draw(st.integers(0, len(batches) - 1))
    seen = mask_of(batches[:stop], losses.shape)
    partly = np.where(seen, losses, np.nan)
    replay = adaptive(*axes(13, 13), 0.01).batches(
        lambda wanted: np.array([partly[index] for index in wanted])
    )
    assert [next(replay) for _ in range(stop + 1)] == batches[: stop + 1]


def in_log_loss(seed: int) -> Field:
    """A valley with bumps or ripples of log loss, as around trained networks."""
    generator = np.random.default_rng(seed)
    bowl = np.abs(generator.normal(size=2)) + 0.3
    centers, widths = generator.uniform(-1, 1, (3, 2)), generator.uniform(0.3, 0.6, 3)
    heights, waves = generator.normal(size=3), generator.uniform(1, 5, 2)

    def field(x: FloatArray, y: FloatArray) -> FloatArray:
        z = np.log(0.3) + 2 * bowl[0] * x**2 + 2 * bowl[1] * y**2
        if seed % 2:
            return np.exp(z + 0.3 * np.sin(waves[0] * x + waves[1] * y))
        for (cx, cy), width, height in zip(centers, widths, heights, strict=True):
            z = z + height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
        return np.exp(z)

    return field


def kinked(seed: int) -> Field:
    """Absolute values: two planes that meet in a line."""
    slope = np.random.default_rng(seed).normal(size=3)
    return lambda x, y: 1 + np.abs(slope[0] * x + slope[1] * y + 0.3 * slope[2]) + 0.5 * x**2


def true_error(field: Field, count: int, tolerance: float) -> tuple[float, float, float, int]:
    """Largest error of the interpolated grid, the stated one, the range of the loss, the points used."""
    losses = values(field, count, count)
    sampler = adaptive(*axes(count, count), tolerance)
    computed = mask_of(converse(sampler, losses), losses.shape)
    filled = interpolate_grid(*axes(count, count), computed, losses)
    return float(np.abs(filled - losses).max()), sampler.error, float(np.ptp(losses)), int(computed.sum())


@pytest.mark.parametrize("seed", range(12))
def test_stated_error_covers_the_true_one_on_smooth_surfaces(seed: int) -> None:
    error, stated, width, points = true_error(in_log_loss(seed), 21, 0.01)
    assert error <= stated + 1e-7 * width
    assert error <= 0.01 * width
    assert points < 441


@pytest.mark.parametrize("seed", range(4))
def test_stated_error_holds_within_a_factor_of_two_at_kinks(seed: int) -> None:
    error, stated, width, _ = true_error(kinked(seed), 17, 0.02)
    assert error <= 2 * stated + 1e-7 * width
    assert error <= 2 * 0.02 * width


def errors_at(counts: Sequence[int], losses: FloatArray) -> list[tuple[float, float]]:
    """True and stated error, as shares of the loss range, of the last batch within each count."""
    shape = (len(losses), len(losses[0]))
    sampler = adaptive(*axes(*shape), 1e-12, counts[-1])
    computed, found = np.zeros(shape, bool), []

    def measure() -> tuple[float, float]:
        filled = interpolate_grid(*axes(*shape), computed, losses)
        return float(np.abs(filled - losses).max() / np.ptp(losses)), sampler.relative_error

    for batch in sampler.batches(lambda wanted: np.array([losses[index] for index in wanted])):
        found += [measure() for count in counts if computed.sum() <= count < computed.sum() + len(batch)]
        for index in batch:
            computed[index] = True
    return [*found, measure()]


@pytest.fixture(scope="module")
def network_errors() -> FloatArray:
    """True and stated, shape ``[surface, count, 2]``: 20 tiny networks at 60, 80 and 100 points."""
    return np.array([errors_at((60, 80, 100), network_surface(seed, 25)) for seed in range(20)])


@pytest.mark.slow
def test_stated_error_covers_the_true_one_on_networks(network_errors: FloatArray) -> None:
    true, stated = network_errors[..., 0], network_errors[..., 1]
    assert (stated >= true).mean() >= 0.95
    assert ((stated >= true).sum(axis=0) >= 18).all()
    assert (stated >= 0.7 * true).all()


@pytest.mark.slow
def test_stated_error_is_not_loose_on_networks(network_errors: FloatArray) -> None:
    ratio = np.median(network_errors[..., 1] / network_errors[..., 0], axis=0)
    assert (ratio < 3.5).all()


@pytest.mark.slow
def test_true_error_falls_on_networks(network_errors: FloatArray) -> None:
    first, second, third = np.median(network_errors[..., 0], axis=0)
    assert second < first
    assert third < second
    assert third < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (7, 3), (1, 9), (51, 1), (5, 40), (33, 33)])
def test_exact_covers_everything_coarse_to_fine(shape: tuple[int, int]) -> None:
    sampler = exact(*axes(*shape))
    assert sampler.expected == shape[0] * shape[1]
    batches = converse(sampler, np.zeros(shape))
    assert mask_of(batches, shape).all()
    assert sampler.error == 0.0
    # The first batch spans the grid thinly, and each next one halves what is left between.
    corners = {(i, j) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1)}
    assert corners <= set(batches[0])
    assert len(batches[0]) <= 49
    if max(shape) > 4:
        assert len(batches[0]) < shape[0] * shape[1]
    gaps = [largest_gap(batches[: count + 1], shape) for count in range(len(batches))]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == (1 if max(shape) > 1 else 0)


def largest_gap(batches: Sequence[Sequence[Index]], shape: tuple[int, int]) -> int:
    """Widest step between neighbouring computed grid lines."""
    indices = np.array([index for batch in batches for index in batch])
    steps = [np.diff(np.unique(indices[:, axis])) for axis in (0, 1)]
    return max((int(one.max()) for one in steps if one.size), default=0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (7, 3), (3, 7), (1, 51), (51, 1), (4, 60), (8, 8)])
def test_small_grids_and_lines_are_computed_whole(shape: tuple[int, int]) -> None:
    sampler = adaptive(*axes(*shape), 0.01)
    assert mask_of(converse(sampler, np.zeros(shape)), shape).all()
    assert sampler.error == 0.0


def test_the_middle_comes_early() -> None:
    for sampler in (exact(*axes(21, 21)), adaptive(*axes(21, 21), 0.01)):
        assert (10, 10) in converse(sampler, values(SURFACES["bowl"], 21, 21))[0]


def test_batches_grow_with_what_is_known() -> None:
    """Each costs the cube of the points, so a large grid must not take thousands of them."""
    losses = values(SURFACES["kink"], 17, 17)
    sizes = [len(batch) for batch in converse(adaptive(*axes(17, 17), 1e-9, 280), losses)]
    assert sizes[1] == 5
    assert max(sizes[1:]) == 6


def test_as_many_points_at_a_time_as_are_asked_for_and_others_behind_them() -> None:
    axis = np.linspace(-1, 1, 21)
    sampler = adaptive(axis, axis, 0.001, 120, at_a_time=9)
    known, sizes, behind = set[Index](), list[int](), list[Index]()

    def losses(indices: Sequence[Index]) -> FloatArray:
        return np.array([np.exp(axis[i] - 2 * axis[j] ** 2) for i, j in indices])

    for batch in sampler.batches(losses):
        known |= set(batch)
        sizes.append(len(batch))
        behind = [*sampler.ahead(4), *sampler.ahead(3)]
        assert len(set(behind)) == len(behind)
        assert not known & set(behind)
    assert set(sizes[1:-1]) == {9}
    assert sum(sizes) < 120 or behind == [], "nothing comes after the last"
