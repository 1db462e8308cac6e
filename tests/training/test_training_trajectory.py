"""Weights recorded along a training."""

import dataclasses
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU, SMALL, Stop, fit

from landscape.checkpoint.format import decode
from training import loop
from training.data import TrainingData, load_splits
from training.trajectory import snapshot_path


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def test_snapshots_are_the_weights_before_their_step(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    original = loop.train_step

    def watched(run: loop.Run, epoch: object, step: int, *rest: object) -> None:
        seen[step] = {name: value.clone() for name, value in run.model.state_dict().items()}
        original(run, epoch, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", watched)
    fit(SMALL, data, tmp_path, extras=loop.Extras(record_every=4))
    files = sorted((tmp_path / "trajectory").iterdir())
    assert files == [snapshot_path(tmp_path, step) for step in (0, 4, 8, 12)]
    for step, path in zip((0, 4, 8, 12), files, strict=True):
        snapshot = decode(torch.load(path, weights_only=True))
        assert snapshot.metrics == {"step": step}
        assert all(torch.equal(value, seen[step][name]) for name, value in snapshot.state_dict.items())
        assert list(snapshot.mask)


def test_it_changes_nothing_and_goes_on(data: TrainingData, tmp_path: Path) -> None:
    plain = fit(SMALL, data, tmp_path / "plain")
    recording = loop.Extras(record_every=4)
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "cut", Stop(1), recording)
    ended = fit(SMALL, data, tmp_path / "cut", extras=recording)
    whole = fit(dataclasses.replace(SMALL), data, tmp_path / "whole", extras=recording)
    for name, value in plain.state_dict.items():
        assert torch.equal(value, ended.state_dict[name])
        assert torch.equal(value, whole.state_dict[name])
    for path in (tmp_path / "whole" / "trajectory").iterdir():
        first, second = (
            decode(torch.load(one, weights_only=True))
            for one in (path, tmp_path / "cut" / "trajectory" / path.name)
        )
        assert all(torch.equal(value, second.state_dict[name]) for name, value in first.state_dict.items())
