"""Modes in which the caller stands make no difference: autocast, inference mode, precision, device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.connectivity import connect
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(70, 64), torch.randint(3, (70,))


Compute = Callable[[nn.Module, nn.Module, tuple[Tensor, Tensor]], Any]
ALL: dict[str, Compute] = {
    "surface": lambda one, two, of: compute_surface(one, of, points=3, device="cpu").loss,
    "connect": lambda one, two, of: (
        connect(one, two, of, points=3, device="cpu", curves=["linear"]).surfaces["linear"].loss
    ),
    "operator": lambda one, two, of: HessianOperator(one, of, params="2.*") @ np.ones(195, np.float32),
    "hessian": lambda one, two, of: (
        hessian_spectrum(one, of, params="2.*", top=1, density_probes=0).top.values
    ),
    "sharpness": lambda one, two, of: [
        found.value for found in sharpness(one, of, measures=["sam", "gaussian", "fisher_rao"]).values()
    ],
}


@cache
def expected(name: str) -> Any:
    return np.asarray(ALL[name](network(0), network(1), data()))


@contextmanager
def low_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "products": low_products,
    "meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
def test_the_callers_modes_make_no_difference(name: str, mode: str) -> None:
    given = network(0), network(1), data()
    with MODES[mode]():
        found = np.asarray(ALL[name](*given))
    np.testing.assert_array_equal(found, expected(name))


@pytest.mark.parametrize("name", ALL)
def test_tensors_that_were_made_in_inference_mode(name: str) -> None:
    with torch.inference_mode():
        given = network(0), network(1), data()
    np.testing.assert_array_equal(np.asarray(ALL[name](*given)), expected(name))
