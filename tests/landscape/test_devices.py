"""Devices that aren't there, or that the toolkit doesn't compute on, are refused before anything begins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.hessian import HessianOperator
from landscape.commandline.gpus import devices_for, least_used
from landscape.compute import compute_surface
from landscape.devices import checked_device, choose_device, kind_of
from landscape.engine import Engine
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import classification
from landscape.provenance import describe_run
from training.distributed import joined

DATA = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_devices_that_are_there() -> None:
    assert [choose_device(one) for one in ("auto", "cpu", "cuda", "cuda:1")] == [
        "cuda",
        "cpu",
        "cuda",
        "cuda:1",
    ]
    assert checked_device(torch.device("cuda", 1)).index == 1


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "text"),
    {
        "cuda:7": "device 'cuda:7': only cuda:0 to cuda:1 are here",
        "mps": "device 'mps': only CPUs and CUDA are supported; use --device cpu",
        "xpu:1": "device 'xpu:1': only CPUs and CUDA are supported; use --device cpu",
        "meta": "device 'meta': only CPUs and CUDA are supported; use --device cpu",
        "toaster": "unknown device 'toaster'; expected auto, cpu, cuda or cuda:N",
    }.items(),
)
def test_others_are_refused_in_one_line(name: str, text: str) -> None:
    model = nn.Linear(3, 2)
    for refused in (
        lambda: choose_device(name),
        lambda: compute_surface(model, DATA, device=name),
        lambda: HessianOperator(model, DATA, device=name),
    ):
        with pytest.raises(UserError) as caught:
            refused()
        assert str(caught.value) == text


def test_the_engine_itself_refuses_them() -> None:
    with pytest.raises(UserError, match="device 'meta': only CPUs and CUDA"):
        Engine(
            nn.Linear(3, 2),
            {"test": Examples.from_tensors(*DATA)},
            classification,
            [],
            device=torch.device("meta"),
        )


@pytest.mark.usefixtures("two_gpus")
def test_jobs_that_run_together_take_the_gpu_that_the_fewest_use() -> None:
    assert devices_for("auto", 4) == devices_for("cuda", 4) == ["cuda:0", "cuda:1"]
    assert devices_for("cuda:1", 4) == ["cuda:1"]
    assert devices_for("auto", 1) == ["auto"]
    assert devices_for("cpu", 4) == ["cpu"]
    used: list[str] = []
    for _ in range(5):
        used.append(least_used(["cuda:0", "cuda:1", "cuda:2"], used))
    assert used == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]  # job i on GPU i mod 3
    assert least_used(["cuda:0", "cuda:1"], ["cuda:0", "cuda:0", "cuda:1"]) == "cuda:1"


@pytest.mark.usefixtures("two_gpus")
def test_a_training_takes_the_gpu_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with joined("cuda:1") as (_, device):
        assert [device] == current == [torch.device("cuda", 1)]
    with pytest.raises(UserError, match="only cuda:0 to cuda:1 are here"), joined("cuda:2"):
        pass


def test_results_know_a_kind_of_device_and_no_number() -> None:
    assert [kind_of(one) for one in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda"]
    surface = compute_surface(nn.Linear(3, 2), DATA, points=2, dim=1, device="cpu")
    assert surface.settings["engine"]["device"] == "cpu"


def test_a_run_on_a_cpu_neither_names_nor_touches_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which=None: f"Model of {which}")
    assert describe_run({}, {"device": "cpu"})["hardware"]["gpu"] is None
    assert describe_run({}, {"device": "cuda:1"})["hardware"]["gpu"] == "Model of cuda:1"
