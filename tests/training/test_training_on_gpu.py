"""Training on a pretended GPU: every method and optimizer, stopped and gone on, ends as on the CPU."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import nullcontext, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import SMALL, Silent, Stop
from pretended_gpu import PretendedGpu, pretended_gpu
from torch import Tensor, nn

from landscape.checkpoint.format import Checkpoint
from training import loop, models, step
from training.__main__ import main
from training.checkpoint import RunFolder
from training.data import Images, load_splits
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
FEW = {"update_interval": 1, "interval": 1, "rounds": 2}  # steps, epochs or rounds, of methods that have them
PAIRS = [*zip(METHODS, cycle(OPTIMIZERS), strict=False)]


def small(num_classes: int = 10) -> nn.Module:
    """Two convolutions: what is looked at hangs on no number of layers."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)),
    )


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "small", small)


def configured(method: str, optimizer: str, **changes: Any) -> Any:
    kind = METHODS[method]
    names = {one.name for one in dataclasses.fields(kind)}
    options: dict[str, Any] = {name: value for name, value in FEW.items() if name in names}
    if "sparsity" in names:
        options["sparsity"] = 0.5
    return dataclasses.replace(
        SMALL,
        **{"model": "small", "widths": None, "epochs": 2, "batch_size": 24, "warmup": 0.0} | changes,
        method=kind(**options),
        optimizer=OPTIMIZERS[optimizer](lr=0.05),  # type: ignore[call-arg]
    )


def fit(config: Any, path: Path, device: torch.device, npz: Path, reporter: Any = None) -> Checkpoint:
    data = load_splits(f"npz:{npz}", config.validation, config.seed, device)
    folder = RunFolder(path, config.to_dict(data.name))
    return loop.train(config, data, folder, device, reporter or Silent(), loop.Extras(sparse="off"))


@pytest.mark.parametrize(("method", "optimizer"), PAIRS, ids=["-".join(one) for one in PAIRS])
def test_every_method_and_optimizer_stopped_and_gone_on(
    method: str, optimizer: str, tiny_npz: Path, tmp_path: Path
) -> None:
    config = configured(method, optimizer)
    with pretended_gpu() as gpu:
        with suppress(KeyboardInterrupt):
            fit(config, tmp_path / "gpu", CUDA, tiny_npz, Stop(1))
        assert (tmp_path / "gpu" / "last.pt").exists()
        found = fit(config, tmp_path / "gpu", CUDA, tiny_npz)
    assert not gpu.unguarded
    expected = fit(config, tmp_path / "cpu", CPU, tiny_npz)
    for name, value in expected.state_dict.items():
        torch.testing.assert_close(found.state_dict[name], value, rtol=1e-4, atol=1e-6)
    assert found.mask.keys() == expected.mask.keys()
    assert all(torch.equal(found.mask[name], kept) for name, kept in expected.mask.items())
    assert found.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "s2sam"])
def test_no_step_waits_for_the_device(optimizer: str, tiny_npz: Path, tmp_path: Path) -> None:
    def waits(batch_size: int) -> Counter[str]:
        config = configured("random", optimizer, batch_size=batch_size, epochs=1)
        with pretended_gpu() as gpu:
            fit(config, tmp_path / str(batch_size), CUDA, tiny_npz)
        # Copies of indices are staged; events of the clock are asked for when the epoch is over.
        staged = "copy from cpu to cuda", "synchronize"
        return Counter({name: count for name, count in gpu.waits.items() if name not in staged})

    assert waits(18) == waits(12)  # four steps, and six; the third is compared with its CUDA graph


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_the_command_on_a_gpu_that_is_named(precision: str, tiny_npz: Path, tmp_path: Path) -> None:
    words = ["--model", "small", "--data", f"npz:{tiny_npz}", "--epochs", "1", "--device", "cuda:0"]
    with pretended_gpu() as gpu:
        main([*words, "--precision", precision, "--output", str(tmp_path)])
    assert not gpu.unguarded
    assert RunFolder(tmp_path, {}).final.exists()


def test_planted_labels_left_with_the_host(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Images.shuffled
    monkeypatch.setattr(
        Images, "shuffled", lambda self, *a, **k: ((x, y.cpu()) for x, y in usual(self, *a, **k))
    )
    with pretended_gpu(), pytest.raises(RuntimeError, match="on the same device"):
        fit(configured("random", "sgd"), tmp_path, CUDA, tiny_npz)


def test_planted_steps_that_wait_and_forgotten_precision_are_seen(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(self: step.Closure, sync: bool = True) -> Tensor:
        found = usual(self, sync)
        found.item()
        return found

    def seen(name: str) -> PretendedGpu:
        with pretended_gpu() as gpu:
            fit(configured("random", "sgd", epochs=1), tmp_path / name, CUDA, tiny_npz)
        return gpu

    usual, before = step.Closure.__call__, seen("before").waits["_local_scalar_dense"]
    monkeypatch.setattr(step.Closure, "__call__", waiting)
    assert seen("waits").waits["_local_scalar_dense"] == before + 3
    monkeypatch.setattr(loop, "numerics", lambda precision: nullcontext())
    assert seen("unguarded").unguarded
