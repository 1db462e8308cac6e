"""What isn't made alike is said wherever it is compared: surfaces, training, measures, studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import exp, isnan
from pathlib import Path
from typing import Any

import pytest
from made_results import NETWORK, X, loss_of, run_name, surface_of, write_results

from analysis.roughness.conventions import conventions
from figures import caption, figure3, prediction, sensitivity
from figures.claims import measure_pairs, ra_pairs
from figures.measures import measures_of
from figures.recipe import recipe
from figures.report import report
from figures.results import Results
from figures.studies import Studies, ra_of
from landscape.errors import UserError
from landscape.files import sha256
from landscape.surface import Surface

RUNS = [(method, 0.9, optimizer, 0) for method in ("snip", "grasp") for optimizer in ("sgd", "s2sam")]
SGD, S2SAM = run_name("snip", 0.9, "sgd"), run_name("snip", 0.9, "s2sam")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_results(tmp_path, RUNS)


def save(root: Path, name: str, surface: Surface, kind: str = "surfaces") -> None:
    surface.save(root / kind / f"{name}.surface.h5")


def with_mask(surface: Surface, mask: str) -> Surface:
    return replace(
        surface, planes=tuple(replace(one, about={**one.about, "mask": mask}) for one in surface.planes)
    )


MADE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dtype", {"engine": {"batch_norm": "fixed", "dtype": "bfloat16"}}, {}),
    ("moving parameters", {}, {"moving": {"rule": ["conv1", "bn"]}}),
    ("image scaling", {}, {"data": {"name": "cifar10", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}}),
]


@pytest.mark.parametrize(("name", "settings", "about"), MADE)
def test_a_surface_made_otherwise_is_told(
    root: Path, name: str, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    one = surface_of(loss_of("snip", 0.9, "s2sam"))
    save(root, S2SAM, replace(one, settings={**one.settings, **settings}, about={**one.about, **about}))
    results = Results(root)
    assert figure3.unlike(results) == [name]
    assert f"**not made alike**: surfaces differ in {name} (" in report(results)
    assert f"- {name}: differs: " in figure3.caption(results)


def test_another_mask_is_told_with_all_values(root: Path) -> None:
    save(root, S2SAM, with_mask(surface_of(loss_of("snip", 0.9, "s2sam")), "none"))
    results = Results(root)
    assert figure3.unlike(results) == ["mask"]
    cells = figure3.cells(results)
    footer = caption.footer(cells, results.network, figure3.WHAT)
    assert "Masks differ: none; checkpoint." in footer or "Masks differ: checkpoint; none." in footer
    assert "mask checkpoint," not in footer
    [line] = [one for one in report(results).splitlines() if one.startswith("- surfaces: ")]
    assert "mask differs: checkpoint; none" in line or "mask differs: none; checkpoint" in line


def test_a_pair_of_other_spans_isnt_compared(root: Path) -> None:
    save(root, S2SAM, surface_of(loss_of("snip", 0.9, "s2sam"), alpha=X / 2, beta=X / 2))
    pairs, left_out = ra_pairs(Results(root), "s2sam")
    assert set(pairs) == {("grasp", 0.9, 0)}
    assert left_out == ["snip 0.9 seed 0: not made alike: surfaces of span ±1; ±0.5"]
    assert left_out[0] in report(Results(root))


def test_dense_networks_have_no_mask(root: Path) -> None:
    dense = with_mask(surface_of(loss_of("snip", 0.8, "sgd")), "none")
    save(root, f"{NETWORK}-dense-sgd-seed0", dense)
    results = Results(root)
    assert caption.unlike([*results.dense, *results.cells]) == []


def test_other_images_are_held_out_by_each_seed(root: Path) -> None:
    for seed, optimizer, digest in ((1, "sgd", "0ther"), (1, "s2sam", "0ther")):
        one = surface_of(loss_of("snip", 0.9, optimizer, seed), settings={"examples": {"train": digest}})
        save(root, run_name("snip", 0.9, optimizer, seed), one)
    assert caption.unlike(Results(root).cells) == []
    one = surface_of(loss_of("snip", 0.9, "sgd", 1))
    save(root, run_name("snip", 0.9, "sgd", 1), one)
    assert caption.unlike(Results(root).cells) == ["example set"]


def test_planes_of_one_surface_made_otherwise_are_told() -> None:
    one = surface_of(loss_of("snip", 0.9, "sgd"))
    (plane,) = one.planes
    other = replace(plane, about={**plane.about, "mask": "none", "seed": 1})
    assert conventions(replace(one, planes=(plane, other)), "train")["mask"] == "checkpoint; none"


def train(root: Path, run: str, optimizer: Mapping[str, Any], **settings: Any) -> None:
    folder = root / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    made = {"model": "resnet20", "data": "cifar10", "epochs": 12, "warmup": 1.0, "seed": 0, **settings}
    made["method"] = {"name": "snip", "sparsity": 0.9}
    (folder / "run.json").write_text(json.dumps(made | {"optimizer": optimizer}))


def test_other_training_is_named(root: Path) -> None:
    for method, sparsity, optimizer, seed in RUNS:
        more = {"rho": 0.05} if optimizer == "s2sam" else {}
        name = run_name(method, sparsity, optimizer, seed)
        train(root, name, {"name": optimizer, "lr": 0.2, "momentum": 0.9, **more})
    assert recipe(Results(root)) == ["- training: model resnet20, data cifar10, epochs 12, lr 0.2"]
    train(root, S2SAM, {"name": "s2sam", "lr": 0.001, "momentum": 0.9, "rho": 0.5}, epochs=2, warmup=0.0)
    first, second = recipe(Results(root))
    assert first == "- training: model resnet20, data cifar10"
    words = second.removeprefix("- **not trained alike**: ")
    told = {one.rpartition(" ")[0].rpartition(" ")[0]: one for one in words.split(", ")}
    assert set(told) == {"epochs", "lr", "warmup", "s2sam's rho"}
    assert set(told["lr"].removeprefix("lr ").split("; ")) == {"0.2", "0.001"}
    assert second in report(Results(root))


def test_runs_that_dont_say_how_are_counted(root: Path) -> None:
    train(root, SGD, {"name": "sgd", "lr": 0.2})
    assert recipe(Results(root))[0].endswith("lr 0.2 (3 of 4 runs don't say)")


def sharpness(root: Path, run: str, text: str) -> None:
    (root / "sharpness").mkdir(exist_ok=True)
    (root / "sharpness" / f"{run}.csv").write_text(text)


def hessian(root: Path, run: str, *parts: Mapping[str, Any]) -> None:
    (root / "hessian").mkdir(exist_ok=True)
    top = {"top": [{"value": 10.0, "residual": 0.1, "converged": True}], "trace": None}
    (root / "hessian" / f"{run}.json").write_text(json.dumps([top | dict(one) for one in parts]))


def test_sharpness_of_another_radius_isnt_compared(root: Path) -> None:
    for method, sparsity, optimizer, seed in RUNS:
        rho = 0.5 if (method, optimizer) == ("snip", "s2sam") else 0.05
        value = 0.9 if rho == 0.5 else 0.02
        name = run_name(method, sparsity, optimizer, seed)
        sharpness(root, name, f"measure,value,low,high,settings\nsam,{value},0.01,0.99,rho={rho}\n")
    results = Results(root)
    pairs, left_out = measure_pairs(results, "s2sam", "sam")
    assert set(pairs) == {("grasp", 0.9, 0)}
    assert left_out == ["snip 0.9 seed 0: not made alike: SAM sharpness of settings rho=0.05; rho=0.5"]
    text = report(results)
    assert "**Not measured alike**: SAM sharpness of settings rho=0.05; rho=0.5." in text.replace(
        "rho=0.5; rho=0.05", "rho=0.05; rho=0.5"
    )
    assert "SAM sharpness: rho=" not in text
    assert "| SAM sharpness, not measured alike | 4 |" in prediction.table(results)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("final,f,train,sam\nfinal,f,test,sam\n", "several of split: train, test"),
        ("final,f,train,sam\nfinal,f,train,sam\n", "the measure sam is there 2 times"),
        ("final,f,train,sam\nother,g,train,asam\n", "several of checkpoint: final, other"),
        ("final,f,test,sam\n", "of the split test"),
        (f"final,runs/{S2SAM}/final.pt,train,sam\n", "of the run"),
    ],
)
def test_a_table_of_more_than_the_run_is_refused(root: Path, rows: str, why: str) -> None:
    head = "checkpoint,file,split,measure,value,low,high,settings\n"
    sharpness(root, SGD, head + rows.replace("sam\n", "sam,0.02,0.01,0.03,rho=0.05\n"))
    with pytest.raises(UserError, match=why):
        measures_of(root, SGD)


@pytest.mark.parametrize(
    "row",
    ["5,1,2", "nan,1,2", ",1,2", "inf,1,2", "inf,1,", "inf,,inf", "1.5,1,", "1.5,,2", "1.5,2,1", "1.5,nan,2"],
)
def test_a_value_out_of_its_interval_is_refused(root: Path, row: str) -> None:
    sharpness(root, SGD, f"measure,value,low,high,settings\nsam,{row},rho=0.05\n")
    with pytest.raises(UserError, match=r"sharpness.*\.csv: can't be read"):
        measures_of(root, SGD)


@pytest.mark.parametrize("row", ["inf,inf,inf", "inf,0.5,inf", "1.5,0.5,inf"])
def test_a_value_that_diverges_may_have_an_interval(root: Path, row: str) -> None:
    sharpness(root, SGD, f"measure,value,low,high,settings\nsam,{row},rho=0.05\n")
    one = measures_of(root, SGD)["sam"]
    assert (one.value, one.low, one.high) == tuple(map(float, row.split(",")))
    assert "inf" in report(Results(root))


@pytest.mark.parametrize("value", ["inf", "", "0.5"])
def test_a_value_may_have_no_interval(root: Path, value: str) -> None:
    sharpness(root, SGD, f"measure,value,low,high,settings\nsam,{value},,,rho=0.05\n")
    assert isnan(measures_of(root, SGD)["sam"].low)


def test_two_columns_of_one_name_are_refused(root: Path) -> None:
    sharpness(root, SGD, "measure,value,low,high,settings,value\nsam,0.5,0.4,0.6,rho=0.05,0.9\n")
    with pytest.raises(UserError, match="the column value is there 2 times"):
        measures_of(root, SGD)


def test_hessians_of_other_examples_or_masks_arent_compared(root: Path) -> None:
    hessian(root, SGD, {"examples": 50_000, "settings": {"mask": {"source": "none"}}})
    hessian(root, S2SAM, {"examples": 16, "settings": {"mask": {"source": "checkpoint"}}})
    results = Results(root)
    pairs, left_out = measure_pairs(results, "s2sam", "lambda_max")
    assert (pairs, len(left_out)) == ({}, 1)
    assert "λmax of examples 50000; 16, λmax of mask none; checkpoint" in left_out[0]
    assert "**Not measured alike**: λmax of examples " in report(results)


def test_the_masks_of_dense_and_sparse_networks_may_differ(root: Path) -> None:
    dense = f"{NETWORK}-dense-sgd-seed0"
    save(root, dense, with_mask(surface_of(loss_of("snip", 0.8, "sgd")), "none"))
    hessian(root, dense, {"settings": {"mask": {"source": "none"}}})
    hessian(root, SGD, {"settings": {"mask": {"source": "checkpoint"}}})
    assert "Not measured alike" not in report(Results(root))


def test_a_hessian_of_something_else_is_refused(root: Path) -> None:
    hessian(root, SGD, {}, {})
    with pytest.raises(UserError, match="2 checkpoints or splits"):
        measures_of(root, SGD)
    hessian(root, SGD, {"about": {"split": "test"}})
    with pytest.raises(UserError, match="of the split test"):
        measures_of(root, SGD)
    hessian(root, SGD, {"about": {"checkpoint": {"sha256": "dead"}}})
    assert measures_of(root, SGD)["lambda_max"].value == 10
    one = surface_of(loss_of("snip", 0.9, "sgd"))
    save(root, SGD, replace(one, about={**one.about, "checkpoint": {"sha256": "beef"}}))
    with pytest.raises(UserError, match="another checkpoint than the run's surface"):
        report(Results(root))


def steeper(surface: Surface, factors: tuple[float, ...]) -> Surface:
    """Planes of seeds 0, 1, …, each steeper by its factor."""
    planes = []
    for seed, factor in enumerate(factors):
        plane = surface_of(surface.loss * factor, alpha=surface.alpha, beta=surface.beta).planes[0]
        planes.append(replace(plane, about={**plane.about, "seed": seed}))
    return replace(surface, planes=tuple(planes))


def test_spans_are_compared_over_the_planes_of_all(root: Path) -> None:
    one = surface_of(loss_of("snip", 0.9, "sgd"))
    save(root, SGD, steeper(one, (1.0, 1.0, 4.0)))
    half = surface_of(loss_of("snip", 0.9, "sgd"), alpha=X / 2, beta=X / 2)
    save(root, f"{SGD}.span0.5", half, "studies")
    first, second = (ra.value for _, ra in Studies(Results(root)).spans[SGD])
    assert first == pytest.approx(second)
    assert second == ra_of(one, [0]).value


def test_studies_are_compared_by_direction_seed(root: Path) -> None:
    one = surface_of(loss_of("snip", 0.9, "sgd"))
    several = steeper(one, (1.0, 1.0, 4.0))
    save(root, SGD, several)
    last = replace(several, planes=several.planes[2:])
    for kind in ("dense", "exact"):
        save(root, f"{SGD}.{kind}", last, "studies")
    studies = Studies(Results(root))
    [(_, masked, dense)] = studies.masks
    assert masked.value == dense.value == pytest.approx(4 * ra_of(one, [0]).value)
    assert studies.agreements[0].difference == 0
    (plane,) = one.planes
    save(
        root,
        f"{SGD}.dense",
        replace(one, planes=(replace(plane, about={**plane.about, "seed": 7}),)),
        "studies",
    )
    with pytest.raises(UserError, match="share no direction seed"):
        _ = Studies(Results(root)).masks


def test_a_study_is_what_its_name_says(root: Path) -> None:
    path = root / "studies" / f"{SGD}.span0.25.surface.h5"
    surface_of(loss_of("snip", 0.9, "sgd")).save(path)
    with pytest.raises(UserError, match=r"its name says span 0\.25, its surface is over ±1"):
        _ = Studies(Results(root)).all
    path.unlink()
    other = surface_of(loss_of("snip", 0.9, "sgd"), settings={"examples": {"train": "0ther"}})
    save(root, f"{SGD}.dense", other, "studies")
    with pytest.raises(UserError, match="made otherwise than the run's surface: example set"):
        _ = Studies(Results(root)).all
    (root / "studies" / f"{SGD}.dense.surface.h5").rename(root / "studies" / f"{SGD}.span1.2.3.surface.h5")
    assert Studies(Results(root)).all == []  # of another kind, as any other file


def test_measures_of_a_span_are_over_the_same_planes_in_a_pair(root: Path) -> None:
    # The first half has three planes of span 1, the second one, as a study beside a surface of span 0.5.
    one, other = (surface_of(loss_of("snip", 0.9, optimizer)) for optimizer in ("sgd", "s2sam"))
    save(root, SGD, steeper(one, (1.0, 1.0, 4.0)))
    save(root, S2SAM, replace(other, alpha=X / 2, beta=X / 2))
    save(root, f"{S2SAM}.span1", other, "studies")
    results = Results(root)
    surfaces = sensitivity.surfaces_by_span(results)
    assert surfaces[SGD].keys() == {1.0}
    assert surfaces[S2SAM].keys() == {0.5, 1.0}
    value = sensitivity.on_surface(surfaces, 1.0, "train", sensitivity.ra)
    doubled = sensitivity.where_doubled(surfaces, "train", sensitivity.ra)
    runs = {run.name: run for run in results.runs}
    assert exp(value(runs[SGD])) == pytest.approx(ra_of(one, [0]).value)
    assert exp(doubled(runs[SGD])) == pytest.approx(ra_of(one, [0]).value)


def test_a_surface_of_a_checkpoint_that_was_trained_again_is_none_of_the_runs(root: Path) -> None:
    final = root / "runs" / S2SAM / "final.pt"
    final.parent.mkdir()
    final.write_bytes(b"trained")
    one = surface_of(loss_of("snip", 0.9, "s2sam"))
    save(root, S2SAM, replace(one, about={**one.about, "checkpoint": {"sha256": sha256(final)}}))
    assert not Results(root).cell("snip", 0.9, "s2sam").missing
    final.write_bytes(b"trained again")
    assert Results(root).cell("snip", 0.9, "s2sam").missing == {S2SAM: "surface of an earlier checkpoint"}
