"""Planes of a user's own: what they give is checked, and what they are shown isn't the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.losses import LossResult


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(20, 4), torch.randint(3, (20,))


class Own:
    """Along all ones, and along every second one."""

    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> list[dict[str, Tensor]]:
        ones = {name: torch.ones_like(one) for name, one in params.items()}
        return [
            ones,
            {name: one * (torch.arange(one.numel()).view_as(one) % 2) for name, one in ones.items()},
        ]

    def axis(self, index: int, points: int, span: float) -> Any:
        return [-0.1, 0, 0.1]

    def about(self) -> dict[str, Any]:
        return {"kind": "own"}


def surface(plane: Any, model: nn.Module | None = None, **options: Any) -> Any:
    return compute_surface(model or network(), data(), plane=plane, points=3, device="cpu", **options)


def test_a_plane_of_ones_own() -> None:
    found = surface(Own(), mask="none")
    model = network().double()
    with torch.no_grad():
        for one in model.parameters():
            one += 0.1 - 0.1 * (torch.arange(one.numel()).view_as(one) % 2)
        expected = float(F.cross_entropy(model(data()[0].double()), data()[1]))
    assert found.loss[2, 0] == pytest.approx(expected, rel=1e-6)
    assert found.alpha.tolist() == [-0.1, 0.0, 0.1]


class Writing(Own):
    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> list[dict[str, Tensor]]:
        for one in params.values():
            one.mul_(2)
        return super().directions(params, mask, dim)


def test_what_a_plane_is_shown_is_a_copy() -> None:
    model = network()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    np.testing.assert_array_equal(surface(Writing(), model).loss, surface(Own()).loss)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


class Short(Own):
    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> list[dict[str, Tensor]]:
        return super().directions(params, mask, dim)[:1]


class Fresh(Own):
    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> list[dict[str, Tensor]]:
        return [{name: torch.randn_like(one) for name, one in params.items()} for _ in range(dim)]


class Infinite(Own):
    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> list[dict[str, Tensor]]:
        return [{name: one / 0 for name, one in params.items()} for _ in range(dim)]


class Axis(Own):
    def __init__(self, *places: float) -> None:
        self.places = places

    def axis(self, index: int, points: int, span: float) -> Any:
        return np.array(self.places)


class Given(Own):
    """Whose methods give what was given, or what a given function does."""

    path = "runs/of/mine"

    def __init__(self, **given: Any) -> None:
        self.given = given

    def _given(self, name: str, otherwise: Any) -> Any:
        found = self.given.get(name, otherwise)
        return found() if callable(found) else found

    def directions(self, params: Mapping[str, Tensor], mask: Any, dim: int) -> Any:
        return self._given("directions", super().directions(params, mask, dim))

    def axis(self, index: int, points: int, span: float) -> Any:
        return self._given("axis", super().axis(index, points, span))

    def about(self) -> Any:
        return self._given("about", super().about())


def test_directions_may_come_one_by_one() -> None:
    two = Own().directions(dict(network().named_parameters()), None, 2)
    for given in (lambda: iter(two), tuple(two), dict(enumerate(two)).values()):
        np.testing.assert_array_equal(surface(Given(directions=given)).loss, surface(Own()).loss)


def failing() -> Any:
    raise ZeroDivisionError("mine")


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (Given(directions=lambda: None), "a plane of one NoneType; expected a list, one mapping"),
        (
            Given(directions={"0.weight": torch.ones(6, 4)}),
            "a plane of one dict; expected a list, one mapping",
        ),
        (Given(directions=[[1], [2]]), "a plane of a list; expected tensors by parameter name"),
        (Given(directions=torch.ones(2, 51)), "a plane of a Tensor; expected tensors by parameter name"),
        (Given(directions=[{"0.weight": np.ones((6, 4))}] * 2), "'0.weight' is a ndarray; expected a tensor"),
        (Given(directions=[{"0.weight": torch.ones(6, 4).to_sparse()}] * 2), r"sparse tensor .*to_dense\(\)"),
        (Given(directions=failing), r"directions\(\) fails: ZeroDivisionError: mine \(test_own_planes"),
        (Given(directions=(failing() for _ in range(2))), r"directions\(\) fails: ZeroDivisionError: mine"),
        (Given(axis=["a", "b", "c"]), r"axis 0 is \['a', 'b', 'c'\]; expected finite coordinates, ascending"),
        (Given(axis=lambda: None), "expected finite coordinates, ascending"),
        (Given(axis=failing), r"axis\(\) fails: ZeroDivisionError: mine"),
        (Given(about=lambda: None), r"about\(\) gives a NoneType; expected a mapping"),
        (Given(about=failing), r"about\(\) fails: ZeroDivisionError: mine"),
        (Short(), r"gives 1 direction\(s\), 2 needed"),
        (Fresh(), "other directions each time"),
        (Infinite(), "isn't finite in '0.weight'"),
        (Axis(1, 0, -1), "expected finite coordinates, ascending"),
        (Axis(-1, -1, 1), "expected finite coordinates, ascending"),
        (Axis(-1, 0, np.nan), "expected finite coordinates, ascending"),
        (Axis(), "expected finite coordinates, ascending"),
    ],
)
def test_what_is_no_plane(plane: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        surface(plane)
    assert "\n" not in str(error.value)


def test_sparse_tensors_in_batches_of_ones_own() -> None:
    """A graph's adjacency matrix: the batch is never cut."""
    torch.manual_seed(2)
    edges = (torch.rand(20, 20) < 0.2).float().to_sparse()

    def loss(model: Any, batch: Any) -> LossResult:
        return F.cross_entropy(torch.sparse.mm(batch[0], model(batch[1])), batch[2], reduction="sum"), 20

    found = compute_surface(network(), [(edges, *data())], loss=loss, points=1, device="cpu")
    with torch.no_grad():
        expected = float(F.cross_entropy(edges.to_dense() @ network()(data()[0]), data()[1]))
    assert found.loss[0, 0] == pytest.approx(expected, rel=1e-5)
