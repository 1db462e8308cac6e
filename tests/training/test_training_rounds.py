"""Schedules of a run that trains in rounds: each warms up, and what a rewound one takes up again."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, Stop, assert_same, fit

from landscape.errors import UserError
from training import loop
from training.config import RunConfig
from training.data import TrainingData, load_splits
from training.optimizers import OPTIMIZERS
from training.schedule import plan
from training.sparsity.lt import LotteryTicket

STEPS = 5  # an epoch has 72 images in steps of 16


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def watched(
    config: RunConfig, data: TrainingData, path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, float, float]]:
    """Round, learning rate and radius of every step."""
    seen: list[tuple[int, float, float]] = []
    original = loop.train_step

    def step(run: loop.Run, epoch: loop.Epoch, *rest: object) -> None:
        radius = getattr(run.optimizer, "radius", math.nan)
        original(run, epoch, *rest)  # type: ignore[arg-type]
        seen.append((epoch.round, run.optimizer.param_groups[0]["lr"], radius))

    monkeypatch.setattr(loop, "train_step", step)
    fit(config, data, path)
    return seen


def test_every_round_warms_up(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its first epoch to the peak, then down its own cosine, however short it is."""
    method = LotteryTicket(0.36, search_epochs=2)
    config = dataclasses.replace(SMALL, epochs=3, warmup=1.0, method=method)
    seen = watched(config, data, tmp_path, monkeypatch)
    for number, epochs in enumerate((2, 2, 3)):
        rates = [lr for one, lr, _ in seen if one == number]
        rising = [0.1 * (step + 1) / (STEPS + 1) for step in range(STEPS)]
        total = (epochs - 1) * STEPS
        falling = [0.05 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
        assert rates == pytest.approx(rising + falling)


def test_a_round_may_not_end_before_its_milestones(data: TrainingData, tmp_path: Path) -> None:
    """It would never lower its learning rate."""
    method = LotteryTicket(0.36, search_epochs=2)
    config = dataclasses.replace(SMALL, epochs=3, warmup=0.0, milestones=(1.0, 2.0), method=method)
    with pytest.raises(UserError, match=r"milestones 1 2: .*shortest has only 2 epochs.*--search-epochs"):
        fit(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    plan([2, 2, 3], 0, STEPS, milestones=(1.0,))


def test_a_round_may_not_end_before_its_warmup(data: TrainingData, tmp_path: Path) -> None:
    method = LotteryTicket(0.36, search_epochs=1)
    config = dataclasses.replace(SMALL, epochs=3, warmup=1.5, method=method)
    with pytest.raises(
        UserError, match=r"warmup 1\.5: every round warms up, .*only 1 epochs; choose a lower"
    ):
        fit(config, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    plan([1, 1, 3], 0, STEPS, warmup=1.0)


@pytest.mark.parametrize("rewind", [0, 7])
def test_rho_follows_the_schedule_that_the_round_is_rewound_to(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewind: int
) -> None:
    """sqrt(c / t) with t from 1 in the first round, from the rewound step on in each later one."""
    config = dataclasses.replace(
        SMALL,
        epochs=3,
        method=LotteryTicket(0.36, rewind_step=rewind),
        optimizer=OPTIMIZERS["s2sam"](rho_schedule="sqrt", rho_c=0.01),  # type: ignore[call-arg]
    )
    seen = watched(config, data, tmp_path, monkeypatch)
    for number in range(3):
        radii = [radius for one, _, radius in seen if one == number]
        first = rewind if number else 0
        assert radii == pytest.approx([math.sqrt(0.01 / (t + 1)) for t in range(first, 3 * STEPS)])


def test_interrupted_rounds_go_on_with_their_rho(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(
        SMALL,
        epochs=2,
        method=LotteryTicket(0.2, rewind_step=3),
        optimizer=OPTIMIZERS["s2sam"](rho_schedule="sqrt", rho_c=0.1),  # type: ignore[call-arg]
    )
    whole = fit(config, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "cut", Stop(3))
    assert torch.load(tmp_path / "cut" / "last.pt", weights_only=True)["optimizer"]["steps"] == STEPS
    heard = Silent()
    assert_same(whole, fit(config, data, tmp_path / "cut", heard))
    assert len(heard.records) == 1
