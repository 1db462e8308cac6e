"""How far other examples would lead: the interval over examples of eigenvalues and trace."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from analysis.hessian import HessianOperator, hessian_spectrum, load_spectrum
from analysis.hessian.result import Spectrum
from analysis.hessian.sampled import spread_over_examples
from analysis.hessian.spectrum_table import table, to_json
from landscape.losses import regression
from landscape.surface import Json

OPTIONS: Json = {"top": 2, "bottom": 0, "density_probes": 0, "device": "cpu", "dtype": "float64"}


def inputs(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([3.0, 1.0, 1.0, 0.5, 0.3, 0.1], dtype=torch.float64)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64) * scales


def spectrum(x: Tensor, path: Path | None = None) -> Spectrum:
    model = nn.Linear(6, 1, bias=False)
    return hessian_spectrum(model, (x, torch.zeros(len(x), 1)), loss=regression, path=path, **OPTIONS)


def test_equals_the_closed_form_of_a_quadratic_loss() -> None:
    x = inputs(400, 0)
    found = spectrum(x)
    hessian = 2 * (x.T @ x).numpy() / len(x)
    values, vectors = np.linalg.eigh(hessian)
    np.testing.assert_allclose(found.top.values, values[::-1][:2], rtol=1e-6)
    factor = float(stdtrit(19, 0.975))
    for place in (0, 1):
        blocks = (2 * (x.numpy() @ vectors[:, -1 - place]) ** 2).reshape(20, 20).mean(1)
        expected = factor * blocks.std(ddof=1) / math.sqrt(20)
        assert found.top.over_examples[place] == pytest.approx(expected, rel=1e-3)
    traces = (2 * x.square().sum(1)).numpy().reshape(20, 20).mean(1)
    assert found.trace_over_examples == pytest.approx(factor * traces.std(ddof=1) / math.sqrt(20), rel=0.2)


def test_tells_the_scatter_between_draws() -> None:
    draws = [spectrum(inputs(256, seed)) for seed in range(40)]
    scatter = np.std([one.top.values[0] for one in draws], ddof=1)
    told = np.mean([one.top.over_examples[0] for one in draws]) / float(stdtrit(19, 0.975))
    assert told == pytest.approx(scatter, rel=0.3)
    scatter = np.std([one.trace.value for one in draws], ddof=1)
    told = np.mean([one.trace_over_examples for one in draws]) / float(stdtrit(19, 0.975))
    assert told == pytest.approx(scatter, rel=0.3)


def test_is_kept_and_shown(tmp_path: Path) -> None:
    found = spectrum(inputs(100, 0), tmp_path / "a.hessian.h5")
    again = load_spectrum(tmp_path / "a.hessian.h5")
    np.testing.assert_array_equal(again.top.over_examples, found.top.over_examples)
    assert again.trace_over_examples == found.trace_over_examples
    assert again.top.errors()[0] == found.top.over_examples[0] > found.top.residuals[0]
    cells = next(iter(table([found]).columns[1].cells))
    assert f"± {found.top.over_examples[0]:.2g}" in str(cells)
    assert "over_examples" in to_json([found], [tmp_path])


def test_forms_are_those_of_every_block() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
    x, y = torch.randn(25, 1, 6, 6, dtype=torch.float64), torch.arange(25) % 3
    for size in (1, 4, 25):
        operator = HessianOperator(model, (x, y), dtype="float64", batch_size=size)
        assert operator.about["folded"]
        vectors = torch.randn(operator.size, 2, dtype=torch.float64)
        forms, counts = operator.forms(vectors)
        assert counts.sum() == 25
        products = operator.multiply(vectors)
        np.testing.assert_allclose(counts @ forms / 25, (vectors * products).sum(0).numpy(), rtol=1e-9)
        start = 0
        for block, count in zip(forms, counts, strict=True):
            part = x[start : start + count], y[start : start + count]
            alone = HessianOperator(model, part, dtype="float64", derivatives="exact")
            expected = (vectors * alone.multiply(vectors)).sum(0)
            np.testing.assert_allclose(block, expected.numpy(), rtol=1e-8)
            start += count
    slow = HessianOperator(model, (x, y), dtype="float64", derivatives="differences")
    np.testing.assert_allclose(slow.forms(vectors)[0].mean(0), forms.mean(0), rtol=0.2)


def test_one_batch_tells_nothing() -> None:
    (one,) = spread_over_examples(np.array([[3.0]]), np.array([7]))
    assert one.value == 3.0
    assert math.isnan(one.error)
