"""What the tests of the loop share: a small configuration, reporters, and the comparison of two results."""

from pathlib import Path
from typing import Any

import torch

from landscape.checkpoint.format import Checkpoint
from training import loop
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import TrainingData
from training.optimizers import SGD
from training.sparsity import Random

CPU = torch.device("cpu")
SMALL = RunConfig(
    widths=(4, 6, 8),
    epochs=3,
    batch_size=16,
    warmup=0.5,
    validation=0.1,
    method=Random(0.7),
    optimizer=SGD(0.1),
)


class Silent:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int, float]] = []
        self.records: list[dict[str, Any]] = []
        self.epochs = 0
        self.saves: list[tuple[int, int]] = []
        self.notes: list[str] = []

    def begin(self, epochs: int, done: int) -> None:
        self.epochs = epochs

    def saved(self, epochs: int, step: int) -> None:
        self.saves.append((epochs, step))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        self.steps.append((epoch, step, steps, loss))

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append(record)


class Stop(Silent):
    """Interrupts after so many epochs, as Ctrl-C does."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.left = epochs

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if not self.left:
            raise KeyboardInterrupt

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1


def fit(
    config: RunConfig,
    data: TrainingData,
    path: Path,
    reporter: Any = None,
    extras: loop.Extras = loop.Extras(),  # noqa: B008
) -> Checkpoint:
    folder = RunFolder(path, config.to_dict(data.name))
    return loop.train(config, data, folder, CPU, reporter or Silent(), extras)


def assert_same(first: Checkpoint, second: Checkpoint) -> None:
    assert list(first.state_dict) == list(second.state_dict)
    for name, tensor in first.state_dict.items():
        assert torch.equal(tensor, second.state_dict[name]), name
    assert all(torch.equal(part, second.mask[name]) for name, part in first.mask.items())
    same = [key for key in first.metrics if key != "seconds"]
    assert {key: first.metrics[key] for key in same} == {key: second.metrics[key] for key in same}
