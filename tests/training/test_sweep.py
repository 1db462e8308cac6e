"""Sweeps over a fake training command: skipping, going on, failures, budgets, jobs, kills."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from sweep_fake import Sweeps, World, alive, name

from landscape.checkpoint.format import FORMAT
from landscape.checkpoint.integrity import sealed
from landscape.images import read_images
from landscape.images.selection import fingerprint
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.photographs import Reading, read_training_data
from training.sweep.__main__ import main
from training.sweep.images import Images
from training.sweep.plan import load_plan
from training.sweep.schedule import log_path
from training.sweep.status import Runs

SPEC = """
output = "{output}"
seeds = [0, 1]
[recipe]
data = "sample"
epochs = 2
[[matrix]]
methods = ["random"]
sparsities = [0.5]
optimizers = ["sgd"]
"""

METRICS = {
    "test_accuracy": 0.75,
    "test_examples": 300,
    "test_loss": 0.5,
    "validation_accuracy": float("nan"),
    "sparsity": 0.5,
    "kept_weights": 1234,
    "layers": {"a.weight": {"dead_filters": 1}, "b.weight": {"dead_filters": 2}},
    "classes_without_input": [3, 7],
    "epochs_trained": 2,
    "examples_trained": 600,
    "flops": 2_000_000,
    "flops_dense": 8_000_000,
    "training_flops": 3_600_000_000,
    "training_flops_dense": 14_400_000_000,
    "seconds": 12.5,
}


def two_seeds(folder: Path) -> World:
    """The fake and a spec of two runs."""
    here = World(folder)
    (folder / "spec.toml").write_text(SPEC.format(output=here.root))
    runs = load_plan(str(folder / "spec.toml")).runs
    (folder / "settings.json").write_text(json.dumps({run.name: run.settings for run in runs}))
    torch.save({"format": FORMAT, "metrics": METRICS}, folder / "final.pt")
    here.behave()
    return here


@pytest.fixture
def world(tmp_path: Path) -> World:
    return two_seeds(tmp_path)


@pytest.fixture(scope="module")
def sweeps() -> Iterator[Sweeps]:
    server = Sweeps()
    yield server
    server.close()


def test_jobs_go_round_the_gpus(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world.behave(seed0={"together": 2}, seed1={"together": 2})
    assert sweep(world, "--jobs", "2") == 0
    devices = [word for start in world.starts() for word in start["words"] if word.startswith("--device=")]
    assert sorted(devices) == ["--device=cuda:0", "--device=cuda:1"]


def test_a_device_that_is_named_is_everyones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert sweep(world, "--jobs", "2", "--device", "cuda:1") == 0
    assert all("--device=cuda:1" in start["words"] for start in world.starts())
    assert sweep(world, "--device", "cuda:x") == 2


def sweep(world: World, *arguments: str) -> int | str | None:
    """Exit code of a sweep in this process."""
    try:
        main([str(world.path / "spec.toml"), *arguments], world.training)
    except SystemExit as stop:
        return stop.code
    return 0


def table(world: World) -> dict[str, dict[str, str]]:
    """Rows of the table by run; it must be whole."""
    text = (world.root / "results.csv").read_text()
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines(), strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return {row["run"]: row for row in rows}


def states(world: World) -> list[str]:
    found = table(world)
    return [found[name(seed)]["state"] for seed in (0, 1)]


def test_runs_all_then_skips_all(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(world) == 0
    assert states(world) == ["finished", "finished"]
    assert [start["run"] for start in world.starts()] == [name(0), name(1)]
    assert str(world.root / "results.csv") in capsys.readouterr().out
    left = {path.relative_to(world.root).as_posix() for path in world.root.rglob("*") if path.is_file()}
    files = {f"{name(seed)}/{file}" for seed in (0, 1) for file in ("final.pt", "run.json", "metrics.jsonl")}
    assert left == {"results.csv", *files}
    before = (world.root / "results.csv").read_bytes()
    assert sweep(world) == 0
    assert len(world.starts()) == 2
    assert (world.root / "results.csv").read_bytes() == before


def test_keep_state(world: World) -> None:
    assert sweep(world, "--keep-state", "--only", "*seed1") == 0
    assert (world.root / name(1) / "last.pt").exists()
    assert states(world) == ["missing", "finished"]


def test_the_table_has_every_column(world: World) -> None:
    sweep(world, "--only", "*seed0")
    lines = (world.root / "results.csv").read_text().splitlines()
    assert lines[0] == (
        "run,state,model,data,method,sparsity_asked,optimizer,seed,epochs,epochs_trained,examples_trained,"
        "flops,flops_share,training_flops,training_flops_share,test_accuracy,test_accuracy_error,test_loss,validation_accuracy,sparsity,sparsity_overall,kept_weights,"
        "channels_share,shrunk_parameters,shrunk_flops_share,exploration,dead_filters,classes_without_input,seconds,checkpoint,error"
    )
    run = name(0)
    assert lines[1:] == [
        f"{run},finished,resnet20,sample,random,0.5,sgd,0,2,2,600,2000000,0.25,3600000000,0.25,0.75,0.025,0.5,,0.5,,1234,,,,,3,2,12.5,{run}/final.pt,",
        f"{name(1)},missing,resnet20,sample,random,0.5,sgd,1,2,,,,,,,,,,,,,,,,,,,,,,",
    ]


def test_goes_on_after_failures(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.behave(seed0={"fail": "the loss became nan, in step 3"})
    assert sweep(world) == 1
    assert states(world) == ["failed", "finished"]
    assert table(world)[name(0)]["error"] == "the loss became nan, in step 3"
    assert "1 of 2 runs failed" in capsys.readouterr().err
    assert (world.root / "logs" / f"{name(0)}.log").read_text().startswith("epoch 1\n")
    assert sweep(world, "--only", "*seed1") == 0  # the failure is another run's, and is still in the table
    assert states(world) == ["failed", "finished"]
    world.behave()
    assert sweep(world) == 0
    assert states(world) == ["finished", "finished"]
    assert table(world)[name(0)]["error"] == ""


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ({"die": signal.SIGKILL}, "killed by SIGKILL (out of memory?)"),
        ({"die": signal.SIGSEGV}, "killed by SIGSEGV"),
        ({"silent": True}, "ended with code 0 and without a word"),
    ],
)
def test_dead_runs_are_failures(world: World, behaviour: dict[str, object], error: str) -> None:
    world.behave(seed0=behaviour)
    assert sweep(world, "--only", "*seed0") == 1
    assert table(world)[name(0)]["error"] == error


def test_a_folder_with_other_settings_fails_and_stays(world: World) -> None:
    assert sweep(world) == 0
    file = world.root / name(0) / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"epochs": 7}))
    assert sweep(world) == 1
    assert states(world) == ["failed", "finished"]
    assert "holds another run: epochs 7, now 2; move it away" in table(world)[name(0)]["error"]
    assert len(world.starts()) == 2


def test_the_result_of_another_run_fails_and_stays(world: World) -> None:
    """Whose settings its checkpoint says; one of an earlier version says fewer."""
    assert sweep(world) == 0
    for seed in (0, 1):
        config = json.loads((world.root / name(seed) / "run.json").read_text())
        del config["mixup"]
        content = {"format": FORMAT, "metrics": METRICS, "config": config | {"seed": 1}}
        torch.save(content, world.root / name(seed) / "final.pt")
    assert sweep(world) == 1
    assert states(world) == ["failed", "finished"]
    error = table(world)[name(0)]["error"]
    assert error.endswith("final.pt is another run's: seed 1, now 0; remove it or choose another --output")
    assert table(world)[name(0)]["test_accuracy"] == ""
    assert len(world.starts()) == 2


def test_the_results_of_this_repository_are_finished_runs() -> None:
    """Those of earlier versions say less of themselves."""
    folders = [file.parent for file in Path("results").glob("**/runs/*/final.pt")]
    assert len(folders) >= 20
    for folder in folders:
        runs = Runs(folder.parent)
        assert runs.status(folder.name).state == "finished"
        settings = runs.settings(folder.name)
        assert settings is not None
        assert RunFolder(folder, settings).finished() is not None
        later = {"image_size": None, "mixup": 0.0, "milestones": [], "lr_drop": 0.1}
        assert runs.status(folder.name, later | settings).state == "finished"


@pytest.mark.parametrize(
    ("key", "said"), [("sha256", "other sample images;"), ("test_sha256", "other sample test images;")]
)
def test_a_finished_run_of_other_images_of_that_name_is_refused(world: World, key: str, said: str) -> None:
    assert sweep(world) == 0
    of = {"sha256": "train", "test_sha256": "test"}
    data = {one: fingerprint(read_images("sample", split)) for one, split in of.items()}
    for seed, known in ((0, data | {key: "5eed"}), (1, data)):
        content = {"format": FORMAT, "metrics": METRICS, "data": known}
        torch.save(content, world.root / name(seed) / "final.pt")
    assert sweep(world) == 1
    assert states(world) == ["failed", "finished"]
    assert said in table(world)[name(0)]["error"]
    assert len(world.starts()) == 2


def test_images_that_are_not_here_are_said_not_to_be_checked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(world, "--data", "npz:gone/sample.npz") == 0
    for seed in (0, 1):
        content = {"format": FORMAT, "metrics": METRICS, "data": {"sha256": "5eed"}}
        torch.save(content, world.root / name(seed) / "final.pt")
    capsys.readouterr()
    assert sweep(world, "--data", "npz:gone/sample.npz") == 0
    said = capsys.readouterr().err
    assert said.count("not checked that finished runs are of the images of npz:gone/sample.npz: ") == 1


def test_pictures_of_a_folder_are_told_by_names_and_sizes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / split / label / "1.png")
    config = RunConfig(data=f"imagefolder:{tmp_path}", image_size=16)
    reading = read_training_data(config.data, 0.0, 0, torch.device("cpu"), Reading(), image_size=16)
    known = {"sha256": reading.sha256, "test_sha256": reading.test_sha256}
    assert Images(None).others(config, known) == ""
    Image.new("RGB", (40, 90), (9, 1, 9)).save(tmp_path / "val" / "b" / "1.png")
    assert Images(None).others(config, known) == "test images"
    assert Images(None).others(config, known | {"left_out": {"train": 1}}) == ""


def test_a_damaged_result_fails_and_stays(world: World) -> None:
    assert sweep(world) == 0
    (world.root / name(1) / "final.pt").write_bytes(b"no checkpoint")
    assert sweep(world) == 1
    assert "final.pt can't be read" in table(world)[name(1)]["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"test_accuracy": "abc"}, {"test_accuracy": 2.0}, {"layers": 3}, {"layers": {"a": {}}},
        {"test_examples": -5}, {"test_examples": 0}, {"shrunk_flops": 9}, {"epochs_trained": [1]},
        {"examples_trained": 0.5}, {"seconds": -1.0}, {"flops": 10**31}, {"classes_without_input": 3},
        {"kept_weights": True}, {"flops_dense": "x"},
    ],
)  # fmt: skip
def test_metrics_that_no_training_leaves_fail_one_run_alone(world: World, wrong: dict[str, object]) -> None:
    assert sweep(world) == 0
    path = world.root / name(0) / "final.pt"
    torch.save({"format": FORMAT, "metrics": METRICS | wrong}, path)
    main(["--table", str(world.root)])
    assert states(world) == ["failed", "finished"]
    assert "final.pt: its metrics aren't those of a training (" in table(world)[name(0)]["error"]
    main(["--table", str(world.root)])  # the table is one that is read again


def test_a_result_that_was_changed_fails(world: World) -> None:
    assert sweep(world) == 0
    content = sealed({"format": FORMAT, "metrics": METRICS})
    torch.save(content, world.root / name(1) / "final.pt")
    torch.save(content | {"metrics": METRICS | {"test_accuracy": 0.99}}, world.root / name(0) / "final.pt")
    main(["--table", str(world.root)])
    assert states(world) == ["failed", "finished"]
    assert "its values aren't those that were written" in table(world)[name(0)]["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "x"}, {"method": {"name": 3}}, {"method": {"name": "random", "sparsity": "abc"}},
        {"method": {"name": "random", "sparsity": 5}}, {"seed": "x"}, {"seed": -1}, {"epochs": [1]},
        {"optimizer": []}, {"model": {}}, {"seed": 10**400},
    ],
)  # fmt: skip
def test_settings_that_no_training_has_spoil_no_table(world: World, wrong: dict[str, object]) -> None:
    assert sweep(world) == 0
    (world.root / "results.csv").unlink()
    file = world.root / name(0) / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    for _ in range(2):
        main(["--table", str(world.root)])
        assert states(world) == ["failed", "finished"]
        assert table(world)[name(0)]["error"]


def test_a_folder_that_no_table_can_name_is_none_of_its_rows(world: World) -> None:
    assert sweep(world) == 0
    (world.root / name(0)).rename(world.root / "net\x1b[31m")
    for _ in range(2):
        main(["--table", str(world.root)])
        assert sorted(table(world)) == [name(0), name(1)]


def test_no_run_starts_that_does_not_fit_the_budget(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.behave(seed0={"sleep": [0.5, 0.5]})
    assert sweep(world, "--time-budget", "1.9s") == 3  # the second one is expected to take as long
    assert states(world) == ["finished", "missing"]
    assert len(world.starts()) == 1
    assert "1 of 2 runs are left; the same command goes on" in capsys.readouterr().err


def test_the_budgets_end_interrupts_a_run_that_goes_on_later(world: World) -> None:
    world.behave(seed0={"sleep": [0.0, 60.0]})
    assert sweep(world, "--time-budget", "1s") == 3
    assert states(world) == ["interrupted", "missing"]
    assert table(world)[name(0)]["error"] == ""
    assert not alive(world.starts()[0]["pid"])
    world.behave()
    assert sweep(world) == 0
    assert [start["first"] for start in world.starts()] == [0, 1, 0]


def test_jobs_run_together_and_share_the_cores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.sweep.__main__.cores", lambda: 5)
    world.behave(seed0={"together": 2}, seed1={"together": 2})
    assert sweep(world, "--jobs", "2", "--device", "cpu", "--data-root", "images", "--download") == 0
    for start in world.starts():
        assert {"--threads=2", "--device=cpu", "--data-root=images", "--download"} <= set(start["words"])


def test_one_job_at_a_time(world: World) -> None:
    world.behave(seed0={"together": 1, "sleep": [0.3, 0.0]}, seed1={"together": 2})
    assert sweep(world) == 0  # seed 1 sees what seed 0 left
    ended = (world.root / name(0) / "final.pt").stat().st_mtime
    assert (world.path / f"{name(1)}.here").stat().st_mtime > ended


@pytest.mark.parametrize(("number", "by"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_stops_the_runs_and_says_how_to_go_on(
    world: World, sweeps: Sweeps, number: signal.Signals, by: str
) -> None:
    world.behave(seed0={"sleep": [0.0, 60.0]}, seed1={"sleep": [0.0, 60.0]})
    sweeper = sweeps.start(world, "--jobs", "2")
    for seed in (0, 1):
        world.wait_for(f"{name(seed)}/last.pt")
    os.kill(sweeper, number)
    assert sweeps.code() == 128 + number
    assert not any(alive(start["pid"]) for start in world.starts())
    assert states(world) == ["interrupted", "interrupted"]
    for seed in (0, 1):  # asked to stop, not killed
        assert "stopped: the same command goes on" in log_path(world.root, name(seed)).read_text()
    said = (world.path / "output.txt").read_text()
    assert f"stopped by {by}: 2 of 2 runs are left; the same command goes on" in said


def test_kills_of_the_sweep_lose_nothing(world: World, sweeps: Sweeps) -> None:
    world.behave(seed0={"sleep": [0.3, 0.0]})
    for moment in ("results.csv", f"{name(0)}/run.json", f"{name(0)}/last.pt"):
        sweeper = sweeps.start(world)
        world.wait_for(moment)
        os.kill(sweeper, signal.SIGKILL)
        assert sweeps.code() == -signal.SIGKILL
        if (world.root / "results.csv").exists():
            table(world)
    sweeps.start(world)
    assert sweeps.code() == 0
    assert states(world) == ["finished", "finished"]
    # A run outlives its killed sweep, so each starts once; where processes start slowly seed 1 may be first.
    assert sorted(start["run"] for start in world.starts()) == [name(0), name(1)]


def test_a_run_of_a_killed_sweep_is_waited_for(world: World, sweeps: Sweeps) -> None:
    world.behave(seed0={"sleep": [0.0, 1.0]})
    sweeper = sweeps.start(world, "--only", "*seed0")
    world.wait_for(f"{name(0)}/last.pt")
    os.kill(sweeper, signal.SIGKILL)
    assert sweeps.code() == -signal.SIGKILL
    assert sweep(world, "--only", "*seed0") == 0
    assert len(world.starts()) == 1


def test_dry_run_writes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(world, "--dry-run", "--seeds", "0", "4") == 0
    text = capsys.readouterr().out
    assert re.search(r"seed0\s+missing", text)
    assert re.search(r"seed4\s+missing", text)
    assert not world.root.exists()


def test_the_table_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(world)
    whole = (world.root / "results.csv").read_bytes()
    (world.root / "results.csv").unlink()
    capsys.readouterr()
    main(["--table", str(world.root)])
    assert (world.root / "results.csv").read_bytes() == whole
    assert "75.00 ± 2.50" in capsys.readouterr().out


def test_rows_of_another_sweep_in_the_folder_stay(world: World) -> None:
    sweep(world, "--only", "*seed0")
    assert sweep(world, "--seeds", "1") == 0
    assert states(world) == ["finished", "finished"]


def test_a_strange_table_is_not_replaced(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.root.mkdir()
    (world.root / "results.csv").write_text("a,b\n1,2\n")
    assert sweep(world) == 2
    assert "results.csv is no table of a sweep" in capsys.readouterr().err
    assert (world.root / "results.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "jobs 0: expected 1 or more"),
        (["--time-budget", "soon"], "time budget 'soon': expected a duration like 45m"),
        (["--only", "nothing*"], "--only 'nothing*' fits none of 2 runs"),
        (["--table", "there"], "expected either a spec or --table"),
        (["--seeds", "zero"], "seeds"),
        (["--epochs", "3"], "Unknown option: --epochs"),
        (["--data", "smaple"], "did you mean sample?"),
    ],
)
def test_bad_arguments(
    world: World, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(world, *arguments) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ")
    assert "\n" not in text
    assert message in text
    assert not world.starts()


def test_trains_with_the_real_command(tiny_npz: Path, tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text(
        """
        [recipe]
        widths = [4, 6, 8]
        batch-size = 20
        epochs = 1
        augment = false
        examples = 40
        [[matrix]]
        methods = ["random", "dense"]
        sparsities = [0.5]
        optimizers = ["sgd"]
        """
    )
    words = [str(tmp_path / "real.toml"), "-o", str(tmp_path / "runs"), "--data", f"npz:{tiny_npz}"]
    main([*words, "--jobs", "2", "--device", "cpu"])
    rows = list(csv.DictReader((tmp_path / "runs" / "results.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == [
        "resnet20-tiny-dense-sgd-seed0",
        "resnet20-tiny-random-0.5-sgd-seed0",
    ]
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert abs(float(rows[1]["sparsity"]) - 0.5) < 1e-3
    assert rows[0]["sparsity_asked"] == ""
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    assert not list((tmp_path / "runs").rglob("last.pt"))
    main(words, ["no such command"])  # the settings that the plan foresaw are those in run.json
