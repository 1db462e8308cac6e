"""Arguments of the Python functions that can't be meant: one line each, and NumPy's numbers are numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import Settings, sharpness
from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.planes import BetweenPlane, GivenPlane, RandomPlane


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def data() -> Any:
    torch.manual_seed(1)
    return torch.randn(20, 4), torch.randint(3, (20,))


def surface(**options: Any) -> Any:
    return compute_surface(network(), **{"data": data(), "points": 3, "device": "cpu", **options})


def spectrum(**options: Any) -> Any:
    return hessian_spectrum(network(), data(), **{"density_probes": 0, "top": 1, **options})


def measured(**settings: Any) -> Any:
    return sharpness(network(), data(), measures=["sam", "gaussian"], settings=Settings(**settings))


def named(measures: Any) -> Any:
    return sharpness(network(), data(), measures=measures)


def test_measures_may_come_one_by_one() -> None:
    assert list(named(iter(["sam", "gaussian"]))) == ["sam", "gaussian"]


@pytest.mark.parametrize(
    ("compute", "options", "words"),
    [
        (surface, {"points": 3.0}, "points must be a whole number, got 3.0"),
        (surface, {"points": "3"}, "points must be a whole number, got '3'"),
        (surface, {"points": (3, 3, 3)}, "points must be a number or two"),
        (surface, {"points": True}, "points must be a whole number"),
        (surface, {"dim": 3}, "dim must be 1 for a line or 2 for a plane, got 3"),
        (surface, {"dim": 0}, "dim must be 1"),
        (surface, {"span": "1"}, "span must be a number, got '1'"),
        (surface, {"tolerance": None}, "tolerance must be a number, got None"),
        (surface, {"max_points": 2.5}, "max_points must be a whole number"),
        (surface, {"batch_size": 2.5}, "batch size must be a whole number"),
        (surface, {"params": 3}, "params 3: expected 'trainable'"),
        (surface, {"plane": "random"}, "plane 'r': expected an object with directions"),
        (surface, {"plane": RandomPlane}, "expected an object with directions"),
        (surface, {"plane": RandomPlane(seed=1.5)}, "seed must be a whole number"),  # type: ignore[arg-type]
        (surface, {"plane": GivenPlane({"0.weight": torch.ones(6, 4)})}, "one mapping for each axis"),  # type: ignore[arg-type]
        (surface, {"plane": GivenPlane([torch.ones(51)] * 2)}, "a plane of a Tensor; expected tensors by"),  # type: ignore[list-item]
        (surface, {"plane": GivenPlane([{"0.bias": np.ones(6)}] * 2)}, "'0.bias' is a ndarray; expected"),  # type: ignore[dict-item]
        (surface, {"plane": BetweenPlane(nn.Linear(4, 6))}, "a plane of a Linear; expected tensors by"),  # type: ignore[arg-type]
        (surface, {"mask": ["0.weight"]}, "the mask is a list; expected bool tensors by name"),
        (surface, {"path": 3}, "path 3: expected a file's name"),
        (surface, {"data": (data()[0].to_sparse(), data()[1])}, "a sparse tensor .*to_dense"),
        (surface, {"executor": 5}, r"the executor is a int; expected a concurrent.futures.Executor"),
        (surface, {"executor": ThreadPoolExecutor}, r"the executor is the class ThreadPoolExecutor"),
        (named, {"measures": 5}, "unknown measure 5; expected one of sam, "),
        (named, {"measures": None}, "unknown measure None; expected one of sam, "),
        (named, {"measures": [["sam"]]}, r"unknown measure \['sam'\]; expected one of sam, "),
        (spectrum, {"top": 1.5}, "top must be a whole number"),
        (spectrum, {"tolerance": "x"}, "tolerance must be a number"),
        (spectrum, {"max_probes": "many"}, "max_probes must be a whole number"),
        (spectrum, {"seed": 0.5}, "seed must be a whole number"),
        (measured, {"rho": 0.0}, "rho 0.0: expected a positive, finite number"),
        (measured, {"rho": -1.0}, "rho -1.0: expected a positive, finite number"),
        (measured, {"rho": float("nan")}, "rho nan: expected a positive"),
        (measured, {"sigma": 1e300}, r"sigma 1e\+300: expected at most"),
        (measured, {"eta": -1.0}, "eta -1.0: expected a finite number, 0 or more"),
        (measured, {"draws": 0}, "draws 0: expected at least 2"),
        (measured, {"steps": -1}, "steps -1: expected at least 1"),
        (measured, {"starts": 1.5}, "starts must be a whole number"),
        (measured, {"seed": -1}, "seed -1: expected at least 0"),
    ],
)
def test_what_cannot_be_meant(compute: Any, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        compute(**options)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy() -> None:
    plain = surface(points=3, span=0.5, plane=RandomPlane(seed=2)).loss
    numpy = surface(points=np.int64(3), span=np.float32(0.5), plane=RandomPlane(seed=np.int64(2)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(numpy.loss, plain)


def test_sharpness_keeps_to_exact_zeros_as_surfaces_do() -> None:
    """One step of SAM within the kept weights, against plain torch; "none" moves all."""
    model = network().double()
    with torch.no_grad():
        model[0].weight[torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) < 0.5] = 0  # type: ignore[index]
    inputs, labels = data()
    params = list(model.parameters())

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(model(inputs.double()), labels)

    before = loss()
    slopes = torch.autograd.grad(before, params)
    kept = [one != 0 if one.dim() > 1 else torch.ones_like(one, dtype=torch.bool) for one in params]
    expected = {}
    for name, masks in {"auto": kept, "none": [torch.ones_like(one) for one in kept]}.items():
        moves = [slope * mask for slope, mask in zip(slopes, masks, strict=True)]
        length = torch.cat([one.flatten() for one in moves]).norm()
        with torch.no_grad():
            for one, move in zip(params, moves, strict=True):
                one += 0.05 * move / length
            expected[name] = float(loss() - before)
            for one, move in zip(params, moves, strict=True):
                one -= 0.05 * move / length
    given = {"measures": ["sam"], "dtype": "float64"}
    found = sharpness(model, data(), **given)["sam"].value  # type: ignore[arg-type]
    assert found == pytest.approx(expected["auto"], rel=1e-6)
    found = sharpness(model, data(), mask="none", **given)["sam"].value  # type: ignore[arg-type]
    assert found == pytest.approx(expected["none"], rel=1e-6)
    assert expected["none"] > 1.01 * expected["auto"]


def test_an_operator_takes_masks_as_tensors_alone() -> None:
    with pytest.raises(UserError, match="the mask is 'auto'; expected bool tensors by name"):
        HessianOperator(network(), data(), mask="auto")  # type: ignore[arg-type]
