"""SAFE: projection, dual update and pull against NumPy; what it leaves as it is, and what it does last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_helpers import CPU, SMALL, Stop, fit
from torch import Tensor, nn

from landscape.errors import UserError
from training import loop
from training.checkpoint import RunFolder
from training.data import TrainingData, load_splits
from training.optimizers import S2SAM, SAM
from training.sparsity.base import Moment, Situation
from training.sparsity.dense import Dense
from training.sparsity.safe import Safe
from training.step import pulling


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


class Quadratic:
    """``Σ a (w − c)² / 2`` of one linear layer, stepped with a method's hooks as the loop does."""

    def __init__(self, method: Safe, make: Callable[[list[nn.Parameter]], Any], steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
        self.weight = self.model[0].weight
        self.goal = torch.randn((3, 4), dtype=torch.float64, generator=generator)
        with torch.no_grad():
            self.weight.copy_(torch.randn((3, 4), dtype=torch.float64, generator=generator))
        self.slope = torch.linspace(0.5, 2, 12, dtype=torch.float64).reshape(3, 4)
        self.method, self.steps = method, steps
        self.optimizer = make([self.weight])
        self.mask = method.init_mask(self.model, Any, generator)  # type: ignore[arg-type]
        self.memory = method.first_memory(self.model, self.mask)
        self.then: list[Callable[[], None]] = []

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = (self.slope * (self.weight - self.goal) ** 2).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        for work in self.then:
            work()
        return loss.detach()

    def run(self) -> None:
        for step in range(self.steps):
            now = Moment(step, self.steps, 5)
            if self.method.update_due(now):
                found = self.method.update_mask(
                    Situation(self.model, self.mask, now, {}, Any, torch.Generator(), self.memory)  # type: ignore[arg-type]
                )
                assert not found
            pulled = self.method.pull(self.model, self.memory, now)
            self.then.clear()
            weights = {self.model.get_parameter(name): one for name, one in pulled.items()}
            with pulling(self.optimizer, self, weights):  # type: ignore[arg-type]
                self.optimizer.step(self)


def largest(values: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    order = np.argsort(-np.abs(values).ravel(), kind="stable")[:count]
    found = np.zeros(values.size)
    found[order] = values.ravel()[order]
    return found.reshape(values.shape)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Any]] = {
    "sgd": lambda ws: torch.optim.SGD(ws, lr=0.05, momentum=0.9),
    "sam": lambda ws: SAM(torch.optim.SGD(ws, lr=0.05, momentum=0.9), 0.2, batch_norm="both"),
    "s2sam": lambda ws: S2SAM(torch.optim.SGD(ws, lr=0.05, momentum=0.9), 0.2),
}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("name", ["sgd", "sam", "s2sam"])
def test_algorithm_by_hand(name: str, schedule: Any) -> None:
    """The pull is added at the weights, and no part of the direction in which SAM and S2-SAM perturb them."""
    method = Safe(0.75, penalty=0.5, penalty_schedule=schedule, dual_interval=4)
    run = Quadratic(method, OPTIMIZERS[name], 30)
    w, goal, slope = run.weight.detach().numpy().copy(), run.goal.numpy(), run.slope.numpy()
    z, u, speed, before = largest(w, 3), np.zeros((3, 4)), np.zeros((3, 4)), np.zeros((3, 4))
    run.run()
    for step in range(30):
        if step and step % 4 == 0:
            z, u = largest(w + u, 3), w + u - largest(w + u, 3)
        up = slope * (w - goal) if name == "sam" else before
        length = np.sqrt((up**2).sum())
        point = w + (0.2 * up / length if name != "sgd" and length else 0)
        before = slope * (point - goal)
        share = {"cosine": (1 - np.cos(np.pi * step / 30)) / 2, "linear": step / 30, "constant": 1.0}[
            schedule
        ]
        speed = 0.9 * speed + before + 0.5 * share * (w - z + u)
        w = w - 0.05 * speed
    np.testing.assert_allclose(run.weight.detach(), w, atol=1e-9)
    np.testing.assert_allclose(run.memory["z of 0.weight"], z, atol=1e-9)
    np.testing.assert_allclose(run.memory["u of 0.weight"], u, atol=1e-9)


@pytest.mark.parametrize("name", ["sgd", "sam"])
def test_it_ends_at_a_sparse_minimum(name: str) -> None:
    """Of a separable quadratic: what is kept is where the loss has its minimum, the rest goes to 0."""
    plain: dict[str, Callable[[list[nn.Parameter]], Any]] = {
        "sgd": lambda ws: torch.optim.SGD(ws, lr=0.02),
        "sam": lambda ws: SAM(torch.optim.SGD(ws, lr=0.02), 0.01, batch_norm="both"),
    }
    method = Safe(0.5, penalty=4.0, penalty_schedule="constant", dual_interval=20)
    run = Quadratic(method, plain[name], 1200)
    run.run()
    kept = method.last_masks(
        Situation(run.model, run.mask, Moment(1, 1, 1), {}, Any, torch.Generator(), run.memory)  # type: ignore[arg-type]
    )[0]["0.weight"]
    weight = run.weight.detach()
    assert int(kept.sum()) == 6
    torch.testing.assert_close(
        weight, torch.where(kept, run.goal, torch.zeros_like(weight)), rtol=0, atol=0.03
    )


@given(
    values=st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12),
    sparsity=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
@settings(max_examples=50)
def test_projection(values: list[float], sparsity: float) -> None:
    """The nearest of its sparsity; projected twice it is the same."""
    given_values = {"0.weight": torch.tensor(values).reshape(3, 4)}
    found = Safe(sparsity).projected(given_values)["0.weight"]
    np.testing.assert_array_equal(
        found, largest(np.array(values, np.float32).reshape(3, 4), round(12 * (1 - sparsity)))
    )
    assert torch.equal(Safe(sparsity).projected({"0.weight": found})["0.weight"], found)


def test_without_a_pull_it_is_dense_training_pruned_at_the_end(data: TrainingData, tmp_path: Path) -> None:
    dense = fit(dataclasses.replace(SMALL, method=Dense(), epochs=1), data, tmp_path / "dense")
    method = Safe(0.8, penalty=0.0, recalibrate=0)
    pruned = fit(dataclasses.replace(SMALL, method=method, epochs=1), data, tmp_path / "safe")
    assert pruned.metrics["sparsity"] == pytest.approx(0.8, abs=1e-3)
    for name, value in dense.state_dict.items():
        kept = pruned.mask.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(pruned.state_dict[name], torch.where(kept, value, torch.zeros_like(value))), name
    sizes = torch.cat([dense.state_dict[name].abs()[part] for name, part in pruned.mask.items()])
    others = torch.cat([dense.state_dict[name].abs()[~part] for name, part in pruned.mask.items()])
    assert sizes.min() >= others.max()


def test_running_statistics_are_those_of_the_pruned_network(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first batch norm: mean and variance of its convolution's output over all training images."""
    found: list[nn.Module] = []
    original = loop.prune_last

    def watched(run: Any, epoch: Any) -> None:
        original(run, epoch)
        found.append(run.model)

    monkeypatch.setattr(loop, "prune_last", watched)
    fit(dataclasses.replace(SMALL, method=Safe(0.8), epochs=1), data, tmp_path)
    model: Any = found[0]
    images, _ = data.train.draw(10_000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model.conv1(images)
    assert len(images) <= 256  # one batch
    torch.testing.assert_close(model.bn1.running_mean, outputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.bn1.running_var, outputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert model.bn1.num_batches_tracked > 1


def test_a_state_without_its_memory_is_refused(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, method=Safe(0.8, dual_interval=3), epochs=2)
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path, Stop(1))
    last = next(tmp_path.rglob("last.pt"))
    state = torch.load(last, weights_only=True)
    key = next(iter(state["memory"]))
    state["memory"][key] = state["memory"][key][:1]
    folder = RunFolder(last.parent, config.to_dict(data.name))
    folder.save_state(state)
    with pytest.raises(UserError, match=r"its memory of .* isn't of the kind"):
        fit(config, data, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty": -1.0}, "penalty -1.0: expected a finite number"),
        ({"dual_interval": 0}, "dual-interval 0: expected 1"),
        ({"recalibrate": -1}, "recalibrate -1: expected 0"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Safe(0.5, **options)
