"""The same on a real GPU, where there is one: CUDA's own kernels, graphs and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_examples_on_gpu import pixels
from test_pretended_gpu import data, directions, engine, losses, network

import landscape.examples
from analysis.hessian import HessianOperator
from landscape.engine import Engine
from landscape.losses import LossResult, classification

pytestmark = pytest.mark.gpu

TOLERANCES = {"float32": 1e-5, "tf32": 1e-2, "bfloat16": 5e-2, "float64": 1e-10}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_captured_points_equal_the_cpus_and_themselves(dtype: str) -> None:
    one = engine("cuda", dtype=dtype)
    found = losses(one)
    assert one.about["cuda_graph"] is True
    assert found == losses(one) == losses(engine("cuda", dtype=dtype))
    expected = losses(engine("cpu", dtype="float32" if dtype == "tf32" else dtype))
    assert found == pytest.approx(expected, rel=TOLERANCES[dtype])


def test_other_directions_without_another_capture() -> None:
    one = engine("cuda")
    assert one.set_directions(directions(3))
    assert losses(one) == losses(engine("cuda", seed=3))


def test_every_gpu_of_the_machine() -> None:
    found = [losses(engine(f"cuda:{number}")) for number in range(torch.cuda.device_count())]
    assert all(one == pytest.approx(found[0], rel=1e-5) for one in found)


def test_batch_norm_estimated_anew() -> None:
    expected = losses(engine("cpu", batch_norm="recalibrate"))
    assert losses(engine("cuda", batch_norm="recalibrate")) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_waits_leaves_nothing_broken() -> None:
    def waiting(model: Any, batch: Any) -> LossResult:
        values, count, *_ = classification(model, batch)
        return values + 0.0 * values.sum().item(), count

    one = engine("cuda", waiting)
    assert str(one.about["cuda_graph"]).startswith("no:")
    assert losses(one) == pytest.approx(losses(engine("cuda")), rel=1e-5)
    assert torch.cuda.get_sync_debug_mode() == 0


def test_bytes_on_the_device_or_with_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[float]:
        one = Engine(network(), {"test": pixels()}, classification, directions(), device="cuda", batch_size=7)
        graphs.append(one.about["cuda_graph"])
        return losses(one)

    graphs: list[Any] = []
    there = found()
    monkeypatch.setattr(landscape.examples, "free_bytes", lambda device: 0)
    assert found() == there
    assert graphs[0] is True
    assert str(graphs[1]).startswith("no: the examples don't fit")


def test_hessian_products_with_and_without_kept_graphs() -> None:
    vector = np.linspace(-1.0, 1.0, HessianOperator(network(), data()).size, dtype=np.float32)
    found = [
        HessianOperator(network(), data(), device="cuda", memory=memory) @ vector for memory in (None, 0)
    ]
    assert (found[0] == found[1]).all()
    np.testing.assert_allclose(found[0], HessianOperator(network(), data()) @ vector, rtol=1e-3, atol=1e-5)
