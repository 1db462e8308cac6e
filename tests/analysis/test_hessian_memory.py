"""Graphs that a GPU has no memory for: smaller batches before the first result, fewer kept ones after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import Tensor, nn

import analysis.hessian.operator as operator
from analysis.hessian import HessianOperator
from analysis.hessian.graph_memory import BATCH, default_memory, graph_fits
from landscape.commandline.console import guarded_command
from landscape.errors import UserError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 5, generator=generator), torch.arange(20) % 3


def full_when(full: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without memory for a graph of so many examples, when `full` says so."""
    usual = operator.differentiate

    def differentiate(network: Any, loss: Any, batch: Any) -> Any:
        if full(len(batch[0])):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return usual(network, loss, batch)

    monkeypatch.setattr(operator, "differentiate", differentiate)


def product(one: HessianOperator) -> np.ndarray[Any, Any]:
    return np.asarray(one @ np.linspace(-1.0, 1.0, one.size, dtype=np.float32))


def test_a_batch_that_does_not_fit_is_halved_before_the_first_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full_when(lambda examples: examples > 6, monkeypatch)
    with pretended_gpu():
        found = HessianOperator(network(), data(), device="cuda")
        assert found.about["batch_size"] == 5
        given = HessianOperator(network(), data(), device="cuda", batch_size=10)
        with pytest.raises(UserError, match=r"in batches of 10 doesn't fit the GPU's free memory; give a sm"):
            product(given)
        mine = product(found)
    monkeypatch.undo()
    np.testing.assert_allclose(mine, product(HessianOperator(network(), data(), batch_size=5)), rtol=1e-5)


def test_not_even_one_example_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu():
        full_when(lambda examples: True, monkeypatch)
        with pytest.raises(UserError, match="of a single example doesn't fit"):
            HessianOperator(network(), data(), device="cuda", derivatives="exact")


def test_kept_graphs_go_where_there_is_no_room_and_no_bit_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu():
        whole = HessianOperator(network(), data(), device="cuda", batch_size=5)
        expected = product(whole)
        assert whole.about["kept_batches"] == 4
        tight = HessianOperator(network(), data(), device="cuda", batch_size=5)
        full_when(lambda _: sum(one is not None for one in tight._graphs) > 1, monkeypatch)
        assert (product(tight) == expected).all()
        assert tight.about["kept_batches"] == 0
        assert (product(tight) == expected).all()


def test_what_graphs_may_take() -> None:
    assert default_memory(torch.device("cpu")) == 4 << 30
    with pretended_gpu():
        assert default_memory(torch.device("cuda")) == 5 << 30  # half of 8 free and 2 that are only cached
    assert graph_fits(4096, BATCH / 1000) == 512
    assert graph_fits(4096, 0.0) == 4096
    assert graph_fits(4096, 2.0 * BATCH) == 1


def test_a_full_gpu_ends_any_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, guarded_command():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the GPU's memory is full; end what else computes there, or give a smaller")
    assert said.count("\n") == 1
    with pytest.raises(RuntimeError, match="a mistake"), guarded_command():
        raise RuntimeError("a mistake")
