"""What a run refuses, and what it doesn't hide: other data, numbers that aren't finite, a full disk."""

import dataclasses
import math
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, fit
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.errors import UserError
from training import masks
from training.checkpoint import RunFolder, save
from training.data import TrainingData, load_splits
from training.distributed import World, joined
from training.memory import restart_with_large_pages
from training.optimizers import OPTIMIZERS, SGD
from training.run import start_run
from training.sparsity import METHODS
from training.sparsity.base import Moment


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def test_a_finished_run_of_other_images_is_refused(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=1)
    fit(config, data, tmp_path)
    with pytest.raises(UserError, match="finished run of other tiny images"):
        fit(config, dataclasses.replace(data, sha256="0"), tmp_path)


@pytest.mark.parametrize("name", ["chex", "chase"])
def test_one_step_removes_no_channel(name: str, data: TrainingData, tmp_path: Path) -> None:
    """There is no step at which channels could go, and the sparsity would silently be missed."""
    config = dataclasses.replace(SMALL, epochs=1, batch_size=72, warmup=0, method=METHODS[name](0.5))
    with pytest.raises(UserError, match=r"no change by the method is due .* of 1 step, .* --batch"):
        fit(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    moments = [Moment(step, 2, 2) for step in range(2)]
    assert [config.method.update_due(one) for one in moments] == [False, True]


@pytest.mark.parametrize(
    ("name", "settings", "option"),
    [
        ("set", {}, "--interval"),
        ("set", {"interval": 1e308}, "--interval"),
        ("dsr", {"update_interval": 1000}, "--update-interval"),
        ("safe", {}, "--dual-interval"),
        ("rigl", {}, ""),
        ("mest_em", {"stages": (0.0, 0.0, 0.0)}, ""),
        ("magnitude", {"begin": 0, "end": 0}, ""),
        ("magnitude", {"interval": 1000}, ""),
    ],
)
def test_a_mask_that_never_changes_is_remarked(
    name: str, settings: dict[str, Any], option: str, data: TrainingData, tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL, epochs=1, method=METHODS[name](0.5, **settings))  # type: ignore[arg-type]
    run = start_run(config, data, RunFolder(tmp_path, {}), CPU, World(), False)
    found = [note.partition("; ")[2] for note in run.notes if "is due in a training of 5 steps" in note]
    assert found == ([f"choose a shorter {option}, or more --epochs"] if option else [])


def test_numbers_that_the_last_update_broke(data: TrainingData, tmp_path: Path) -> None:
    """One step an epoch: the training loss comes before the update that breaks the weights."""
    config = dataclasses.replace(SMALL, epochs=2, warmup=0, batch_size=80, optimizer=SGD(1e30))
    with pytest.raises(UserError, match=r"validation loss became .* after epoch 1; last good checkpoint: no"):
        fit(config, data, tmp_path / "watched")
    assert not list((tmp_path / "watched").glob("*.pt"))
    none = dataclasses.replace(
        data.validation, labels=data.validation.labels[:0], pixels=data.validation.pixels[:0]
    )
    blind = dataclasses.replace(data, validation=none)
    with pytest.raises(UserError, match=r"loss of .* training images became .* after epoch 1; .*: no epoch"):
        fit(dataclasses.replace(config, epochs=1, validation=0.0), blind, tmp_path / "blind")
    assert not list((tmp_path / "blind").glob("*.pt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": -1.0}, "momentum -1.0: expected at least 0"),
        ({"momentum": math.nan}, "momentum nan"),
        ({"weight_decay": -1.0}, "weight-decay -1.0"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov with momentum 0"),
    ],
)
def test_optimizer_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SGD(**settings)  # type: ignore[arg-type]


def test_widths_and_image_sizes(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="widths 0 4 4: expected 1 or more each"):
        dataclasses.replace(SMALL, widths=(0, 4, 4))
    with pytest.raises(UserError, match=r"vgg19 can't take images of \(8, 8\) pixels"):
        fit(dataclasses.replace(SMALL, model="vgg19", widths=None), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["lt", "magnitude"])
def test_an_unreachable_sparsity_fails_before_training(
    data: TrainingData, tmp_path: Path, method: str
) -> None:
    chosen = METHODS[method](sparsity=0.985, ranking="uniform+")  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"uniform\+ keeps"):
        fit(dataclasses.replace(SMALL, method=chosen), data, tmp_path / "run")
    with pytest.raises(UserError, match="prune-fraction 1e-17"):
        METHODS["lt"](prune_fraction=1e-17)  # type: ignore[call-arg]


def test_settings_of_another_kind(data: TrainingData, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match=r"run\.json can't be read: it holds a list"):
        fit(SMALL, data, tmp_path)


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path) -> None:
    """A limit on file sizes stands for the disk: writing beyond it is the same kind of error."""
    from landscape.files import atomic_path

    target = tmp_path / "last.pt"
    save({"a": 1}, target)
    before = target.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="cannot write"), atomic_path(target) as temporary:
            save({"a": torch.zeros(1_000_000)}, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_compiled_modules_keep_their_gradients_apart(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shared = DistributedDataParallel(nn.Linear(2, 2))
        with World(0, 2).without_sync(torch.compile(shared, backend="eager")):
            assert not shared.require_backward_grad_sync
        assert shared.require_backward_grad_sync
    finally:
        distributed.destroy_process_group()


def test_a_half_set_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="WORLD_SIZE 2 without RANK"), joined("cpu"):
        pass


def test_a_grown_weight_has_no_history(data: TrainingData, tmp_path: Path) -> None:
    """Even with `perturb_pruned`, where the momentum of pruned weights isn't 0."""
    config = dataclasses.replace(SMALL, optimizer=OPTIMIZERS["s2sam"](perturb_pruned=True))  # type: ignore[call-arg]
    run = start_run(config, data, RunFolder(tmp_path, {}), CPU, World(), False)
    name = next(iter(run.mask))
    weight = run.model.get_parameter(name)
    for one in run.model.parameters():
        one.grad = torch.ones_like(one)
    base = run.optimizer.base  # type: ignore[attr-defined]
    base.step()
    assert base.state[weight]["momentum_buffer"].all()
    run.use({key: torch.ones_like(part) for key, part in run.mask.items()})
    before = masks.kept({name: base.state[weight]["momentum_buffer"] != 0})
    assert 0 < before < weight.numel()


def test_only_the_command_itself_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the tests that run it in their own process, which it would replace without a word."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("started again")

    monkeypatch.setattr(os, "execve", refuse)
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for argv in (
        ["python", "-m", "pytest"],
        ["python", "-m", "cProfile", "-m", "training"],
        ["python", "x.py"],
    ):
        monkeypatch.setattr("sys.orig_argv", argv)
        restart_with_large_pages("training")
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("sys.orig_argv", ["python", "-W", "error", "-m", "training", "--seed", "1"])
    restart_with_large_pages("training")
    assert [path[1][1:] for path in started] == [["-W", "error", "-m", "training", "--seed", "1"]]
    assert started[0][2]["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
