"""Planes: the coordinates of their axes, and directions for lines and planes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape.errors import UserError
from landscape.planes import (
    BetweenPlane,
    GivenPlane,
    PlaneSpec,
    RandomPlane,
    network_axis,
    symmetric_axis,
)
from landscape.planes.directions import Params
from landscape.planes.directions_file import read_directions

SPANS = st.floats(1e-3, 1e3)


def network(value: float = 1.0) -> Params:
    return {"w": torch.full((2, 3), value), "b": torch.full((2,), value)}


MASK = {"w": torch.tensor([[True, False, True], [False, False, False]])}
PLANES: list[PlaneSpec] = [
    RandomPlane(3, "layer"),
    BetweenPlane(network(2.0)),
    BetweenPlane(network(2.0), network(3.0), ("a", "b")),
    GivenPlane([network(), {"b": torch.ones(2)}], label="eigenvectors", extra={"eigenvalues": [2.0, 1.0]}),
]


@given(st.integers(1, 201), SPANS)
def test_symmetric_axis(points: int, span: float) -> None:
    axis = symmetric_axis(points, span)
    assert axis.shape == (points,)
    assert np.array_equal(axis, -axis[::-1])
    assert (0.0 in axis) == (points % 2 == 1)
    if points % 2:
        assert axis[points // 2] == 0.0
    if points > 1:
        assert (np.diff(axis) > 0).all()
        np.testing.assert_allclose([axis[0], axis[-1]], [-span, span], rtol=1e-14)
        np.testing.assert_allclose(np.diff(axis), 2 * span / (points - 1), rtol=1e-10)


@given(st.integers(2, 201), SPANS)
def test_networks_lie_exactly_on_the_axis_between_them(points: int, span: float) -> None:
    axis = network_axis(points, span)
    assert axis.shape == (points,)
    assert 0.0 in axis
    assert 1.0 in axis
    np.testing.assert_allclose(np.diff(axis), axis[1] - axis[0], rtol=1e-9)
    assert (np.diff(axis) > 0).all()
    if points >= 3 + 2 * span:  # otherwise the networks themselves need more of the points
        step = axis[1] - axis[0]
        assert abs(axis[0] + span / 2) <= (1 + span) * step
        assert abs(axis[-1] - 1 - span / 2) <= (1 + span) * step


def test_single_point_is_the_checkpoint() -> None:
    assert symmetric_axis(1, 2.0).tolist() == network_axis(1, 2.0).tolist() == [0.0]


def test_common_axes_are_as_expected() -> None:
    assert symmetric_axis(5, 1.0).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert network_axis(5, 1.0).tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]


def test_axes_fit_the_kind_of_plane() -> None:
    between, third = BetweenPlane(network(2.0)), BetweenPlane(network(2.0), network(3.0))
    assert np.array_equal(between.axis(0, 9, 1.0), network_axis(9, 1.0))
    assert np.array_equal(between.axis(1, 9, 1.0), symmetric_axis(9, 1.0))
    assert np.array_equal(third.axis(1, 9, 1.0), network_axis(9, 1.0))
    for plane in (RandomPlane(), GivenPlane([network()])):
        for index in (0, 1):
            assert np.array_equal(plane.axis(index, 7, 2.0), symmetric_axis(7, 2.0))


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: type(plane).__name__)
def test_every_plane_keeps_the_contract(plane: PlaneSpec) -> None:
    for dim in (1, 2):
        directions = plane.directions(network(), MASK, dim)
        assert len(directions) == dim
        for direction in directions:
            assert {name: value.shape for name, value in direction.items()} == {
                name: value.shape for name, value in network().items()
            }
    about = plane.about()
    assert json.loads(json.dumps(about)) == about
    assert about["kind"] in ("random", "between", "given")
    assert "normalize" in about


def test_between_goes_to_the_other_networks_unmasked() -> None:
    first, second = BetweenPlane(network(2.0), network(4.0)).directions(network(), MASK, 2)
    assert bool((first["w"] == 1).all())
    assert bool((second["w"] == 3).all())


def test_second_axis_of_between_is_the_random_one_of_its_seed() -> None:
    found = BetweenPlane(network(2.0), seed=5).directions(network(), MASK, 2)[1]
    expected = RandomPlane(5).directions(network(), MASK, 2)[1]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.count_nonzero(found["w"][~MASK["w"]]) == 0


def test_between_does_not_claim_the_mask() -> None:
    assert BetweenPlane(network(2.0)).about()["mask"] == "none"
    assert "mask" not in RandomPlane().about()


def test_given_directions_are_masked_and_normalized_on_request() -> None:
    plain = GivenPlane([network(5.0)]).directions(network(), MASK, 1)[0]
    assert torch.equal(plain["w"], 5.0 * MASK["w"])
    assert plain["b"].tolist() == [5.0, 5.0]
    scaled = GivenPlane([network(5.0)], normalize="filter").directions(network(), None, 1)[0]
    torch.testing.assert_close(scaled, network())


def test_too_few_given_directions_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 direction\(s\) given, 2 needed"):
        GivenPlane([network()]).directions(network(), None, 2)


def test_unknown_normalization_is_refused() -> None:
    with pytest.raises(UserError, match="unknown normalization"):
        RandomPlane(0, "model").directions(network(), None, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-3])
def test_stored_directions_that_span_no_plane_are_refused(factor: float, tmp_path: Path) -> None:
    """A line would be drawn as a plane."""
    one = {"w": torch.arange(1.0, 7.0).reshape(2, 3), "b": torch.tensor([0.3, -0.7])}
    path = tmp_path / "d.pt"
    torch.save([one, {name: factor * value for name, value in one.items()}], path)
    with pytest.raises(UserError, match="span no plane"):
        read_directions(path, "none")
    others = (
        [one],
        [one, {**one, "b": torch.tensor([0.3, -0.6])}],
        [one, {"b": torch.ones(2)}],
        [one, {"c": torch.ones(2)}],
    )
    for fine in others:
        torch.save(fine, path)
        read_directions(path, "none")
