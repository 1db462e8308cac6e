"""Earlier spectra, maps and curves of other functions are refused; losses that draw are, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hessian_cases import seeded
from torch import Tensor, nn

from analysis.connectivity import connect
from analysis.curvature import Plan, curvature_map
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.errors import UserError


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 5, generator=generator), torch.arange(9) % 3


def squares(model: Any, batch: Any) -> tuple[Tensor, int]:
    return (model(batch[0]) - 1).square().mean(1), len(batch[0])


def quartics(model: Any, batch: Any) -> tuple[Tensor, int]:
    return (model(batch[0]) - 1).square().square().mean(1), len(batch[0])


quartics.__qualname__ = squares.__qualname__ = "loss"
CPU: dict[str, Any] = {"device": "cpu"}


def test_a_spectrum_of_another_loss_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(5, 3)
    options: dict[str, Any] = {"top": 1, "density_probes": 0, "path": tmp_path / "a.hessian.h5", **CPU}
    first = hessian_spectrum(model, data(), loss=squares, **options)
    again = hessian_spectrum(model, data(), loss=squares, **options)
    assert again.top.values[0] == first.top.values[0]
    with pytest.raises(UserError, match="the loss: the file has another function"):
        hessian_spectrum(model, data(), loss=quartics, **options)


def test_a_map_of_another_loss_is_refused() -> None:
    model = nn.Linear(5, 3)
    surface = compute_surface(model, data(), loss=squares, points=3, **CPU)
    with pytest.raises(UserError, match="computed with other functions"):
        curvature_map(surface, model, data(), loss=quartics, plan=Plan(5), **CPU)


def test_a_curve_of_another_loss_is_refused(tmp_path: Path) -> None:
    ends = seeded(lambda: nn.Linear(5, 3), 0), seeded(lambda: nn.Linear(5, 3), 1)
    options: dict[str, Any] = {"curves": ["linear"], "points": 3, "path": tmp_path / "c", **CPU}
    first = connect(*ends, data(), loss=squares, **options)
    again = connect(*ends, data(), loss=squares, **options)
    assert (again.surfaces["linear"].loss == first.surfaces["linear"].loss).all()
    with pytest.raises(UserError, match="the loss: the file has another function"):
        connect(*ends, data(), loss=quartics, **options)


def test_functional_dropout_is_refused() -> None:
    def noisy(model: Any, batch: Any) -> tuple[Tensor, int]:
        return F.cross_entropy(F.dropout(model(batch[0])), batch[1], reduction="none"), len(batch[0])

    model = nn.Linear(5, 3)
    with pytest.raises(UserError, match="dropout stays on in evaluation mode"):
        HessianOperator(model, data(), loss=noisy)
    with pytest.raises(UserError, match="dropout stays on in evaluation mode"):
        sharpness(model, data(), loss=noisy, measures=["sam"])
