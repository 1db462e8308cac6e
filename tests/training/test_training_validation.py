"""Runs without held-out images, and what a result says about the images that it was measured on."""

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, fit
from rich.console import Console

from landscape.checkpoint.format import decode
from landscape.checkpoint.integrity import sealed
from landscape.errors import UserError
from training.checkpoint import RunFolder
from training.data import TrainingData, load_splits
from training.progress import TrainingProgress

NONE = dataclasses.replace(SMALL, epochs=2, validation=0.0)


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", 0.0, NONE.seed, CPU)


def strict(text: str) -> list[dict[str, Any]]:
    """The lines of a log by a reader that knows JSON only, so neither NaN nor Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_without_validation(data: TrainingData, tmp_path: Path) -> None:
    heard = Silent()
    checkpoint = fit(NONE, data, tmp_path, heard)
    assert len(data.train) == 80
    lines = strict((tmp_path / "metrics.jsonl").read_text())
    assert lines == heard.records
    assert [(line["validation_loss"], line["validation_accuracy"]) for line in lines] == [(None, None)] * 2
    assert checkpoint.metrics["validation_loss"] is checkpoint.metrics["validation_accuracy"] is None
    saved = decode(torch.load(tmp_path / "final.pt", weights_only=True))
    assert saved.data["selection"]["rule"].startswith("last epoch")
    assert len(saved.data["selection"]["held_out"]) == 0
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["epoch"] == 2
    assert all(torch.equal(value, saved.state_dict[name]) for name, value in last["model"].items())


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display_says_so(data: TrainingData, tmp_path: Path, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with TrainingProgress(console) as progress:
        fit(NONE, data, tmp_path, progress)
    text = out.getvalue()
    assert "no validation" in text
    assert "nan" not in text.lower().replace("loss nan", "")  # the bar's first picture has no loss yet
    assert "None" not in text


def test_states_with_nan_of_earlier_versions(data: TrainingData, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.save_log([{"epoch": 1, "validation_loss": math.nan, "train_loss": 0.5}])
    lines = strict((tmp_path / "metrics.jsonl").read_text())
    assert lines == [{"epoch": 1, "validation_loss": None, "train_loss": 0.5}]


def test_other_test_images(data: TrainingData, tmp_path: Path) -> None:
    """A result names them and is refused for others; one that doesn't name them is this run's as before."""
    checkpoint = fit(NONE, data, tmp_path)
    assert checkpoint.data["test_sha256"] == data.test_sha256 != data.sha256
    other = dataclasses.replace(data, test_sha256="0")
    with pytest.raises(UserError, match="finished run of other tiny test images"):
        fit(NONE, other, tmp_path)
    content = torch.load(tmp_path / "final.pt", weights_only=True)
    del content["data"]["test_sha256"]
    torch.save(sealed(content), tmp_path / "final.pt")
    heard = Silent()
    fit(NONE, data, tmp_path, heard)
    assert not heard.records


def test_the_test_split_decides_its_fingerprint(tmp_path: Path, tiny_npz: Path, data: TrainingData) -> None:
    import numpy as np

    arrays = dict(np.load(tiny_npz))
    arrays["test_x"] = arrays["test_x"].copy()
    arrays["test_x"][3, 2, 1, 0] ^= 1
    np.savez(tmp_path / "tiny.npz", **arrays)
    other = load_splits(f"npz:{tmp_path / 'tiny.npz'}", 0.0, 0, CPU)
    assert other.sha256 == data.sha256
    assert other.test_sha256 != data.test_sha256
