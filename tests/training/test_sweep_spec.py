"""Specs to runs: names, settings, command lines, and what is refused."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from landscape.commandline.duration import parse_duration
from landscape.errors import UserError
from training.__main__ import main
from training.config import RunConfig, run_name
from training.sweep.estimate import Estimator
from training.sweep.matrix import Block
from training.sweep.plan import SPECS, Overrides, in_turn, load_plan, make_plan

SPEC: dict[str, Any] = {
    "output": "runs",
    "recipe": {"data": "npz:some/tiny.npz", "epochs": 2, "lr": 0.2, "keep-dense": ["first"]},
    "matrix": [{"methods": ["random", "dense"], "sparsities": [0.5, 0.25], "optimizers": ["sgd"]}],
}
SHIPPED = sorted(path.stem for path in SPECS.glob("*.toml"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """SPEC with something else at a path like ``matrix.0.methods``."""
    spec: Any = copy.deepcopy(SPEC)
    *inner, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = spec
    for part in inner:
        place = place[part] if isinstance(part, int) else place.setdefault(part, {})
    place[last] = value
    return spec


def test_names_are_pinned() -> None:
    """Finished runs are found by these names: another rule would train everything again."""
    plan = make_plan(SPEC, "spec.toml", Overrides(seeds=[0, 3]))
    assert [run.name for run in plan.runs] == [
        "resnet20-tiny-random-0.5-sgd-seed0",
        "resnet20-tiny-random-0.25-sgd-seed0",
        "resnet20-tiny-dense-sgd-seed0",
        "resnet20-tiny-random-0.5-sgd-seed3",
        "resnet20-tiny-random-0.25-sgd-seed3",
        "resnet20-tiny-dense-sgd-seed3",
    ]


def test_a_part_of_a_sweep_has_every_method_of_a_sparsity_and_a_seed() -> None:
    spec = changed("matrix/0/optimizers", ["sgd", "s2sam"])
    spec["matrix"].append(spec["matrix"][0] | {"recipe": {"model": "vgg19"}})
    turns = in_turn(make_plan(spec, "spec.toml", Overrides(seeds=[3, 0])).runs)
    small = [run.name.removeprefix("resnet20-tiny-") for run in turns[:6]]
    assert small == [
        *("dense-sgd-seed3", "dense-s2sam-seed3"),
        *("random-0.5-sgd-seed3", "random-0.5-s2sam-seed3"),
        *("random-0.25-sgd-seed3", "random-0.25-s2sam-seed3"),
    ]
    assert all(run.name.startswith("vgg19") and run.config.seed == 3 for run in turns[6:12])
    assert all(run.config.seed == 0 for run in turns[12:])
    paper = in_turn(load_plan("table1-paper").runs)[:16]
    assert {(run.config.model, run.config.seed, run.config.method.sparsity) for run in paper} == {  # type: ignore[attr-defined]
        ("resnet32_wide", 0, 0.9)
    }
    assert len({type(run.config.method) for run in paper}) == 8


def test_names_are_those_of_the_training_command() -> None:
    for run in make_plan(SPEC, "spec.toml").runs:
        assert run.name == run_name(run.settings)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipe/augment", False),
        ("recipe/widths", [4, 6, 8]),
        ("recipe/weight-decay", 1e-5),
        ("recipe/nesterov", True),
        ("method/random", {"distribution": "uniform", "keep_dense": ["last", "shortcut"]}),
        ("optimizer/sgd", {"lr": 0.05}),
        ("matrix/0/recipe", {"epochs": 7, "momentum": 0.5}),
    ],
)
def test_the_command_line_gives_the_planned_settings(
    path: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[RunConfig] = []
    monkeypatch.setattr("training.__main__.run", lambda config, machine: trained.append(config))
    runs = make_plan(changed(path, value), "spec.toml").runs
    for run in runs:
        main(run.arguments)
    assert trained == [run.config for run in runs]


def test_the_more_special_wins() -> None:
    spec = changed("optimizer/sgd", {"lr": 0.05}) | {"method": {"random": {"keep-dense": ["last"]}}}
    spec["matrix"].append(
        {"methods": ["dense"], "optimizers": ["sgd"], "recipe": {"model": "vgg19", "momentum": 0.5, "lr": 3}}
    )
    runs = make_plan(spec, "spec.toml").runs
    assert [run.settings["optimizer"]["lr"] for run in runs] == [0.05] * 4
    assert [run.settings["optimizer"]["momentum"] for run in runs] == [0.9, 0.9, 0.9, 0.5]
    assert runs[0].settings["method"]["keep_dense"] == ["last"]
    assert runs[-1].name == "vgg19-tiny-dense-sgd-seed0"


def test_overrides() -> None:
    overrides = Overrides(output=SPECS, seeds=[5], data="imagefolder:here/dogs")
    plan = make_plan(SPEC, "spec.toml", overrides)
    assert plan.output == SPECS
    assert plan.runs[0].name == "resnet20-dogs-random-0.5-sgd-seed5"
    assert "--data=imagefolder:here/dogs" in plan.runs[0].arguments


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("recip", {}, "spec.toml: unknown key 'recip' (did you mean recipe?)"),
        ("recipe/epoch", 3, "spec.toml: recipe: unknown option 'epoch' (did you mean epochs?)"),
        ("recipe/seed", 3, "unknown option 'seed'"),
        ("recipe/sparsity", 0.5, "unknown option 'sparsity'"),
        ("recipe/epochs", "two", "matrix 1: epochs = 'two': Unable to convert"),
        ("recipe/epochs", 2.5, "epochs = 2.5: expected int"),
        ("recipe/epochs", [1, 2], "epochs = [1, 2]: expected int"),
        ("recipe/epochs", {"a": 1}, "expected one value"),
        ("recipe/widths", [1, 2], "widths = [1, 2]: "),
        ("recipe/widths", [], "widths = []: expected one value, or a list of at least one"),
        ("recipe/epochs", 0, "epochs 0: expected 1"),
        ("recipe/model", "resnet-20", "did you mean resnet20?"),
        ("recipe/model", "vgg19", "vgg19 has no widths"),
        ("recipe/data", "npz:", "expected one of"),
        ("recipe/data", "cifar", "unknown kind 'cifar' (did you mean cifar10?)"),
        ("recipe", 3, "recipe = 3: expected a table"),
        ("matrix", [], "no [[matrix]]"),
        ("matrix", {"methods": ["dense"]}, "no [[matrix]]"),
        ("matrix/0/method", ["dense"], "matrix 1: unknown key 'method' (did you mean methods?)"),
        ("matrix/0/methods", ["randon"], "unknown method 'randon' (did you mean random?)"),
        ("matrix/0/methods", [], "methods = []: expected a list of str, at least one"),
        ("matrix/0/methods", "random", "methods = 'random': expected a list of str"),
        ("matrix/0/methods", ["dense"], "sparsities are given, but dense takes none"),
        ("matrix/0/optimizers", ["sdg"], "unknown optimizer 'sdg' (did you mean sgd?)"),
        ("matrix/0/sparsities", [], "random needs: sparsities = []: expected a list of float"),
        ("matrix/0/sparsities", [1.0], "method random: sparsity 1.0: expected a pruned share"),
        ("matrix/0/sparsities", [0.5, 0.5], "two runs are named resnet20-tiny-random-0.5-sgd-seed0"),
        ("matrix/0/recipe", {"lrr": 1}, "matrix 1: recipe: unknown option 'lrr' (did you mean lr?)"),
        ("method/randon", {}, "unknown method 'randon' (did you mean random?)"),
        ("method/random", {"distributio": "erk"}, "method.random: unknown option 'distributio'"),
        ("method/random", {"distribution": "even"}, "distribution = 'even': Invalid value"),
        ("method/random", {"sparsity": 0.3}, "method.random: unknown option 'sparsity'"),
        ("seeds", ["a"], "seeds = ['a']: expected a list of int"),
        ("seeds", [-1], "seed -1: expected 0"),
        ("output", 3, "output 3: expected a folder"),
    ],
)
def test_refused_in_one_line(path: str, value: Any, message: str) -> None:
    spec = changed(path, value)
    if value == "vgg19":
        spec["recipe"]["widths"] = [1, 2, 3]
    with pytest.raises(UserError) as error:
        make_plan(spec, "spec.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_of_a_method_that_no_run_has() -> None:
    spec = changed("matrix/0", {"methods": ["dense"], "optimizers": ["sgd"]})
    spec["recipe"].pop("keep-dense")
    with pytest.raises(UserError, match=r"method.random: no \[\[matrix\]\] has this method"):
        make_plan(spec | {"method": {"random": {}}}, "spec.toml")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("figure3-mnii", "did you mean figure3-mini?"),
        ("nowhere.toml", "no spec nowhere.toml"),
    ],
)
def test_specs_that_are_not_there(spec: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_plan(spec)
    assert message in str(error.value)


COUNTS = {
    "figure1-cpu": 2 * 4 * 6,
    "figure3-cpu": 3 * 3 * 2 * 6,
    "figures-cpu": (3 * 3 * 2 + 2 * 2) * 6,
    "figure1-mini": 2 * 4 * 2,
    "figure1-paper": 2 * 4 * 2 * 3,
    "figure3-mini": 3 * 3 * 2,
    "figure3-paper": 3 * 3 * 2 * 3,
    "table1-mini": 8 * 3 * 2,
    "table1-paper": 8 * 3 * 2 * 3 * 4,
    "methods-mini": 10 * 3 * 2 + 2 * 3 + 2,
    "smoke": 2,
    "structured-cpu": 4 + 2 + 2,
    "s2sam-imagenet": 3 * 2 * 2 * 3,
    "dense-imagenet": 4 * 3 * 3,
    "chase-imagenet": 2 * 2 * 2,
    "chex-imagenet": 3 * 2,
    **dict.fromkeys(("dsr-imagenet", "grasp-imagenet", "lt-imagenet", "rigl-imagenet"), 2),
}


def test_shipped_specs() -> None:
    assert sorted(COUNTS) == SHIPPED
    seen: dict[tuple[str, str], Any] = {}
    for name in SHIPPED:
        plan = load_plan(name)
        assert plan.name == name
        assert len(plan.runs) == COUNTS[name]
        for run in plan.runs:  # runs that specs share have equal settings, so that they are trained once
            assert seen.setdefault((str(plan.output), run.name), run.settings) == run.settings


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_specs_say_their_scale(name: str) -> None:
    spec = tomllib.loads((SPECS / f"{name}.toml").read_text())
    scale = name.rpartition("-")[2]
    own = name.partition("-")[0]  # recipes of ImageNet give the same names to other runs
    assert spec["output"] in (f"results/{scale}/runs", f"results/{scale}/runs-{own}", f"results/{own}/runs")
    models = {"smoke": "resnet20", "cpu": "resnet20", "mini": "resnet20", "paper": "resnet32_wide"}
    assert spec["recipe"]["model"] == models.get(scale, "resnet50")


def test_durations() -> None:
    assert [parse_duration(text) for text in ("45m", "2h", "90s", "1h30m", "1.5s")] == [
        2700,
        7200,
        90,
        5400,
        1.5,
    ]
    for text in ("", "45", "m", "-5m", "5 m", "0s", "5mm5"):
        with pytest.raises(UserError, match="expected a duration"):
            parse_duration(text)


def test_estimates_come_from_the_most_similar_runs() -> None:
    def settings(method: str, optimizer: str, model: str = "a") -> dict[str, Any]:
        return {"model": model, "data": "d", "method": {"name": method}, "optimizer": {"name": optimizer}}

    estimator = Estimator()
    assert estimator.seconds(settings("lt", "sgd"), 2) is None
    estimator.learn(settings("lt", "sgd"), 1000.0, 2, here=False)
    assert estimator.seconds(settings("snip", "sam", "b"), 4) == 2000.0
    estimator.learn(settings("snip", "sgd"), 10.0, 2, here=True)
    assert estimator.seconds(settings("lt", "sgd"), 2) == 10.0  # measured here, now
    estimator.learn(settings("snip", "sam"), 20.0, 2, here=True)
    assert estimator.seconds(settings("lt", "sam"), 2) == 20.0
    assert estimator.seconds(settings("snip", "sgd"), 2) == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{b = " * 3000,
        "#" * 2_000_000,
        ".".join("a" * 9000) + " = 1",
    ],
)
def test_specs_that_are_nested_or_long_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"can't be read as TOML: .*(nested too deeply|Larger than|200 dots)"):
        load_plan(str(path))


@pytest.mark.parametrize("lists", [("sparsities", [0.5]), ("methods", ["random"]), ("optimizers", ["sgd"])])
def test_lists_that_multiply_to_millions_are_refused_before_they_are_made(lists: tuple[str, Any]) -> None:
    spec = changed(f"matrix/0/{lists[0]}", lists[1] * 20_000)
    with pytest.raises(UserError, match="runs; expected at most 10,000"):
        make_plan(spec, "spec.toml")


def test_the_number_of_runs_is_counted_before_they_are_made() -> None:
    for name in SHIPPED:
        plan = load_plan(name)
        content = tomllib.loads((SPECS / f"{name}.toml").read_text(encoding="utf-8"))
        blocks = [Block(content, one, name, None) for one in content["matrix"]]
        assert sum(one.count for one in blocks) * len(content.get("seeds", [0])) == len(plan.runs)
