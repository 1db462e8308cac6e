"""Trainings that take turns on one device: whether each has the bits of one alone, and what a step takes."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from landscape.checkpoint.format import Checkpoint
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import TrainingData
from training.lanes import Begun, Lanes
from training.loop import Extras, training
from training.precision import numerics


class _Ends:
    """Hears when epochs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def begin(self, epochs: int, done: int) -> None: ...

    def saved(self, epochs: int, step: int) -> None: ...

    def note(self, text: str) -> None: ...

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None:
        self.ends.append(time.perf_counter())


def in_turn(
    count: int, config: RunConfig, data: TrainingData, folder: Path, device: torch.device
) -> tuple[list[Checkpoint], float]:
    """The same training so many times; all results, and seconds of the last epoch for each of them.

    Graphs are captured in the first epoch, so there must be two.
    """
    heard = [_Ends() for _ in range(count)]
    folders = [RunFolder(folder / f"lane{lane}", config.to_dict(data.name)) for lane in range(count)]

    def begin(lane: int) -> Begun:
        extras = Extras(sparse="off", lanes=count)
        steps = training(config, data, folders[lane], device, heard[lane], extras)
        return Begun(steps, partial(numerics, config.precision))

    lanes = Lanes[int](device, count, begin)
    lanes.waiting += range(count)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while lanes.orders:
            for end in lanes.round():
                if end.error:
                    raise RuntimeError(end.trace or end.error)
    seconds = max(one.ends[-1] for one in heard) - max(one.ends[-2] for one in heard)
    found = [one.finished() for one in folders]
    return [one for one in found if one is not None], seconds / count
