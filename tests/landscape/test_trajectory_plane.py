"""The plane of a training's path: principal components against a dense decomposition, and what must hold."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_network import examples, small_network
from torch import Tensor

from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.planes import RandomPlane, principal
from landscape.planes.directions import Params
from landscape.planes.principal import principal_components
from landscape.planes.trajectory import TrajectoryPlane, path_axis, trajectory_plane
from landscape.plot import plot_surfaces
from landscape.surface import FloatArray, load_surface

SHAPES = {"conv": (3, 2, 2), "bias": (3,), "scale": ()}


def network(draw: np.random.Generator) -> Params:
    return {name: torch.from_numpy(np.asarray(draw.normal(size=shape))) for name, shape in SHAPES.items()}


def walk(seed: int, length: int) -> list[Params]:
    draw = np.random.default_rng(seed)
    steps = [network(draw) for _ in range(length)]
    return [
        {name: sum((one[name] for one in steps[: n + 1]), torch.zeros(())) for name in SHAPES}
        for n in range(length)
    ]


def flat(tensors: Mapping[str, Tensor]) -> FloatArray:
    return np.concatenate([tensors[name].double().numpy().ravel() for name in SHAPES])


MASK = {"conv": torch.tensor([[[True, False], [True, True]], [[False] * 2] * 2, [[True] * 2] * 2])}


def masked(difference: FloatArray, mask: Mapping[str, Tensor] | None) -> FloatArray:
    whole = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    return difference * flat({**whole, **(mask or {})})


@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize("memory", [1, 900, 1 << 30], ids=["one by one", "blocks", "all at once"])
def test_components_are_those_of_a_dense_decomposition(mask: Any, memory: int) -> None:
    networks = walk(3, 9)
    final = networks[-1]
    found = principal_components(final, networks, mask, memory=memory)
    rows = np.stack([masked(flat(one) - flat(final), mask) for one in networks])
    _, sizes, vectors = np.linalg.svd(rows - rows.mean(0))
    np.testing.assert_allclose(found.explained, (sizes**2 / (sizes**2).sum())[:2], rtol=1e-10)
    for axis, direction in enumerate(found.directions):
        sign = np.sign(vectors[axis] @ flat(direction))
        np.testing.assert_allclose(flat(direction), sign * vectors[axis], atol=1e-6)
        np.testing.assert_allclose(found.coordinates[:, axis], sign * rows @ vectors[axis], atol=1e-9)
    whole = np.stack([flat(one) - flat(final) for one in networks])
    np.testing.assert_allclose(found.outside, 1 - (rows**2).sum() / (whole**2).sum(), atol=1e-12)


class Counting(Sequence[Params]):
    """Networks that are made when they are asked for."""

    def __init__(self, networks: Sequence[Params]) -> None:
        self.networks, self.reads = networks, [0] * len(networks)

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, index: int) -> Params:  # type: ignore[override]
        self.reads[index] += 1
        return self.networks[index]


def test_networks_are_read_once_where_memory_allows() -> None:
    networks = Counting(walk(0, 6))
    principal_components(networks.networks[-1], networks)
    assert networks.reads == [1] * 6
    few = Counting(walk(0, 6))
    principal_components(few.networks[-1], few, memory=2 * 2 * 8 * 16)  # two blocks of two networks
    assert 2 <= max(few.reads) <= 5


def test_two_networks_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Tensor]] = []
    read = principal._Rows._read

    def counted(self: principal._Rows, part: range) -> dict[str, Tensor]:
        rows = read(self, part)
        held.extend(weakref.ref(one) for one in rows.values())
        return rows

    class Watching(Counting):
        """Counts the blocks that are there while another one is read."""

        most = 0

        def __getitem__(self, index: int) -> Params:  # type: ignore[override]
            alive = {id(one()) for one in held} - {id(None)}
            self.most = max(self.most, len(alive) // len(self.networks[0]))
            return super().__getitem__(index)

    monkeypatch.setattr(principal._Rows, "_read", counted)
    networks = Watching(walk(0, 6))
    principal_components(networks.networks[-1], networks, memory=1)
    assert networks.most == 1


@given(seed=st.integers(0, 10**6), length=st.integers(3, 8), scale=st.floats(1e-3, 1e3), sparse=st.booleans())
def test_what_holds_for_every_path(seed: int, length: int, scale: float, sparse: bool) -> None:
    networks = walk(seed, length)
    mask = MASK if sparse else None
    plane = trajectory_plane(networks[-1], networks[:-1], mask=mask or "none")
    path = np.stack([plane.path.alpha, plane.path.beta])
    assert path.shape == (2, length)
    np.testing.assert_array_equal(path[:, -1], 0)
    assert not np.signbit(path[:, -1]).any()
    first, second = plane.explained_variance
    assert 1 >= first >= second > 0
    assert first + second <= 1 + 1e-12
    assert (path.max(1) >= -path.min(1) * (1 - 1e-6)).all()
    directions = np.stack([flat(one) for one in plane.components])
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-6)
    # The unexplained variance is what stays after projecting the displacements from their mean.
    rows = np.stack([masked(flat(one) - flat(networks[-1]), mask) for one in networks])
    rows -= rows.mean(0)
    residual = rows - rows @ directions.T @ directions
    np.testing.assert_allclose((residual**2).sum() / (rows**2).sum(), 1 - first - second, atol=1e-5)
    # Scaling all weights scales distances and nothing else; another origin moves nothing.
    larger = [{name: scale * value for name, value in one.items()} for one in networks]
    other = trajectory_plane(larger[-1], larger[:-1], mask=mask or "none")
    np.testing.assert_allclose(other.path.alpha, scale * path[0], rtol=1e-7, atol=1e-8 * scale)
    shifted = [{name: value + 1.5 for name, value in one.items()} for one in networks]
    other = trajectory_plane(shifted[-1], shifted[:-1], mask=mask or "none")
    np.testing.assert_allclose(other.path.beta, path[1], atol=1e-8)
    np.testing.assert_allclose(other.explained_variance, plane.explained_variance, rtol=1e-7)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.integers(3, 60), st.floats(0.01, 4))
def test_the_axis_holds_the_path_and_the_network(path: list[float], points: int, span: float) -> None:
    axis = path_axis(np.array([*path, 0.0]), points, span)
    assert axis.shape == (points,)
    assert (np.diff(axis) > 0).all()
    assert np.count_nonzero(axis == 0) == 1
    slack = 1e-9 * max(1e-300, np.ptp([*path, 0.0]))
    assert axis[0] <= min(0, *path) + slack
    assert axis[-1] >= max(0, *path) - slack


def test_the_axis_has_the_margin_that_it_states() -> None:
    axis = path_axis(np.array([8.0, -2.0, 0.0]), 61, 1.0)
    np.testing.assert_allclose([axis[0], axis[-1]], [-4.5, 10.5], atol=0.25)
    assert path_axis(np.array([1.0, 0.0]), 1, 1.0).tolist() == [0.0]
    assert 0.0 in path_axis(np.array([1.0, 0.0]), 2, 1.0)


def test_a_final_network_at_the_end_is_not_counted_twice() -> None:
    networks = walk(1, 5)
    with_it, without = (trajectory_plane(networks[-1], part) for part in (networks, networks[:-1]))
    np.testing.assert_array_equal(with_it.path.alpha, without.path.alpha)
    assert with_it.path.labels == without.path.labels == ("0", "1", "2", "3", "final")


def test_two_networks_make_a_line_and_no_plane() -> None:
    first, final = walk(2, 2)
    plane = trajectory_plane(final, [first])
    assert len(plane.components) == 1
    assert plane.explained_variance == (1.0,)
    np.testing.assert_allclose(plane.path.alpha, [np.linalg.norm(flat(first) - flat(final)), 0], rtol=1e-12)
    assert len(plane.directions(final, None, 1)) == 1
    with pytest.raises(UserError, match=r"2 networks of the trajectory lie on one line.*--dim 1"):
        plane.directions(final, None, 2)


def straight(final: Params, shares: Sequence[float], way: Params) -> list[Params]:
    return [{name: value + share * way[name] for name, value in final.items()} for share in shares]


def test_three_networks_on_a_line_make_no_plane_either() -> None:
    final, way = walk(5, 2)
    plane = trajectory_plane(final, straight(final, [1.0, 0.4, -0.2], way))
    assert len(plane.components) == 1
    size = np.linalg.norm(flat(way))
    np.testing.assert_allclose(plane.path.alpha, size * np.array([1.0, 0.4, -0.2, 0.0]), atol=1e-10)


@pytest.mark.parametrize(
    ("networks", "text"),
    [
        ([], "holds no network"),
        ([walk(1, 1)[0]], "all equal the final one"),
        ([{"conv": torch.zeros(3, 2, 2)}], "0: the other checkpoint lacks"),
        ([{**walk(1, 1)[0], "bias": torch.zeros(4)}], r"0: the other checkpoint has shape \(4,\)"),
        ([{**walk(1, 1)[0], "bias": torch.full((3,), torch.nan)}], "0: the weights aren't finite"),
    ],
)
def test_bad_trajectories_are_refused(networks: list[Params], text: str) -> None:
    with pytest.raises(UserError, match=text):
        trajectory_plane(walk(1, 1)[0], networks)


def test_another_mask_than_the_plane_was_made_with_is_refused() -> None:
    networks = walk(4, 4)
    plane = trajectory_plane(networks[-1], networks[:-1], mask="none")
    with pytest.raises(UserError, match="with the same mask"):
        plane.directions(networks[-1], MASK, 2)
    assert (
        len(trajectory_plane(networks[-1], networks[:-1], mask=MASK).directions(networks[-1], MASK, 2)) == 2
    )


def way_of(seeds: Sequence[int]) -> list[dict[str, Tensor]]:
    return [dict(small_network(seed, pruned=0.0).named_parameters()) for seed in seeds]


def plane_of(model: torch.nn.Module) -> TrajectoryPlane:
    return trajectory_plane(dict(model.named_parameters()), way_of([1, 2, 3]), labels=["a", "b", "c"])


def test_the_surface_has_the_losses_of_networks_in_the_plane(tmp_path: Any) -> None:
    model = small_network(0, pruned=0.0)
    first, second = way_of([1, 2])
    plane = trajectory_plane(dict(model.named_parameters()), [first, second])  # a plane holds three networks
    surface = compute_surface(
        model, examples(), plane=plane, points=(7, 5), batch_norm="recalibrate", dtype="float64",
        path=tmp_path / "one.h5",
    )  # fmt: skip
    assert surface.center is not None
    stored = load_surface(tmp_path / "one.h5").planes[0].path
    assert stored is not None
    np.testing.assert_array_equal(stored.alpha, plane.path.alpha)
    assert stored.labels == ("0", "1", "final")
    assert surface.planes[0].about["explained_variance"] == list(plane.explained_variance)
    # Where a recorded network lies in the plane, the loss is its own.
    for index, network in enumerate((first, second)):
        other = small_network(0, pruned=0.0)
        other.load_state_dict({**other.state_dict(), **network})
        expected = compute_surface(
            other, examples(), points=1, batch_norm="recalibrate", dtype="float64", plane=RandomPlane()
        ).loss
        at = _At(plane, float(stored.alpha[index]), float(stored.beta[index]))
        found = compute_surface(
            model, examples(), plane=at, points=1, batch_norm="recalibrate", dtype="float64"
        )  # fmt: skip
        np.testing.assert_allclose(found.loss, expected, rtol=1e-5)


class _At:
    """One point of a plane."""

    def __init__(self, plane: TrajectoryPlane, alpha: float, beta: float) -> None:
        self.plane, self.alpha, self.beta = plane, alpha, beta

    def directions(self, params: Any, mask: Any, dim: int) -> list[Params]:
        first, second = self.plane.directions(params, mask, 2)
        return [{name: self.alpha * value + self.beta * second[name] for name, value in first.items()}]

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        return np.ones(1)

    def about(self) -> dict[str, Any]:
        return self.plane.about()


def test_a_line_shows_the_path_along_it() -> None:
    model = small_network(0, pruned=0.0)
    surface = compute_surface(model, examples(), plane=plane_of(model), points=5, dim=1)
    path = surface.planes[0].path
    assert path is not None
    assert path.beta.tolist() == [0.0] * 4
    assert surface.alpha[0] < path.alpha.min()
    assert surface.alpha[-1] > path.alpha.max()


def test_the_picture_shows_path_and_variances() -> None:
    model = small_network(0, pruned=0.0)
    surface = compute_surface(model, examples(), plane=plane_of(model), points=5)
    figure = plot_surfaces([surface])
    path = surface.planes[0].path
    assert path is not None
    (contour,) = [axes for axes in figure.axes if axes.get_ylabel().startswith("β") and axes.name != "3d"]
    lines = [line.get_xydata() for line in contour.lines]
    assert any(np.array_equal(one, np.stack([path.alpha, path.beta], axis=1)) for one in lines)
    shares = surface.planes[0].about["explained_variance"]
    assert contour.get_xlabel() == f"α (PC 1, {100 * shares[0]:.3g} %)"
    assert contour.get_ylabel() == f"β (PC 2, {100 * shares[1]:.3g} %)"
    assert "path, from its start" in [text.get_text() for text in figure.legends[0].get_texts()]
    plot_surfaces([compute_surface(model, examples(), plane=plane_of(model), points=5, dim=1)])


@pytest.mark.parametrize(
    ("params", "networks", "words"),
    [
        (walk(0, 3), walk(0, 1)[0], "params is a list of dict; .*; the two are swapped"),
        ({"a": walk(0, 3)}, walk(0, 1)[0], "params is a dict of list; .*; the two are swapped"),
        (walk(0, 3), walk(0, 3), r"params is a list of dict; expected trajectory_plane\(params, networks\)"),
        (torch.nn.Linear(2, 2), walk(0, 3), "params is a Linear; expected"),
        ({}, walk(0, 3), "params is a dict that is empty; expected"),
        (walk(0, 1)[0], walk(0, 1)[0], r"networks is one network; expected a sequence of them, as in \["),
        (walk(0, 1)[0], iter(walk(0, 3)), "networks is a list_iterator; expected a sequence"),
        (walk(0, 1)[0], "way.pt", "networks is a str; expected a sequence"),
        (walk(0, 1)[0], [torch.nn.Linear(2, 2)], "networks holds a Linear; expected tensors by"),
        (walk(0, 1)[0], {"a": ["x.pt"]}, "a holds a str; expected tensors by"),
        (walk(0, 1)[0], {"a": 3}, "a is a int; expected a sequence"),
        (walk(0, 1)[0], [{"conv": 3}], "networks holds a dict of int; expected tensors by"),
        (walk(0, 1)[0], [], "holds no network"),
    ],
)
def test_other_arguments_end_in_one_line(params: Any, networks: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        trajectory_plane(params, networks)
    assert "\n" not in str(error.value)
