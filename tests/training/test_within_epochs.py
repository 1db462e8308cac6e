"""A run that is stopped in the middle of an epoch, after a state was saved there, ends as if it wasn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, assert_same, fit
from torch import Tensor, nn

from landscape.checkpoint.integrity import sealed
from landscape.errors import UserError
from training import models
from training.checkpoint import save
from training.config import RunConfig
from training.data import TrainingData, load_splits
from training.loop import Extras
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS

OFTEN = Extras(save_every=1e-9, sparse="off")


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


class StopWithin(Silent):
    """Interrupts right after the state of a step was saved."""

    def __init__(self, epochs: int, step: int) -> None:
        super().__init__()
        self.place = epochs, step

    def saved(self, epochs: int, step: int) -> None:
        super().saved(epochs, step)
        if (epochs, step) == self.place:
            raise KeyboardInterrupt


class Dropping(nn.Module):
    """Draws random numbers in every forward pass."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm, self.dropout = nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.linear = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(self.dropout(self.norm(self.conv(x)).relu().mean((2, 3))))
        return found


RUNS: dict[str, dict[str, Any]] = {
    "dense, s2sam": {"method": METHODS["dense"](), "optimizer": OPTIMIZERS["s2sam"](0.1)},
    "rigl": {"method": METHODS["rigl"](0.7, update_interval=3)},
    "mest_em": {"method": METHODS["mest_em"](0.7, interval=0.5, keep_dense=("none",))},
    "lt": {
        "method": METHODS["lt"](0.2, search_epochs=2, rewind_step=2),
        "epochs": 2,
        "warmup": 0.0,
    },
    "dropout, mixup": {"model": "dropping", "widths": None, "mixup": 0.4, "milestones": (1.0,)},
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("place", [(0, 3), (1, 1)])
def test_bits(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: tuple[int, int]
) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "dropping", Dropping)
    config = replace(SMALL, **{"epochs": 2, **RUNS[name]})
    before = torch.random.get_rng_state()
    expected = fit(config, data, tmp_path / "whole", extras=Extras(save_every=0, sparse="off"))
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "cut", StopWithin(*place), OFTEN)
    torch.rand(3)  # whatever else happens in the process
    found = fit(config, data, tmp_path / "cut", extras=Extras(sparse="off"))
    assert_same(found, expected)
    logs = [(tmp_path / one / "metrics.jsonl").read_text() for one in ("whole", "cut")]
    assert len(logs[0].splitlines()) == len(logs[1].splitlines())


def test_how_often(data: TrainingData, tmp_path: Path) -> None:
    """72 images make 5 steps; the last one's state is that of the epoch."""
    often, never = Silent(), Silent()
    fit(replace(SMALL, epochs=2), data, tmp_path / "often", often, OFTEN)
    fit(replace(SMALL, epochs=2), data, tmp_path / "never", never, replace(OFTEN, save_every=3600))
    assert often.saves == [(epoch, step) for epoch in (0, 1) for step in (1, 2, 3, 4)]
    assert never.saves == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": 5}, "its step is 5, expected 1 to 4"),
        ({"examples": -1}, "its unfinished epoch's examples is -1"),
        ({"seconds": float("nan")}, "its unfinished epoch's seconds is nan"),
        ({"losses": torch.zeros(3)}, "its unfinished epoch's losses is"),
        ({"more": 1}, "it doesn't say how far its unfinished epoch is"),
    ],
)
def test_states_that_cannot_be(data: TrainingData, tmp_path: Path, change: dict[str, Any], text: str) -> None:
    config = RunConfig(**{**vars(SMALL), "epochs": 1})
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path, StopWithin(0, 2), OFTEN)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["within"].update(change)
    save(sealed(state), tmp_path / "last.pt")
    with pytest.raises(UserError, match=text):
        fit(config, data, tmp_path)
