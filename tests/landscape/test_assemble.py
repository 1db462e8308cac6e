"""Evaluated points entered one by one, kept across an interruption, and interpolated to a plane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from landscape.engine.totals import Totals
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import FloatArray
from landscape.surface.assemble import _rounded, assemble_plane
from landscape.surface.plane_record import Index, Record

ALPHA, BETA = np.linspace(-1, 1, 7), np.linspace(-1, 1, 5)
SHAPE = (7, 5)


def totals(loss: npt.ArrayLike, **metrics: npt.ArrayLike) -> Totals:
    """Of examples with these values, in two blocks."""
    values = {"loss": np.asarray(loss, float), **{k: np.asarray(v, float) for k, v in metrics.items()}}
    half = len(values["loss"]) // 2
    return Totals(
        np.array([half, len(values["loss"]) - half]),
        {name: np.array([one[:half].sum(), one[half:].sum()]) for name, one in values.items()},
        {name: float(np.square(one).sum()) for name, one in values.items()},
    )


def example_losses(index: Index, split: int = 0) -> FloatArray:
    """Five examples, different at every point."""
    x, y = ALPHA[index[0]], BETA[index[1]]
    return np.exp(x**2 + 0.5 * x * y + y**2) * np.array([0.5, 1.0, 1.5, 2.0, 2.5]) + split


def filled_record(share: float = 0.6, **more: float) -> Record:
    record = Record(SHAPE)
    for index in np.ndindex(SHAPE):
        if np.random.default_rng(7 * index[0] + index[1]).random() < share:
            extra = {name: np.full(5, value) for name, value in more.items()}
            record.add(
                (index[0], index[1]),
                {"train": totals(example_losses(index), **extra), "test": totals(example_losses(index, 1))},
            )
    return record


def test_a_point_is_entered_for_every_split_and_metric() -> None:
    record = Record(SHAPE)
    record.add(
        (2, 3), {"train": totals([1.0, 2.0, 6.0], accuracy=[1, 0, 1]), "test": totals([4.0, 4.0, 4.0, 4.0])}
    )
    assert list(record.splits) == ["train", "test"]
    train, test = record.splits["train"], record.splits["test"]
    assert list(train.metrics) == ["loss", "accuracy"]
    assert (train.examples, test.examples) == (3, 4)
    assert train.block_counts.tolist() == [1, 2]
    assert train.metrics["loss"].values[2, 3] == 3.0
    assert train.metrics["loss"].stderr[2, 3] == pytest.approx(np.std([1, 2, 6], ddof=1) / 3**0.5, rel=2**-9)
    assert train.metrics["accuracy"].values[2, 3] == pytest.approx(2 / 3)
    assert train.metrics["accuracy"].blocks is None
    blocks = train.metrics["loss"].blocks
    assert blocks is not None
    assert blocks[2, 3].tolist() == [1.0, 4.0]
    assert test.metrics["loss"].stderr[2, 3] == 0.0
    assert record.computed.sum() == 1
    assert np.isnan(train.metrics["loss"].values).sum() == 34
    assert record.losses([(2, 3), (2, 3)]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_counts_as_diverged(value: float) -> None:
    record = Record(SHAPE)
    record.add((0, 0), {"train": totals([1.0, value], accuracy=[0.5, np.nan])})
    metrics = record.splits["train"].metrics
    assert metrics["loss"].values[0, 0] == np.inf
    assert np.isnan(metrics["accuracy"].values[0, 0])


def test_a_stored_plane_gives_the_record_back_without_the_interpolated() -> None:
    record = filled_record(accuracy=0.5)
    plane = assemble_plane(ALPHA, BETA, record, {}, 0.1)
    again = Record.from_plane(plane)
    assert np.array_equal(again.computed, record.computed)
    for name, split in record.splits.items():
        found = again.splits[name]
        assert list(found.metrics) == list(split.metrics)
        assert np.array_equal(found.block_counts, split.block_counts)
        for key, metric in split.metrics.items():
            np.testing.assert_array_equal(found.metrics[key].values, metric.values)
            np.testing.assert_array_equal(found.metrics[key].stderr, metric.stderr)
            if metric.blocks is not None:
                np.testing.assert_array_equal(found.metrics[key].blocks, metric.blocks)
    again.add((0, 0), {name: totals([9.0] * 5, accuracy=[0] * 5) for name in record.splits})
    assert plane.splits["train"].metrics["loss"].values[0, 0] != 9.0


def test_every_metric_is_interpolated() -> None:
    record = filled_record(accuracy=0.5)
    plane = assemble_plane(ALPHA, BETA, record, {"kind": "random"}, 0.125)
    computed = record.computed
    assert not computed.all()
    for name in ("train", "test"):
        raw, metric = record.splits[name].metrics["loss"], plane.splits[name].metrics["loss"]
        assert np.isfinite(metric.values).all()
        assert np.array_equal(metric.values[computed], raw.values[computed])
        transform = plane.about["interpolation"]["transform"][name]
        expected = interpolate_grid(ALPHA, BETA, computed, raw.values, transform=transform, bounded=True)
        np.testing.assert_allclose(metric.values, expected, rtol=2.0**-17)  # interpolated ones are rounded
        assert (metric.stderr >= 0).all()
        assert np.array_equal(metric.blocks[computed], raw.blocks[computed])
        assert np.isnan(metric.blocks[~computed]).all()
    assert plane.about["kind"] == "random"
    np.testing.assert_allclose(plane.splits["train"].metrics["accuracy"].values, 0.5)


def test_the_sampler_states_the_error_of_the_steering_loss_only() -> None:
    plane = assemble_plane(ALPHA, BETA, filled_record(accuracy=0.5), {}, 0.125)
    assert plane.splits["train"].metrics["loss"].error == 0.125
    other = plane.splits["test"].metrics["loss"].error
    assert 0 < other < 5
    assert plane.splits["train"].metrics["accuracy"].error == pytest.approx(0.0, abs=1e-9)


def test_nothing_was_interpolated_on_a_complete_grid() -> None:
    record = filled_record(2.0)
    plane = assemble_plane(ALPHA, BETA, record, {}, float("nan"))
    assert plane.computed.all()
    for name, split in plane.splits.items():
        assert split.metrics["loss"].error == 0.0
        assert np.array_equal(split.metrics["loss"].values, record.splits[name].metrics["loss"].values)


def test_accuracy_stays_a_fraction() -> None:
    record = Record(SHAPE)
    rough = np.random.default_rng(0)
    for index in list(np.ndindex(SHAPE))[::2]:
        correct = np.full(4, rough.integers(0, 2))
        record.add((index[0], index[1]), {"train": totals(np.ones(4), accuracy=correct)})
    accuracy = assemble_plane(ALPHA, BETA, record, {}, 0.0).splits["train"].metrics["accuracy"].values
    assert ((accuracy >= 0) & (accuracy <= 1)).all()


def diverging(index: Index) -> Mapping[str, Totals]:
    loss = example_losses(index) if index[0] > 1 else np.full(5, np.nan)
    correct = np.ones(5) if index[0] > 1 else np.full(5, np.nan)
    return {"train": totals(loss, accuracy=correct)}


def test_where_the_network_diverged_loss_is_inf_and_the_rest_unknown() -> None:
    record = Record(SHAPE)
    for index in list(np.ndindex(SHAPE))[::2]:
        record.add((index[0], index[1]), diverging((index[0], index[1])))
    metrics = assemble_plane(ALPHA, BETA, record, {}, 0.1).splits["train"].metrics
    assert np.isinf(metrics["loss"].values[0]).all()
    assert np.isnan(metrics["accuracy"].values[0]).all()
    assert np.isnan(metrics["loss"].stderr[0]).all()
    for values in (metrics["loss"].values, metrics["accuracy"].values, metrics["loss"].stderr):
        assert np.isfinite(values[3:]).all()


@pytest.mark.parametrize("points", [1, 2, 5])
def test_a_plane_with_few_points_is_already_a_plane(points: int) -> None:
    record = Record(SHAPE)
    for index in [(0, 0), (6, 4), (3, 2), (0, 4), (6, 0)][:points]:
        record.add(index, {"train": totals(example_losses(index))})
    metric = assemble_plane(ALPHA, BETA, record, {}, float("nan")).splits["train"].metrics["loss"]
    assert np.isnan(metric.values).any() == (points < 3)
    assert np.isnan(metric.error)


def test_a_plane_without_points_has_no_splits() -> None:
    plane = assemble_plane(ALPHA, BETA, Record(SHAPE), {}, float("nan"))
    assert not plane.computed.any()
    assert dict(plane.splits) == {}


def test_interpolated_values_have_few_digits_and_computed_ones_all() -> None:
    values = np.random.default_rng(0).lognormal(0, 5, (9, 9))
    values[0, 0], values[0, 1], values[1, 0] = np.inf, np.nan, np.finfo(float).max
    computed = np.zeros((9, 9), bool)
    computed[::2] = True
    short = _rounded(values, computed, 16)
    np.testing.assert_array_equal(short[computed], values[computed])
    np.testing.assert_allclose(short, values, rtol=2.0**-17)
    finite = ~computed & np.isfinite(values) & (values < 1e300)
    assert not (short[finite].view(np.uint64) & np.uint64((1 << 36) - 1)).any()
