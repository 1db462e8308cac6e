"""Signals, ends that aren't finite, half-written files, a wrong environment: one true line each."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, fit

import training.checkpoint
from landscape.errors import UserError
from landscape.keeping.lock import _this_process, lock_path
from landscape.keeping.signals import ENDING, Interrupted, exit_code, name_of, raised_signals
from training import loop
from training.__main__ import main
from training.checkpoint import RunFolder
from training.data import TrainingData, load_splits
from training.run import Run
from training.step import train_step

QUICK = "--widths 4 6 8 --epochs 3 --batch-size 16 --device cpu --threads 1"


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def command(npz: Path, folder: Path) -> list[str]:
    return [*QUICK.split(), "--data", f"npz:{npz}", "--output", str(folder)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(("epoch", "saved"), [(0, "no epoch is saved"), (2, "last.pt has epoch 2 of 3")])
def test_a_signal_says_what_is_saved(
    tiny_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    epoch: int,
    saved: str,
) -> None:
    original, before = loop._train_epoch, signal.getsignal(number)

    def hit(run: Run, *rest: Any) -> Any:
        if run.epoch == epoch:
            os.kill(os.getpid(), number)
        return original(run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epoch", hit)
        with pytest.raises(SystemExit) as stop:
            main(command(tiny_npz, tmp_path / "cut"))
    said = capsys.readouterr().err
    assert stop.value.code == 128 + number
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert f"stopped by {name}: " in said
    assert saved in said
    assert "the same command" in said
    assert signal.getsignal(number) == before
    main(command(tiny_npz, tmp_path / "cut"))
    main(command(tiny_npz, tmp_path / "whole"))
    ends = [torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("cut", "whole")]
    assert all(torch.equal(value, ends[1]["state_dict"][key]) for key, value in ends[0]["state_dict"].items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_data_are_read(
    tiny_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    def slow(*rest: object, **more: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("training.data.read_images", slow)
    with pytest.raises(SystemExit) as stop:
        main(command(tiny_npz, tmp_path))
    assert stop.value.code == 128 + number
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("; give the same command to go on")
    assert not list(tmp_path.iterdir())


def test_a_signal_while_modules_are_loaded() -> None:
    """Importing torch takes seconds, in which there is no handler of the training's yet."""
    code = "import os, signal; from landscape.keeping.signals import stop_at_once; stop_at_once('again'); "
    for number in (signal.SIGTERM, signal.SIGINT):
        ended = subprocess.run(
            [sys.executable, "-c", f"{code} os.kill(os.getpid(), {int(number)}); import torch"],
            capture_output=True,
            text=True,
            check=False,
        )
        name = "Ctrl-C" if number == signal.SIGINT else number.name
        assert (ended.returncode, ended.stderr) == (128 + number, f"\nstopped by {name}; again\n")


def test_ignored_signals_stay_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(Interrupted) as caught:
                signal.raise_signal(signal.SIGTERM)
        assert (name_of(caught.value), exit_code(caught.value)) == ("SIGTERM", 143)
        assert (name_of(KeyboardInterrupt()), exit_code(KeyboardInterrupt())) == ("Ctrl-C", 130)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    handlers = [signal.getsignal(number) for number in ENDING]
    done = []

    def elsewhere() -> None:
        with raised_signals():  # Python allows no handler here
            done.append([signal.getsignal(number) for number in ENDING])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [handlers]


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), 1e38])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_last_step_that_breaks_the_weights(
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    validation: bool,
    bad: float,
    epoch: int,
) -> None:
    """The epoch that broke is named as what it is, and the state that is called good is."""

    def breaking(run: Run, *rest: Any) -> None:
        train_step(run, *rest)
        if run.epoch == epoch:
            with torch.no_grad():
                run.model.get_parameter("linear.weight").fill_(bad)

    parts = data if validation else dataclasses.replace(data, validation=data.validation.first(0))
    share = SMALL.validation if validation else 0.0
    config = dataclasses.replace(SMALL, epochs=3, batch_size=72, validation=share)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", breaking)
        with pytest.raises(UserError) as raised:
            fit(config, parts, tmp_path)
    good = f"last.pt has epoch {epoch};" if epoch else "no epoch was finished;"
    assert f" after epoch {epoch + 1}; last good checkpoint: " in str(raised.value)
    assert good in str(raised.value)
    assert (tmp_path / "last.pt").exists() == bool(epoch)
    checkpoint = fit(config, parts, tmp_path)
    assert all(value.isfinite().all() for value in checkpoint.state_dict.values())


def test_half_written_files_are_swept(data: TrainingData, tmp_path: Path) -> None:
    """What kills left, at once when it's old; what is being written now stays until the run is over."""
    fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path / "other")  # its files are none of this run's
    folder = tmp_path / "run"
    names = [".last.pt.0a1b2c3d.tmp", ".final.pt.0a1b2c3d.tmp", "trajectory/.step-1.pt.0a1b2c3d.tmp"]
    old, young, later = (folder / name for name in names)
    RunFolder(folder, SMALL.to_dict(data.name)).claim()
    (folder / "trajectory").mkdir()
    for path in (old, young, later, tmp_path / "other" / names[0]):
        path.write_text("half")
    long_ago = time.time() - 3600
    for path in (old, later):
        os.utime(path, (long_ago, long_ago))
    seen: dict[str, bool] = {}

    class Looking(Silent):
        def step(self, *rest: Any) -> None:
            seen.update({path.name: path.exists() for path in (old, young, later)})

    fit(SMALL, data, folder, Looking())
    assert seen == {old.name: False, young.name: True, later.name: False}
    assert not list(folder.rglob("*.tmp"))
    assert (folder / "final.pt").exists()
    assert (tmp_path / "other" / names[0]).exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE 'two': expected a number from 1 on"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE '': expected"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE '0': expected"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE '-1': expected"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE 2 without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0x0"}, "RANK '0x0': expected a number from 0 on"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "first"}, "LOCAL_RANK 'first': expected a number"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "http"}, "MASTER_PORT 'http': expected a number"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "99999"},
            "2 processes didn't meet at localhost:99999",
        ),
    ],
)
def test_a_wrong_environment_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    message: str,
) -> None:
    rest = {"LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29999"}
    for name, value in ({} if len(settings) == 1 else rest | settings).items() or settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        main(["--data", "sample", "--output", str(tmp_path)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_rank_beyond_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("landscape.commandline.console.PATIENCE", 0)
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "29999")
    with pytest.raises(SystemExit) as stop:
        main(["--data", "sample", "--output", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == ""  # the first process would have said it


def test_two_trainings_in_one_folder(data: TrainingData, tmp_path: Path) -> None:
    """The second is told who the first is; what a killed one left is taken over."""
    code = """
import os, sys
from landscape.keeping.lock import owned
with owned(sys.argv[1]):
    input()
    os.kill(os.getpid(), 9)
"""
    line = [sys.executable, "-c", code]
    config = dataclasses.replace(SMALL, epochs=1)
    with subprocess.Popen([*line, tmp_path / "run.json"], stdin=subprocess.PIPE, text=True) as first:
        while not list(tmp_path.iterdir()) and first.poll() is None:
            time.sleep(0.01)
        with pytest.raises(UserError, match=rf"run\.json is being written by process {first.pid} on "):
            fit(config, data, tmp_path)
        first.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == [".run.json.lock"]
    fit(config, data, tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_killed_after_its_last_write_its_lock_goes(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=1)
    fit(config, data, tmp_path)
    dead = {**_this_process(), "born": "0", "token": "another"}
    lock_path(tmp_path / "run.json").write_text(json.dumps(dead))
    fit(config, data, tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_an_epoch_that_is_trained_is_saved(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes while its state is written waits for that."""
    written = training.checkpoint.save

    def hit(content: Any, path: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        written(content, path)

    monkeypatch.setattr(training.checkpoint, "save", hit)
    with raised_signals(), pytest.raises(Interrupted):
        fit(SMALL, data, tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    assert not list(tmp_path.glob(".*"))
