"""The loop: what it trains, invariants at every step, going on after interruptions."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from loop_helpers import CPU, SMALL, Silent, Stop, assert_same, fit
from torch import nn

from landscape.checkpoint.format import decode
from landscape.checkpoint.integrity import sealed
from landscape.errors import UserError
from training import loop, masks
from training.config import RunConfig, difference
from training.data import TrainingData, generator_for, load_splits
from training.models import build_model
from training.optimizers import OPTIMIZERS, SGD
from training.schedule import Epoch, lr_factor
from training.sparsity import Dense, Random
from training.sparsity.base import Moment, Situation, Source, SparsityMethod

pytestmark = pytest.mark.slow  # among the first files that start


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def test_it_learns_and_the_checkpoint_says_all(data: TrainingData, tmp_path: Path) -> None:
    heard = Silent()
    config = dataclasses.replace(SMALL, epochs=8)
    checkpoint = fit(config, data, tmp_path, heard)
    assert checkpoint.metrics["test_accuracy"] > 0.6  # chance is 0.25
    assert checkpoint.metrics["test_examples"] == 20
    weights = masks.prunable(build_model("resnet20", num_classes=4, widths=(4, 6, 8)))
    total = sum(weight.numel() for weight in weights.values())
    assert checkpoint.metrics["kept_weights"] == masks.kept(checkpoint.mask) == round(0.3 * total)
    for name, mask in checkpoint.mask.items():
        assert (checkpoint.state_dict[name][~mask] == 0).all()
        assert (checkpoint.state_dict[name][mask] != 0).all()
    assert checkpoint.arguments == {"num_classes": 4, "widths": [4, 6, 8], "shortcut": "A"}
    assert checkpoint.data["name"] == checkpoint.config["data"] == "tiny"
    assert checkpoint.data["selection"]["held_out"].tolist() == data.held_out.tolist()
    assert str(tmp_path) not in str(checkpoint.config) + str(checkpoint.environment)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == heard.records
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert heard.steps[-1][:3] == (8, 5, 5)


def test_the_test_accuracy_agrees_with_a_plain_evaluation(data: TrainingData, tmp_path: Path) -> None:
    checkpoint = fit(SMALL, data, tmp_path)
    model = build_model(checkpoint.architecture, **checkpoint.arguments).eval()
    model.load_state_dict(checkpoint.state_dict)
    losses, right = [], 0
    with torch.no_grad():
        for pixels, label in zip(data.test.pixels, data.test.labels, strict=True):
            mean, std = (torch.tensor(checkpoint.data[key]).view(3, 1, 1) for key in ("mean", "std"))
            x = (pixels.permute(2, 0, 1) / 255 - mean) / std
            logits = model(x[None])
            losses.append(float(F.cross_entropy(logits, label[None])))
            right += int(logits.argmax() == label)
    assert checkpoint.metrics["test_accuracy"] == right / 20
    assert checkpoint.metrics["test_loss"] == pytest.approx(sum(losses) / 20, rel=1e-5)


def test_same_seed_same_bits_other_seed_other_bits(data: TrainingData, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first, second = fit(SMALL, data, tmp_path / "a"), fit(SMALL, data, tmp_path / "b")
    assert torch.equal(state, torch.random.get_rng_state())  # torch's global generator is left alone
    assert_same(first, second)
    other = fit(dataclasses.replace(SMALL, seed=1), data, tmp_path / "c")
    assert not torch.equal(first.state_dict["linear.bias"], other.state_dict["linear.bias"])
    assert any(not torch.equal(first.mask[name], other.mask[name]) for name in first.mask)


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_interrupted_runs_end_bit_identical(data: TrainingData, tmp_path: Path, epochs: int) -> None:
    whole = fit(SMALL, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "cut", Stop(epochs))
    assert (tmp_path / "cut" / "last.pt").exists() == (epochs > 0)
    heard = Silent()
    assert_same(whole, fit(SMALL, data, tmp_path / "cut", heard))
    assert len(heard.records) == 3 - epochs
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_finished_run_is_not_trained_again(data: TrainingData, tmp_path: Path) -> None:
    first = fit(SMALL, data, tmp_path)
    stamp = (tmp_path / "final.pt").stat().st_mtime_ns
    heard = Silent()
    assert_same(first, fit(SMALL, data, tmp_path, heard))
    assert not heard.records
    assert (tmp_path / "final.pt").stat().st_mtime_ns == stamp


def test_the_result_of_another_run_is_refused(data: TrainingData, tmp_path: Path) -> None:
    """Copied into the folder of a run, finished or not; a result of earlier settings is the run's own."""
    other = dataclasses.replace(SMALL, epochs=1, seed=1)
    fit(other, data, tmp_path / "other")
    fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path / "run")
    foreign, own = ((tmp_path / name / "final.pt").read_bytes() for name in ("other", "run"))
    (tmp_path / "run" / "final.pt").write_bytes(foreign)
    with pytest.raises(UserError, match=r"final\.pt is another run's: seed 1, now 0; remove it or choose"):
        fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path / "run")
    (tmp_path / "run" / "final.pt").write_bytes(own)
    content = torch.load(tmp_path / "run" / "final.pt", weights_only=True)
    del content["config"]["mixup"], content["config"]["milestones"]
    torch.save(sealed(content), tmp_path / "run" / "final.pt")
    heard = Silent()
    fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path / "run", heard)
    assert not heard.records


def test_other_settings_are_refused(data: TrainingData, tmp_path: Path) -> None:
    fit(SMALL, data, tmp_path / "run")
    changes: list[tuple[RunConfig, str]] = [
        (dataclasses.replace(SMALL, epochs=4), "epochs 3, now 4;"),
        (dataclasses.replace(SMALL, method=Random(0.8)), r"sparsity 0\.7, now 0\.8;"),
        (dataclasses.replace(SMALL, method=Dense()), "method random, now dense;"),
        (dataclasses.replace(SMALL, optimizer=SGD(0.1, nesterov=True)), "nesterov False, now True;"),
    ]
    for config, message in changes:
        with pytest.raises(UserError, match=message):
            fit(config, data, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        fit(SMALL, data, tmp_path / "other")


def test_damaged_or_foreign_state_is_refused(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path, Stop(1))
    last = tmp_path / "last.pt"
    whole = last.read_bytes()
    last.write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"last\.pt can't be read"):
        fit(SMALL, data, tmp_path)
    torch.save({"model": {}}, last)
    with pytest.raises(UserError, match="is not of this run"):
        fit(SMALL, data, tmp_path)
    last.write_bytes(whole)
    with pytest.raises(UserError, match="other tiny images"):
        fit(SMALL, dataclasses.replace(data, sha256="0"), tmp_path)


@dataclasses.dataclass(frozen=True)
class Shuffling(SparsityMethod):
    """A dynamic method for the test: a new random mask after every fourth step."""

    def init_mask(self, model: nn.Module, source: Source, generator: torch.Generator) -> masks.Mask:
        images, labels = source.draw(8, generator)
        assert images.shape == (8, 3, 8, 8)
        assert labels.shape == (8,)
        return Random(0.5).init_mask(model, source, generator)

    def update_due(self, moment: Moment) -> bool:
        assert moment.steps == 15
        assert moment.steps_per_epoch == 5
        return moment.step % 4 == 0

    def update_mask(self, now: Situation) -> list[masks.Mask]:
        now.memory["times"] = now.memory.get("times", 0) + 1
        assert now.memory["times"] == now.moment.step // 4 + 1  # the memory is kept over interruptions
        return [self.init_mask(now.model, now.source, now.generator)]


@dataclasses.dataclass(frozen=True)
class Drifting(SGD):
    """An optimizer for the test that moves every weight, pruned ones too, whatever its gradient is."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        class Drift(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure: Any = None) -> Any:
                loss = super().step(closure)
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter += 1e-3
                return loss

        return Drift(model.parameters(), lr=self.lr, momentum=self.momentum)


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(SMALL, epochs=2),
        dataclasses.replace(SMALL, epochs=1, optimizer=Drifting()),
        dataclasses.replace(SMALL, method=Shuffling()),
    ],
    ids=["static", "drifting", "dynamic"],
)
def test_pruned_weights_are_zero_after_every_step(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    """Exactly, and without momentum; while the mask stays, the gradient is zero there too."""
    seen = []
    original = loop.train_step

    def watched(run: loop.Run, *rest: Any) -> None:
        original(run, *rest)
        for name, mask in run.mask.items():
            parameter = run.model.get_parameter(name)
            assert parameter.grad is not None
            seen.append(not parameter[~mask].any())
            seen.append(not run.optimizer.state[parameter]["momentum_buffer"][~mask].any())
            seen.append(not parameter.grad[~mask].any())

    monkeypatch.setattr(loop, "train_step", watched)
    fit(config, data, tmp_path)
    assert len(seen) == 3 * 5 * 20 * config.epochs
    assert all(seen)


def test_each_epoch_has_its_own_order(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = []
    original = loop.train_step

    def watched(run: loop.Run, epoch: Epoch, step: int, images: Any, batch: torch.Tensor, *more: Any) -> None:
        labels.extend(batch.tolist())
        original(run, epoch, step, images, batch, *more)

    monkeypatch.setattr(loop, "train_step", watched)
    fit(SMALL, data, tmp_path)
    epochs = [labels[72 * epoch : 72 * epoch + 72] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(data.train.labels.tolist())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With several, torch sums in another order for another memory layout; one ReLU that flips is 1e-3."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_against_a_plain_loop(data: TrainingData, tmp_path: Path) -> None:
    """One epoch of dense SGD without augmentation, against torch.optim.SGD in a few plain lines."""
    config = dataclasses.replace(
        SMALL,
        epochs=1,
        augment=False,
        label_smoothing=0.1,
        method=Dense(),
        optimizer=SGD(lr=0.05, nesterov=True, weight_decay=0.01, decay_all=False),
    )
    ours = fit(config, data, tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(generator_for(0, "weights").initial_seed())
        model = build_model("resnet20", num_classes=4, widths=(4, 6, 8))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    order = torch.randperm(72, generator=generator_for(0, "epoch", 0))
    model = model.to(memory_format=torch.channels_last)  # else one ReLU that flips at 1e-7 is 1e-3 at the end
    x = data.train.normalized(data.train.pixels)
    for step, chosen in enumerate(order.split(16)):
        for group in optimizer.param_groups:
            # Half an epoch of five steps warms up: one third, two thirds, full; then the cosine falls.
            part = (step - 2.5) / 2.5
            group["lr"] = 0.05 * ((step + 1) / 3 if step < 2.5 else (1 + math.cos(math.pi * part)) / 2)
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), data.train.labels[chosen], label_smoothing=0.1).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(ours.state_dict[name].double(), tensor.double(), rtol=1e-3, atol=1e-5), name


def test_schedule() -> None:
    factors = [lr_factor(step, 10, epochs=10, warmup=2) for step in range(100)]
    assert max(factors) == factors[20] == 1
    assert all(later > earlier for earlier, later in itertools.pairwise(factors[:21]))
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[20:]))
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[99] < 1e-3
    no_warmup = [lr_factor(step, 10, epochs=10, warmup=0) for step in range(100)]
    assert no_warmup[0] == 1
    assert no_warmup[50] == pytest.approx(0.5)


def test_dynamic_masks_and_their_resumption(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, method=Shuffling())
    whole = fit(config, data, tmp_path / "whole")
    for name, mask in whole.mask.items():
        assert (whole.state_dict[name][~mask] == 0).all()
    start = Random(0.5).init_mask(
        build_model("resnet20", widths=(4, 6, 8)), data.train, generator_for(0, "x")
    )
    assert any(not torch.equal(start[name], mask) for name, mask in whole.mask.items() if name in start)
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "cut", Stop(2))
    assert_same(whole, fit(config, data, tmp_path / "cut"))


def test_an_infinite_loss_stops_the_run(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_two = Stop(2)
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path, fit_two)
    good = (tmp_path / "last.pt").read_bytes()
    original = F.cross_entropy
    calls = iter(range(100))

    def third_is_nan(*arguments: Any, **more: Any) -> torch.Tensor:
        return original(*arguments, **more) * (math.nan if next(calls) == 2 else 1)

    monkeypatch.setattr(F, "cross_entropy", third_is_nan)
    with pytest.raises(
        UserError, match=r"became nan in epoch 3, step 3; .*last\.pt has epoch 2; choose a lower"
    ):
        fit(SMALL, data, tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == good


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_the_contract(name: str) -> None:
    """It uses the closure for its gradients, returns its loss, lowers it, and can be saved."""
    model = nn.Linear(3, 2)
    optimizer = OPTIMIZERS[name]().build(model)
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    calls = []

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        calls.append(loss.item())
        return calls[-1]

    losses = [optimizer.step(closure) for _ in range(20)]
    assert losses[0] == calls[0]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    OPTIMIZERS[name]().build(model).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0: expected 1"),
        ({"batch_size": 0}, "batch-size 0"),
        ({"validation": 1.0}, "validation 1.0: expected 0 to 0.9"),
        ({"warmup": 4.0}, "warmup 4.0: expected 0 to 3"),
        ({"label_smoothing": -0.1}, "label-smoothing -0.1"),
        ({"seed": -1}, "seed -1"),
        ({"optimizer": SGD(lr=math.nan)}, "lr nan: expected a positive number"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **change)


def test_differences_name_nested_settings() -> None:
    old = SMALL.to_dict("tiny")
    new = dataclasses.replace(SMALL, seed=3, optimizer=SGD(0.2)).to_dict("other")
    assert difference(old, new) == ["data tiny, now other", "seed 0, now 3", "lr 0.1, now 0.2"]
    assert difference({"a": 1}, {"a": 1, "b": 2}) == ["b None, now 2"]
    assert difference(old, json.loads(json.dumps(old))) == []


FORKING = """
import os, sys
import torch
import torch._dynamo  # torch.optim imports it at its first step
from training.__main__ import main
torch.set_num_threads(1)  # no thread pool is started before the fork
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main(line.split())
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""Runs the command in a new process for each line on standard input; importing torch once saves minutes."""


def test_killed_runs_go_on_bit_identical(tiny_npz: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, again and again, until the run is through; every file stays readable."""
    settings = (
        "--widths 4 6 8 --epochs 12 --batch-size 16 --method rigl --update-interval 3 --sparsity 0.5 "
        "--optimizer s2sam --threads 1 --device cpu"
    )
    moments, kills = random.Random(0), 0
    with forking() as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for name in ("whole", "cut"):
            output = tmp_path / name
            while not (output / "final.pt").exists():
                server.stdin.write(f"{settings} --data npz:{tiny_npz} --output {output}\n")
                child = int(next(server.stdout))
                if name == "cut":
                    wait_for_a_save(output / "last.pt")
                    time.sleep(moments.uniform(0, 0.05))
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                        kills += 1
                assert next(server.stdout) == "ended\n"
                for file in output.glob("*.pt"):
                    torch.load(file, weights_only=True)
    assert kills >= 3
    first, second = (
        decode(torch.load(tmp_path / name / "final.pt", weights_only=True)) for name in ("whole", "cut")
    )
    assert_same(first, second)


def forking() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )


def wait_for_a_save(path: Path) -> None:
    """Until the file is replaced, or the run is finished."""
    before, deadline = modified(path), time.monotonic() + 60
    while modified(path) == before and not path.with_name("final.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
