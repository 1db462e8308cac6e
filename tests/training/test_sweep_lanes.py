"""Sweeps whose runs take turns in one process of a GPU: as far as a sweep sees, each is one of its own."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from sweep_fake import LANES, World, alive, name
from test_sweep import states, sweep, table, two_seeds

from landscape.cores import cores
from training.sweep import schedule
from training.sweep.__main__ import main
from training.sweep.laned import LaneProcess
from training.sweep.plan import Overrides, load_plan

REAL = """
import sys
sys.path.insert(0, {tests!r})
from pretended_gpu import pretended_gpu
from training.sweep.lane_server import main
with pretended_gpu():
    main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    here = two_seeds(tmp_path)
    command = [
        sys.executable,
        "-S",
        "-c",
        LANES,
        json.dumps(here.training),
        str(tmp_path / "processes.jsonl"),
    ]
    monkeypatch.setattr(schedule, "LANES", command)
    return here


def processes(world: World) -> list[dict[str, Any]]:
    """Every start of a process for lanes."""
    return [json.loads(line) for line in (world.path / "processes.jsonl").read_text().splitlines()]


def test_runs_take_turns_in_one_process_that_ends_with_the_sweep(world: World) -> None:
    world.behave(seed0={"together": 2}, seed1={"together": 2})
    assert sweep(world, "--lanes", "2") == 0
    assert states(world) == ["finished", "finished"]
    (process,) = processes(world)
    assert process["words"] == ["auto", "2"]
    assert not alive(process["pid"])
    assert not (world.root / "logs").exists()
    assert sweep(world, "--lanes", "3") == 0  # nothing to do, nothing started
    assert len(processes(world)) == 1


def test_each_gpu_has_a_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world.behave(seed0={"together": 2}, seed1={"together": 2})
    assert sweep(world, "--lanes", "2") == 0
    assert sorted(one["words"][0] for one in processes(world)) == ["cuda:0", "cuda:1"]


def test_a_lane_that_fails_says_why_and_the_others_go_on(world: World) -> None:
    world.behave(seed0={"fail": "the loss became nan, in step 3"})
    assert sweep(world, "--lanes", "2") == 1
    assert states(world) == ["failed", "finished"]
    assert table(world)[name(0)]["error"] == "the loss became nan, in step 3"
    assert len(processes(world)) == 1


def test_a_process_that_dies_takes_its_runs_and_the_next_ones_get_another(world: World) -> None:
    spec = world.path / "spec.toml"
    spec.write_text(spec.read_text().replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    runs = load_plan(str(spec)).runs
    (world.path / "settings.json").write_text(json.dumps({run.name: run.settings for run in runs}))
    world.behave(seed0={"together": 2, "die": signal.SIGKILL}, seed1={"together": 2, "sleep": [20.0, 0.0]})
    assert sweep(world, "--lanes", "2") == 1
    found = table(world)
    assert [found[name(seed)]["error"] for seed in (0, 1)] == ["the GPU is lost"] * 2
    assert found[name(2)]["state"] == "finished"
    assert len(processes(world)) == 2
    for start in world.starts():  # the fake's, which are processes of their own
        if alive(start["pid"]):
            os.kill(start["pid"], signal.SIGKILL)


def test_a_signal_stops_all_and_they_go_on(world: World) -> None:
    def stop() -> None:
        for seed in (0, 1):
            world.wait_for(f"{name(seed)}/last.pt")
        os.kill(os.getpid(), signal.SIGTERM)

    world.behave(seed0={"sleep": [0.0, 60.0]}, seed1={"sleep": [0.0, 60.0]})
    stopper = threading.Thread(target=stop)
    stopper.start()
    assert sweep(world, "--lanes", "2") == 128 + signal.SIGTERM
    stopper.join()
    assert states(world) == ["interrupted", "interrupted"]
    assert not any(alive(start["pid"]) for start in [*world.starts(), *processes(world)])
    world.behave()
    assert sweep(world, "--lanes", "2") == 0
    assert sorted(start["first"] for start in world.starts()) == [0, 0, 1, 1]


def test_a_process_that_cannot_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LANES", ["no such command"])
    assert sweep(world, "--lanes", "2") == 2
    assert states(world) == ["missing", "missing"]


def own(monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """A process for lanes that does something else; its command."""
    command = [sys.executable, "-S", "-c", "\n".join(("import json, os, sys", *lines))]
    monkeypatch.setattr(schedule, "LANES", command)
    return command


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("sys.exit(2)", "device cuda:3: there is one GPU"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_process_that_ends_at_once_says_why(
    last: str, error: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(monkeypatch, "print('error: device cuda:3: there is one GPU', file=sys.stderr, flush=True)", last)
    assert sweep(world, "--lanes", "2") == 1
    assert [row["error"] for row in table(world).values()] == [error, error]


def test_a_run_at_which_another_process_is_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the first one between this sweep's order and the beginning of the lane."""
    own(
        monkeypatch,
        "import subprocess",
        "for line in iter(sys.stdin.readline, ''):",
        "    order = json.loads(line)",
        f"    line = [*{world.training!r}, *order['words']]",
        "    code = 75 if order['number'] == 1 else subprocess.run(line).returncode",
        "    print(json.dumps({'number': order['number'], 'code': code}), flush=True)",
    )
    assert sweep(world, "--lanes", "2") == 0
    assert [start["run"] for start in world.starts()] == [name(1), name(0)]


def test_what_a_dead_process_said_is_known_after_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = LaneProcess(own(monkeypatch, "sys.exit('the GPU is lost')"))
    lane = process.give([], tmp_path / "log")
    process.process.wait()
    process.close()
    assert (lane.poll(), lane.told) == (1, "the GPU is lost")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lanes", "0"], "--lanes 0: expected 1 or more"),
        (["--lanes", "2", "--jobs", "2"], "--lanes 2 and --jobs 2 exclude each other; give one of them"),
        (["--lanes", "2", "--workers", "2"], "--lanes 2 and --workers exclude each other"),
        (["--lanes", "2", "--device", "cpu"], "--lanes 2: of a GPU, and --device is cpu; give --jobs there"),
    ],
)
def test_what_lanes_exclude(
    world: World, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(world, *words) == 2
    assert message in capsys.readouterr().err


def test_without_a_gpu(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sweep(world, "--lanes", "2") == 2
    assert "--lanes 2: of a GPU, and there is none here; give --jobs" in capsys.readouterr().err


def test_the_real_process(tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended GPU: the weights are those of the same sweep without lanes on the same device."""
    tests = str(Path(__file__).resolve().parents[1])
    (tmp_path / "real.toml").write_text(
        """
        [recipe]
        widths = [4, 6, 8]
        batch-size = 20
        epochs = 1
        examples = 40
        [[matrix]]
        methods = ["random", "dense"]
        sparsities = [0.5]
        optimizers = ["s2sam"]
        """
    )
    command = [sys.executable, "-c", REAL.format(tests=tests)]
    monkeypatch.setattr(schedule, "LANES", command)
    words = [str(tmp_path / "real.toml"), "--data", f"npz:{tiny_npz}"]
    main([*words, "--lanes", "2", "-o", str(tmp_path / "lanes")])
    rows = list(csv.DictReader((tmp_path / "lanes" / "results.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    # One of them alone, in a process that serves it alone.
    run = rows[1]["run"]
    plan = load_plan(str(tmp_path / "real.toml"), Overrides(tmp_path, data=f"npz:{tiny_npz}"))
    (alone,) = [one for one in plan.runs if one.name == run]
    line = [*alone.arguments, f"--output={tmp_path / 'alone'}", f"--threads={cores()}"]
    order = {"number": 1, "words": line, "log": str(tmp_path / "alone.log")}
    done = subprocess.run([*command, "auto", "1"], input=json.dumps(order), text=True, capture_output=True)
    assert json.loads(done.stdout) == {"number": 1, "code": 0, "told": ""}
    two = [
        torch.load(path / "final.pt", weights_only=True)
        for path in (tmp_path / "lanes" / run, tmp_path / "alone")
    ]
    assert all(torch.equal(value, two[1]["state_dict"][key]) for key, value in two[0]["state_dict"].items())
    assert two[0]["environment"]["lanes"] == 2
    assert two[0]["environment"]["device"] == "cuda"
