"""Whatever isn't the surface's is refused in one line; directions come again as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hessian_cases import seeded
from torch import Tensor, nn

from analysis.curvature import Plan, curvature_map
from analysis.curvature.directions import plane_directions
from landscape import GivenPlane, RandomPlane, compute_surface
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import regression
from landscape.surface import Surface

OPTIONS: dict[str, Any] = {"device": "cpu", "dtype": "float64"}
MASK = {"0.weight": torch.tensor([[True, False], [True, True]])}


def network(seed: int = 0) -> nn.Module:
    """12 parameters, one of them pruned."""
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), seed)
    with torch.no_grad():
        model[0].weight.mul_(MASK["0.weight"])  # type: ignore[index,operator]
    return model


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Eleven examples of two classes."""
    inputs = torch.randn(11, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long()


def surface(**options: Any) -> Surface:
    given = {"mask": MASK, "points": 3, "dim": 1, **OPTIONS, **options}
    return compute_surface(network(), {"train": data(), "test": data(1)}, **given)


def refused(found: Surface, **changes: Any) -> str:
    """The line that refuses."""
    given: dict[str, Any] = {"model": network(), "data": {"train": data(), "test": data(1)}, "mask": MASK}
    given |= {"plan": Plan(max_points=3)} | OPTIONS | changes
    with pytest.raises(UserError) as error:
        curvature_map(found, **given)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_others_are_refused() -> None:
    found = surface()
    assert "other weights" in refused(found, model=network(1))
    assert "the 11 train examples" in refused(found, data={"train": data(2)})
    assert "the 11 train examples" in refused(found, data={"train": tuple(one[:5] for one in data())})
    assert "no examples for the split 'train'" in refused(found, data={"test": data(1)})
    assert "no split 'validation'" in refused(found, split="validation")
    assert "isn't the surface's mask" in refused(found, mask={"0.weight": torch.ones(2, 2) > 0})
    assert "isn't the surface's mask" in refused(found, mask="none")
    assert "of the loss 'classification'" in refused(found, loss=regression)
    assert "no plane 1" in refused(found, planes=[1])
    assert "no plane -1" in refused(found, planes=[-1])
    assert "unfinished" in refused(replace(found, complete=False))
    for count in (0, 12):
        assert f"examples {count}: expected 1 to 11" in refused(found, examples=count)
    recalibrated = surface(batch_norm="recalibrate")
    assert "choose that split" in refused(recalibrated, split="test")


def test_batches_are_not_cut() -> None:
    batches = Examples.from_batches([data()])
    found = compute_surface(network(), batches, mask=MASK, points=3, dim=1, **OPTIONS)
    assert "given batches" in refused(found, data=batches, examples=5)


def test_a_map_of_other_settings_is_in_the_way() -> None:
    given: dict[str, Any] = {"mask": MASK, "plan": Plan(max_points=3), **OPTIONS}
    found = curvature_map(surface(), network(), {"train": data()}, **given)
    said = refused(found, plan=Plan(max_points=2))
    assert "points: the file has" in said
    assert "--overwrite" in said
    assert "examples: the file has" in refused(found, examples=5)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"max_points": 0}, "max_points must be at least 1"),
        ({"tolerance": 0.0}, "tolerance must lie"),
        ({"eigenvalue_tolerance": 1.0}, "eigenvalue_tolerance must lie"),
        ({"max_products": 0}, "max_products must be at least 1"),
    ],
)
def test_numbers_without_sense(plan: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Plan(**plan)


@pytest.mark.parametrize("normalize", ["filter", "layer", "none"])
@pytest.mark.parametrize("skip_vectors", [True, False])
def test_random_directions_come_again(normalize: Any, skip_vectors: bool) -> None:
    plane = RandomPlane(7, normalize, skip_vectors)
    kept = surface(plane=plane, keep_directions=True, dim=2)
    params = {name: one.detach() for name, one in network().named_parameters()}
    anew = plane_directions(surface(plane=plane, dim=2), 0, params, MASK)
    for axis, stored in zip(anew, kept.planes[0].directions, strict=True):
        assert list(axis) == list(params)
        for name, one in axis.items():
            np.testing.assert_array_equal(one.numpy(), stored[name])


def test_directions_that_cannot_be_had() -> None:
    given = GivenPlane([{name: torch.ones_like(one) for name, one in network().named_parameters()}])
    assert "--keep-directions" in refused(surface(plane=given))
    found = surface()
    planes = [found.settings["planes"][0] | {"digest": "another"}]
    assert "come out differently" in refused(replace(found, settings=found.settings | {"planes": planes}))
    curve = replace(found.planes[0], about={"kind": "curve"})
    assert "a curve of analysis.connectivity has no curvature map" in refused(replace(found, planes=(curve,)))
