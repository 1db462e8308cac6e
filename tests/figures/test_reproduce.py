"""The reproduction: what is done is skipped, the budget holds, failures are told, nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
import threading
from itertools import chain, repeat
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import NETWORK, run_name, surface_of

import figures.reproduce.__main__ as command
from figures.reproduce.made import made
from figures.reproduce.plan import Job, Options, cells_shown, jobs, sweep_commands
from figures.reproduce.runner import Outcome, Reproduction, log_of, run_jobs
from figures.reproduce.scale import FOLDER, Scale, load_scale
from landscape.commandline.claims import claim
from landscape.errors import UserError

TOLD = Options("npz:x.npz", None, "cpu", 2)


WRITES = "import sys; open(sys.argv[1], 'w').write('{}')"


def job(root: Path, name: str, code: str = WRITES) -> Job:
    product = root / f"{name}.json"
    return Job("step", name, [sys.executable, "-S", "-c", code, str(product)], product)


def trained(root: Path, *names: str) -> None:
    for name in names:
        (root / "runs" / name).mkdir(parents=True)
        (root / "runs" / name / "final.pt").write_bytes(b"")


@pytest.mark.parametrize("name", [path.stem for path in FOLDER.glob("*.toml")])
def test_shipped_scales(name: str) -> None:
    scale = load_scale(name)
    specs = Path(command.__file__).parents[2] / "training" / "specs"
    assert all((specs / f"{spec}.toml").is_file() for spec in scale.sweeps)
    assert len(cells_shown()) == 8 + 18 - 6  # six of Figure 1's runs are in Figure 3 too


def test_bad_scales(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown scale 'huge'; expected cpu, mini, paper, smoke or"):
        load_scale("huge")
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "mini.toml").read_text().replace("planes = 3", "plains = 3"))
    with pytest.raises(UserError, match=r"\[surface\] has examples, .*plains, .*expected"):
        load_scale(str(path))


def test_jobs_are_of_trained_runs_only_and_figures_come_first(tmp_path: Path) -> None:
    scale = load_scale("mini")
    names = [run_name("grasp", 0.9, "sgd"), run_name("rigl", 0.9, "sgd")]
    trained(tmp_path, *names, f"{NETWORK}-dense-sgd-seed0")
    found = jobs(scale, tmp_path, TOLD)
    surfaces = [one.name for one in found if one.kind == "surface"]
    assert surfaces == [names[0], f"{NETWORK}-dense-sgd-seed0", names[1]]  # the figures' first
    kinds = [one.kind for one in found]
    assert kinds.index("exact") < len(kinds) - 6  # the last six are RigL's and the dense run's
    assert {one.kind for one in found} == {"surface", "step", "hessian", "sharpness", "study", "exact"}
    assert sum(kind == "study" for kind in kinds) == 4  # three spans and dense directions
    assert all("--data=npz:x.npz" in one.command for one in found)


def test_commands_are_understood(tmp_path: Path) -> None:
    # Whatever options the plan uses must exist: parse them with the commands' own help.
    from landscape.surface.surface_options import SurfaceOptions

    trained(tmp_path, run_name("grasp", 0.9, "sgd"))
    line = next(one for one in jobs(load_scale("mini"), tmp_path, TOLD) if one.kind == "surface").command
    names = {
        part.partition("=")[0].removeprefix("--").removeprefix("no-") for part in line if part[:2] == "--"
    }
    known = {
        one.name.replace("_", "-")
        for group in dataclasses.fields(SurfaceOptions)
        for one in dataclasses.fields(getattr(SurfaceOptions(), group.name))
    }
    assert names <= known
    training = sweep_commands(load_scale("mini"), tmp_path, TOLD)
    assert [one[4] for one in training] == ["figure3-mini", "figure1-mini", "methods-mini"]


def test_done_is_skipped_and_half_a_surface_is_not_done(tmp_path: Path) -> None:
    todo = [job(tmp_path, name) for name in "abc"]
    todo[1].product.write_text('["as it was"]')
    surface = tmp_path / "d.surface.h5"
    half = Job("surface", "d", [], surface)
    surface_of(np.ones((3, 3)), alpha=np.arange(3.0), beta=np.arange(3.0), complete=False).save(surface)
    assert not half.done
    outcome = run_jobs(todo, tmp_path / "logs")
    assert [one.product.read_text() for one in todo] == ["{}", '["as it was"]', "{}"]
    assert (outcome.failed, outcome.left, outcome.stopped) == ({}, [], None)
    surface.write_bytes(b"not HDF5")
    assert not half.done


def test_what_another_reproduction_does_is_waited_for(tmp_path: Path) -> None:
    mine = job(tmp_path, "a", "raise SystemExit('done twice')")
    log = log_of(mine, tmp_path / "logs")
    held = claim(log)
    assert held is not None

    def other() -> None:
        mine.product.write_text("{}")
        os.close(held)

    ending = threading.Timer(0.5, other)
    ending.start()
    assert run_jobs([mine], tmp_path / "logs").failed == {}
    ending.join()
    assert mine.product.read_text() == "{}"


def test_the_budget_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    todo = [job(tmp_path, f"{number}") for number in range(6)]
    # A clock that only jobs move: each takes 80 seconds.
    schedule = Reproduction(todo, tmp_path / "logs", 250.0, 1, lambda: 80.0 * sum(one.done for one in todo))
    schedule.run()
    assert [one.name for one in todo if one.done] == ["0", "1", "2"]
    assert schedule.outcome.left == ["3", "4", "5"]
    assert "[2/6, about 7 min left] step 1" in capsys.readouterr().err


def test_what_runs_when_the_time_is_over_is_stopped_and_left(tmp_path: Path) -> None:
    slow = job(tmp_path, "a", "import time; time.sleep(600)")
    times = chain([0.0] * 4, repeat(100.0))
    schedule = Reproduction([slow], tmp_path / "logs", 90.0, 1, lambda: next(times))
    schedule.run()
    assert (schedule.outcome.failed, schedule.outcome.left, schedule.running) == ({}, ["a"], [])


def test_a_failure_is_told_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = job(tmp_path, "bad", "import sys; print('so far'); sys.exit('error: no such thing')")
    good = job(tmp_path, "good")
    outcome = run_jobs([bad, good], tmp_path / "logs")
    assert outcome.failed == {"step bad": "no such thing"}
    assert good.done
    log = (tmp_path / "logs" / "step-bad.log").read_text().splitlines()
    assert log[0].startswith(sys.executable)
    assert sorted(log[1:]) == ["error: no such thing", "so far"]
    said = capsys.readouterr().err
    assert "  so far\n" in said
    assert "failed: step bad: no such thing\n" in said
    assert sys.executable not in said


def test_a_command_that_leaves_nothing_has_failed(tmp_path: Path) -> None:
    outcome = run_jobs([job(tmp_path, "a", "pass")], tmp_path / "logs")
    assert outcome.failed == {"step a": "ended with code 0 and without a word"}


def test_stopping_stops_the_commands_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import time; print('x', flush=True); time.sleep(600)"
    slow = [job(tmp_path, name, text) for name in "abc"]
    main, seen = threading.get_ident(), list[str]()

    def interrupt(line: str) -> None:
        seen.append(line.strip())
        if seen.count("x") == 2:  # both commands are running
            signal.pthread_kill(main, signal.SIGINT)

    monkeypatch.setattr("figures.reproduce.runner.note", interrupt)
    outcome = run_jobs(slow, tmp_path / "logs", inf, 2)
    assert outcome.stopped
    assert outcome.left == ["a", "b", "c"]


def test_commands_run_together_with_their_share_of_the_cores(tmp_path: Path) -> None:
    # Each waits for the other's file: one after the other they would never end.
    text = (
        "import os, sys, time; mine, other = sys.argv[1:3]\n"
        "open(mine, 'w').write(os.environ['OMP_NUM_THREADS'])\n"
        "while not os.path.exists(other): time.sleep(0.01)"
    )
    a, b = tmp_path / "a", tmp_path / "b"
    pair = [
        Job("step", one.name, [sys.executable, "-c", text, str(one), str(other)], one)
        for one, other in [(a, b), (b, a)]
    ]
    outcome = run_jobs(pair, tmp_path / "logs", inf, 2)
    assert (outcome.failed, outcome.left) == ({}, [])
    assert int(a.read_text()) >= 1


def test_jobs_go_round_the_gpus_and_their_logs_say_so(tmp_path: Path) -> None:
    todo = [job(tmp_path, name) for name in "abc"]
    todo[2] = dataclasses.replace(todo[2], somewhere=False)
    schedule = Reproduction(todo, tmp_path / "logs", inf, 3, devices=["cuda:0", "cuda:1"])
    schedule.run()
    first = [log_of(one, tmp_path / "logs").read_text().splitlines()[0].split()[-1] for one in todo]
    assert first == ["--device=cuda:0", "--device=cuda:1", str(todo[2].product)]


def test_jobs_of_a_seed_and_a_sparsity_come_before_the_next(tmp_path: Path) -> None:
    cells = [("snip", 0.98, "sgd"), ("grasp", 0.9, "s2sam"), ("grasp", 0.98, "sgd"), ("snip", 0.9, "sgd")]
    names = [run_name(*cell) for cell in cells]
    trained(tmp_path, *names, names[0].replace("seed0", "seed1"))
    found = [one.name for one in jobs(load_scale("mini"), tmp_path, TOLD) if one.kind == "surface"]
    assert [name.split("-")[3:] for name in found] == [
        *(["0.9", "s2sam", "seed0"], ["0.9", "sgd", "seed0"]),
        *(["0.98", "sgd", "seed0"], ["0.98", "sgd", "seed0"], ["0.98", "sgd", "seed1"]),
    ]


def test_within_a_budget_what_is_trained_is_computed_before_more_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told = [0.0], list[str]()
    names = [run_name("grasp", sparsity, "sgd") for sparsity in (0.9, 0.95, 0.98)]

    def sweep(line: list[str]) -> int:  # a training takes 500 s
        left = float(line[-1].removeprefix("--time-budget=").removesuffix("s"))
        while names and left >= 500:
            trained(tmp_path, names[0])
            told.append(f"{now[0]:.0f} s: {names.pop(0).split('-')[3]}")
            left, now[0] = left - 500, now[0] + 500
        return 3 if names else 0

    def compute(todo: list[Job], *_: object) -> Outcome:  # all that is trained and not computed yet, in 100 s
        new = sorted({one.name for one in todo if one.kind == "surface"} - set(told))
        told.extend(new)
        now[0] += 100.0 * len(new)
        return Outcome()

    monkeypatch.setattr(command, "_waited", sweep)
    monkeypatch.setattr(command, "run_jobs", compute)
    monkeypatch.setattr(command, "draw", lambda *_: None)
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    scale = dataclasses.replace(load_scale("mini"), sweeps=["figure3-mini"])
    monkeypatch.setattr(command, "load_scale", lambda name: scale)
    options = command.ReproduceOptions(output=tmp_path, time_budget="1200s", device="cpu")
    assert command.reproduce(options) == 3
    assert told == ["0 s: 0.9", run_name("grasp", 0.9, "sgd"), "600 s: 0.95", run_name("grasp", 0.95, "sgd")]


def test_a_stop_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_jobs", stop)
    monkeypatch.setattr(command, "draw", lambda *_: pytest.fail("drew after a stop"))
    with pytest.raises(SystemExit) as exit_:
        command.main(["--skip-training", "--output", str(tmp_path)])
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C; the same command goes on\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "huge"], "unknown scale 'huge'"),
        (["--time-budget", "soon"], "expected a"),
        (["--jobs", "0"], "--jobs 0: expected 1 or more"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("points = ", 'points = "x" # '),
        ("span = ", "span = nan # "),
        ("span = ", f"span = 1{'0' * 400} # "),
        ("spans = ", "spans = [true] # "),
        ("registered = ", "registered = 1 # "),
        ("sweeps = ", "sweeps = [[]] # "),
    ],
)
def test_scales_of_other_types_are_one_line(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    text = (FOLDER / "mini.toml").read_text(encoding="utf-8")
    path.write_text(re.sub(f"^{old}", new, text, count=1, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(UserError, match=f"{old[:-3]} = .*; expected"):
        load_scale(str(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("measures", "[\"sam\", \"--model=subprocess:call(args=['touch','pwned'])\"]"),
        ("measures", '["sam", "-h"]'),
        ("sweeps", '["--table=victim"]'),
        ("sweeps", '["--table=victim.toml"]'),
        ("sweeps", '[""]'),
        ("sweeps", '["/etc/passwd"]'),
        ("network", '"/etc"'),
        ("network", '"../other"'),
        ("network", '"-x"'),
        ("network", '""'),
    ],
)
def test_words_of_a_scale_are_no_options_and_no_folders(key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    text = (FOLDER / "mini.toml").read_text(encoding="utf-8")
    path.write_text(re.sub(f"^{key} = .*", f"{key} = {value}", text, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(UserError, match=f"own.toml: {key} .*; expected"):
        load_scale(str(path))


def test_a_network_with_signs_of_a_pattern_has_its_own_runs_only(tmp_path: Path) -> None:
    scale = dataclasses.replace(load_scale("mini"), network="resnet20-c[ab]")
    trained(tmp_path, "resnet20-c[ab]-grasp-0.9-sgd-seed0", "resnet20-ca-grasp-0.9-sgd-seed0")
    assert {one.name for one in jobs(scale, tmp_path, TOLD) if one.kind == "surface"} == {
        "resnet20-c[ab]-grasp-0.9-sgd-seed0"
    }


def test_folders_that_are_named_otherwise_are_no_runs(tmp_path: Path) -> None:
    name = f"{NETWORK}-grasp-0.9-sgd-seed0"
    trained(tmp_path, name, f"{name}-old", f"{NETWORK}-mine", f"{name}²")
    assert {one.name for one in jobs(load_scale("mini"), tmp_path, TOLD) if one.kind == "surface"} == {name}


def go_on(scale: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The scale that a folder has after `scale` went on there, nothing computed or drawn."""
    monkeypatch.setattr(command, "draw", lambda products, words: None)
    options = command.ReproduceOptions(scale=scale, output=root, skip_training=True, device="cpu")
    assert command.reproduce(options) == 0
    return (root / "scale.toml").read_text(encoding="utf-8")


def test_another_scale_does_not_go_on_with_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "scale.toml"
    cpu = (FOLDER / "cpu.toml").read_text(encoding="utf-8")
    for text in (cpu, cpu.replace("points = 51", "points = 11")):
        kept.write_text(text, encoding="utf-8")
        said = "network resnet20-cifar10, now resnet20-sample; expected the scale"
        with pytest.raises(UserError, match=said):
            go_on("smoke", tmp_path, monkeypatch)
        assert kept.read_text(encoding="utf-8") == text
    with pytest.raises(UserError, match=r"surface\.points 11, now 51; expected"):
        go_on("cpu", tmp_path, monkeypatch)
    assert go_on(str(kept), tmp_path, monkeypatch) == text


LISTS = ("sweeps", "measures", "runs", "spans", "dense", "exact")


@pytest.mark.parametrize("name", LISTS)
def test_a_scale_may_grow_and_not_shrink(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    less, own = (FOLDER / "cpu.toml").read_text(encoding="utf-8"), tmp_path / "own.toml"
    added = "0.75" if name == "spans" else '"another"'
    more, count = re.subn(rf"^{name} = \[", rf"\g<0>{added}, ", less, flags=re.MULTILINE)
    assert count == 1
    own.write_text(less, encoding="utf-8")
    root = tmp_path / "results"
    assert go_on(str(own), root, monkeypatch) == less
    own.write_text(more, encoding="utf-8")
    assert go_on(str(own), root, monkeypatch) == more
    own.write_text(less, encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name} \[.* now \["):
        go_on(str(own), root, monkeypatch)


@pytest.mark.parametrize("name", ["mini", "cpu"])
def test_shipped_results_go_on_and_older_ones_get_what_they_lack(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    shipped = Path(command.__file__).parents[2] / "results" / name / "scale.toml"
    older = re.sub("^(registered|split|log) = .*\n", "", text, flags=re.MULTILINE)
    for before in (shipped.read_text(encoding="utf-8"), older):
        (tmp_path / "scale.toml").write_text(before, encoding="utf-8")
        assert go_on(name, tmp_path, monkeypatch) == text


def test_nested_scales_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("a = " + "[" * 5000)
    with pytest.raises(UserError, match="nested too deeply"):
        load_scale(str(path))


def made_product(root: Path, kind: str, scale: Scale) -> Job:
    """A job of a kind, with the product that its command would have left."""
    trained(root, f"{scale.network}-grasp-0.9-sgd-seed0")
    one = next(one for one in jobs(scale, root, TOLD) if one.kind == kind)
    one.product.parent.mkdir(parents=True)
    digest = {"checkpoint": {"sha256": one.asked.get("checkpoint")}}
    if kind == "surface":
        asked, axis = one.asked, np.linspace(-one.asked["span"], one.asked["span"], one.asked["points"])
        surface = surface_of(np.ones((len(axis), len(axis))), alpha=axis, beta=axis)
        counts = np.array([asked["examples"] // 5] * 5)
        split = dataclasses.replace(
            surface.planes[0].splits["train"], examples=asked["examples"], block_counts=counts
        )
        planes = (dataclasses.replace(surface.planes[0], splits={asked["split"]: split}),) * asked["planes"]
        sampling = {key: asked[key] for key in ("tolerance", "max_points")}
        settings, about = {**surface.settings, "sampling": sampling}, {**surface.about, **digest}
        dataclasses.replace(surface, planes=planes, settings=settings, about=about).save(one.product)
    elif kind == "hessian":
        values = {key: one.asked[key] for key in ("top", "tolerance", "max_products")}
        settings = {"eigenvalues": values | {"bottom": 0}}
        row = {"about": digest, "examples": one.asked["examples"], "settings": settings}
        one.product.write_text(json.dumps([row]))
    elif kind == "sharpness":
        rows = "".join(f"{name},0.1\n" for name in scale.sharpness.measures)
        one.product.write_text("measure,value\n" + rows)
        beside = {"results": [{"sha256": one.asked["checkpoint"]}]}
        one.product.with_suffix(".json").write_text(json.dumps(beside))
    else:
        one.product.write_text(json.dumps({"learning_rate": scale.step.rate, "rho": scale.step.rho}))
    return one


@pytest.mark.parametrize(
    ("kind", "part", "field", "other"),
    [
        ("surface", "surface", "span", 0.5),
        ("surface", "surface", "points", 17),
        ("surface", "surface", "planes", 1),
        ("surface", "surface", "examples", 7),
        ("surface", "surface", "split", "test"),
        ("surface", "surface", "max_points", 99),
        ("hessian", "hessian", "examples", 7),
        ("hessian", "hessian", "top", 9),
        ("sharpness", "sharpness", "measures", ["asam"]),
        ("step", "step", "rho", 0.9),
    ],
)
def test_what_was_made_of_other_settings_is_not_done(
    tmp_path: Path, kind: str, part: str, field: str, other: Any
) -> None:
    scale = load_scale("smoke")
    assert made_product(tmp_path, kind, scale).done
    assert getattr(getattr(scale, part), field) != other
    changed = dataclasses.replace(
        scale, **{part: dataclasses.replace(getattr(scale, part), **{field: other})}
    )
    assert not next(one for one in jobs(changed, tmp_path, TOLD) if one.kind == kind).done


@pytest.mark.parametrize("kind", ["surface", "hessian", "sharpness"])
def test_what_was_made_of_another_checkpoint_is_not_done(tmp_path: Path, kind: str) -> None:
    scale = load_scale("smoke")
    one = made_product(tmp_path, kind, scale)
    assert one.done
    next(tmp_path.glob("runs/*/final.pt")).write_bytes(b"trained again")
    assert not next(one for one in jobs(scale, tmp_path, TOLD) if one.kind == kind).done


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_are_neither_checkpoints_nor_products(tmp_path: Path) -> None:
    scale = load_scale("smoke")
    one = made_product(tmp_path, "sharpness", scale)
    one.product.unlink()
    os.mkfifo(one.product)
    assert not one.done
    (tmp_path / "runs" / f"{scale.network}-grasp-0.8-sgd-seed0").mkdir()
    os.mkfifo(tmp_path / "runs" / f"{scale.network}-grasp-0.8-sgd-seed0" / "final.pt")
    assert all("grasp-0.8" not in job.name for job in jobs(scale, tmp_path, TOLD))


@pytest.mark.parametrize("text", ["", "{", "[]", "[3]", '[{"about": 3}]', '{"results": 3}'])
def test_products_of_another_form_say_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert not any((made(path) or {}).values())
    (tmp_path / "x.csv").write_text(text)
    assert not (made(tmp_path / "x.csv") or {}).get("measures")
