"""The registered tests: numbers per seed by hand, verdicts as the plan words them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, inf, isnan, log
from pathlib import Path

import numpy as np
import pytest
from made_results import run_name, surface_of, write_table

from analysis.roughness import roughness
from figures import counted, figure1, figure3
from figures.registered import Registered, growth, in_words, primary, registered, table
from figures.reproduce.scale import FOLDER
from figures.results import Results
from landscape.surface import FloatArray, Metric, Plane, Split, Surface, load_surface

AXIS = np.linspace(-0.25, 0.25, 9)
SEEDS = range(6)


def write(root: Path, growth: float, lowering: float, gain: float, seeds: range = SEEDS) -> Results:
    """Surfaces whose log loss has a roughness of exactly these ratios, with noise that differs by seed."""
    cells = {(m, s, "sgd") for m in figure1.METHODS for s in figure1.SPARSITIES}
    cells |= {(m, s, o) for m in figure3.METHODS for s in figure3.SPARSITIES for o in figure3.PAIR}
    rows = []
    for seed in seeds:
        for method, sparsity, optimizer in sorted(cells):
            noise = 0.02 * ((seed * 7 + hash_of(method, sparsity, optimizer)) % 5 - 2)
            level = figure1.SPARSITIES.index(sparsity)
            size = 0.3 * growth**level * (lowering if optimizer == "s2sam" else 1.0) * exp(noise)
            loss = np.exp(size * (AXIS[:, None] + 0.5 * AXIS[None, :]))
            name = run_name(method, sparsity, optimizer, seed)
            planned(loss).save(root / "surfaces" / f"{name}.surface.h5")
            accuracy = 0.8 + (gain if optimizer == "s2sam" else 0.0) + 0.001 * seed
            rows.append(
                {"run": name, "state": "finished", "method": method, "sparsity_asked": f"{sparsity:g}",
                 "optimizer": optimizer, "seed": str(seed), "test_accuracy": f"{accuracy}"}
            )  # fmt: skip
    write_table(root, rows)
    return Results(root)


def planned(loss: FloatArray, axis: FloatArray = AXIS, seeds: Sequence[int] = (0,)) -> Surface:
    """A surface as the plan has them, 512 training images, but for fewer planes."""
    made = surface_of(loss, alpha=axis, beta=axis)
    (plane,) = made.planes
    split = Split(512, {"loss": Metric(loss, np.zeros(loss.shape), 0.0)})
    planes = tuple(Plane({**plane.about, "seed": seed}, plane.computed, {"train": split}) for seed in seeds)
    return replace(made, planes=planes)


def hash_of(method: str, sparsity: float, optimizer: str) -> int:
    return sum(map(ord, f"{method}{sparsity}{optimizer}"))


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write(tmp_path_factory.mktemp("claimed"), growth=1.2, lowering=0.9, gain=0.004)


@pytest.fixture(autouse=True)
def _few_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's ten planes would take ten times as long."""
    monkeypatch.setitem(counted.PLAN, "directions", "random, seed 0")


def by_key(found: list[Registered]) -> dict[str, Registered]:
    return {one.key: one for one in found}


def test_the_number_of_a_seed_is_the_plans(claimed: Results) -> None:
    found = by_key(registered(claimed))
    (run,) = [run for run in claimed.cell("grasp", 0.9, "sgd").runs if run.seed == 2]
    assert primary(run) == [pytest.approx(log(roughness(run.surface, log=True).ra.value))]

    def value(method: str, sparsity: float, optimizer: str) -> float:
        return primary(next(r for r in claimed.cell(method, sparsity, optimizer).runs if r.seed == 2))[0]

    slopes = [
        np.polyfit(range(4), [value(method, sparsity, "sgd") for sparsity in figure1.SPARSITIES], 1)[0]
        for method in figure1.METHODS
    ]
    assert found["F1"].per_seed[2] == pytest.approx(3 * np.mean(slopes))
    changes = [
        value(method, sparsity, "s2sam") - value(method, sparsity, "sgd")
        for method in figure3.METHODS
        for sparsity in figure3.SPARSITIES
    ]
    assert found["F3"].per_seed[2] == pytest.approx(np.mean(changes))
    assert found["T1"].per_seed[2] == pytest.approx(0.4)


def test_what_is_there_is_found(claimed: Results) -> None:
    found = registered(claimed)
    assert [one.verdict for one in found] == ["found"] * 3
    assert by_key(found)["F3"].p_corrected == pytest.approx(3 / 64)
    assert "**found** | × " in table(found)
    assert in_words(found).count("corrected for three claims") == 3


def test_what_is_the_other_way_round_is_called_so(tmp_path: Path) -> None:
    found = by_key(registered(write(tmp_path, growth=1 / 1.2, lowering=1.1, gain=-0.004)))
    assert {one.verdict for one in found.values()} == {"the opposite"}


def test_what_isnt_there_is_not_found(tmp_path: Path) -> None:
    found = by_key(registered(write(tmp_path, growth=1.0, lowering=1.0, gain=0.0)))
    assert found["F1"].verdict == "not found"
    assert found["F3"].verdict == "not found"
    assert found["T1"].verdict == "not found"


def test_few_seeds_are_not_tested(tmp_path: Path) -> None:
    found = registered(write(tmp_path, growth=1.2, lowering=0.9, gain=0.004, seeds=range(5)))
    assert {one.verdict for one in found} == {"not yet tested"}
    assert "Fewer than 6 seeds" in in_words(found)


def test_a_seed_with_a_network_missing_counts_for_nothing(claimed: Results, tmp_path: Path) -> None:
    results = write(tmp_path, growth=1.2, lowering=0.9, gain=0.004, seeds=range(2))
    (tmp_path / "surfaces" / f"{run_name('grasp', 0.95, 's2sam', 1)}.surface.h5").unlink()
    found = by_key(registered(Results(results.root)))
    assert list(found["F3"].per_seed) == [0]
    assert list(found["F1"].per_seed) == [0, 1]


LOST = ("grasp", 0.95, "s2sam", 5)  # a network of the last seed


def with_row(root: Path, name: str, **cells: str) -> None:
    """The table with other cells in one row, and with their columns."""
    path = root / "runs" / "results.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    heads = list(dict.fromkeys([*rows[0], *cells]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, heads, restval="")
        writer.writeheader()
        writer.writerows(row | cells if row["run"] == name else row for row in rows)


@pytest.fixture
def copied(claimed: Results, tmp_path: Path) -> Path:
    return Path(shutil.copytree(claimed.root, tmp_path / "copy"))


def test_nothing_is_tested_while_a_seed_lacks_a_network(copied: Path) -> None:
    (copied / "surfaces" / f"{run_name(*LOST)}.surface.h5").unlink()
    found = registered(Results(copied))
    assert {one.verdict for one in found} == {"not yet tested"}
    text = in_words(found)
    assert f"seed 5 lacks {run_name(*LOST)} (no surface yet)" in text
    assert "nan" not in text + table(found)
    assert "The three claims are tested together" in text


def test_a_seed_begun_beyond_six_is_waited_for(copied: Path) -> None:
    name = run_name("grasp", 0.9, "sgd", 6)
    with (copied / "runs" / "results.csv").open("a", encoding="utf-8") as file:
        file.write(f"{name},finished,grasp,0.9,sgd,6,0.8\n")
    found = registered(Results(copied))
    assert [(one.verdict, len(one.per_seed)) for one in found] == [("not yet tested", 6)] * 3
    assert "seed 6 lacks" in in_words(found)


@pytest.mark.parametrize("how", ["surface", "training"])
def test_a_diverged_network_stays_in_the_count_and_is_named(copied: Path, how: str) -> None:
    path = copied / "surfaces" / f"{run_name(*LOST)}.surface.h5"
    if how == "surface":
        loss = np.exp(0.3 * (AXIS[:, None] + 0.5 * AXIS[None, :]))
        loss[0, 0] = inf
        planned(loss).save(path)
    else:
        path.unlink()
        why = "the loss became nan in epoch 3, step 17; choose a lower --lr"
        with_row(copied, run_name(*LOST), state="failed", test_accuracy="", error=why)
    found = by_key(registered(Results(copied)))
    one = found["F3"]
    assert (len(one.per_seed), one.verdict) == (6, "can't be told")
    assert one.without is not None
    assert one.without.n == 6
    assert (one.without.mean, one.p_without) == (pytest.approx(log(0.9), abs=0.05), pytest.approx(3 / 64))
    text = in_words(list(found.values()))
    assert f"These count, {run_name(*LOST)} (" in text
    assert "Over 6 training seeds the effect isn't finite" in text
    assert "without their pairs it is: Over 6 training seeds the effect is × 0.9" in text
    assert "| **can't be told** | not finite | 6 | 1 |" in table(list(found.values()))
    assert found["F1"].verdict == "found"  # it isn't of SGD
    assert found["T1"].verdict == ("found" if how == "surface" else "can't be told")


def test_without_a_pair_the_mean_is_over_the_other_cells(copied: Path) -> None:
    with_row(copied, run_name(*LOST), validation_accuracy="0.249", test_accuracy="0.1")
    with_row(copied, run_name("snip", 0.9, "sgd", 4), validation_accuracy="0.25")
    one = by_key(registered(Results(copied)))["T1"]
    assert [str(network) for network in one.apart] == [f"{run_name(*LOST)} (24.9 % held-out accuracy)"]
    assert one.per_seed[5] == pytest.approx((8 * 0.4 + 100 * (0.1 - 0.805)) / 9)
    assert one.test is not None
    assert one.without is not None
    assert one.without.mean == pytest.approx(0.4)
    assert one.test.mean == pytest.approx(np.mean(list(one.per_seed.values())))
    assert f"| | the same without their pairs | | {one.shown(0.4)} [" in table([one])


def test_growth_without_a_network_is_the_slope_of_the_others() -> None:
    values = {(m, s): float(i * i + k) for k, m in enumerate(figure1.METHODS)
              for i, s in enumerate(figure1.SPARSITIES)}  # fmt: skip

    def value(method: str, sparsity: float, optimizer: str) -> float:
        return values[method, sparsity]

    whole, rest = np.polyfit(range(4), [0, 1, 4, 9], 1)[0], np.polyfit([0, 2, 3], [0, 4, 9], 1)[0]
    assert growth(value) == pytest.approx(3 * whole)
    assert growth(value, {("grasp", 0.9, "sgd")}) == pytest.approx(3 * (whole + rest) / 2)
    assert isnan(growth(value, {(m, s, "sgd") for m, s in values}))


WIDE = np.linspace(-1, 1, 9)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (lambda loss: planned(loss, WIDE), "span ±1 instead of ±0.25"),
        (lambda loss: planned(loss, seeds=(3,)), "directions random, seed 3 instead of random, seed 0"),
        (lambda loss: surface_of(loss, alpha=AXIS, beta=AXIS), "examples 1,000 instead of 512"),
    ],
)
def test_a_surface_that_isnt_the_plans_is_named_and_doesnt_count(
    tmp_path: Path, other: Callable[[FloatArray], Surface], why: str
) -> None:
    write(tmp_path, growth=1.2, lowering=0.9, gain=0.004, seeds=range(1))
    name = run_name("grasp", 0.95, "sgd", 0)
    loss = np.exp(0.3 * (AXIS[:, None] + 0.5 * AXIS[None, :]))
    other(loss).save(tmp_path / "surfaces" / f"{name}.surface.h5")
    found = by_key(registered(Results(tmp_path)))
    assert [len(one.per_seed) for one in found.values()] == [0, 0, 1]
    assert f"{name} (not the plan's surface: {why}" in in_words([found["F3"]])


def test_surfaces_of_a_seed_are_of_the_same_images(tmp_path: Path) -> None:
    write(tmp_path, growth=1.2, lowering=0.9, gain=0.004, seeds=range(1))
    path = tmp_path / "surfaces" / f"{run_name('mest_em', 0.98, 's2sam', 0)}.surface.h5"
    one = load_surface(path)
    replace(one, settings={**one.settings, "examples": {"train": "0ther"}}).save(path)
    text = in_words(registered(Results(tmp_path)))
    assert f"{run_name('mest_em', 0.98, 's2sam', 0)} (not the plan's surface: other images" in text


def test_the_plans_own_surfaces_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(counted.PLAN, "directions", "random, seeds 0 to 9")
    root = Path(__file__).parents[2] / "results" / "cpu"
    surface = load_surface(root / "surfaces" / "resnet20-cifar10-mest_em-0.98-sgd-seed0.surface.h5")
    assert counted.unlike_plan(surface) == ""


def test_a_wide_interval_cant_be_told() -> None:
    from analysis.statistics.directed import directed_test

    values = {0: -0.4, 1: 0.3, 2: -0.2, 3: 0.25, 4: -0.3, 5: 0.2}
    test = directed_test(list(values.values()), -1)
    one = Registered("F3", "S2-SAM lowers Ra", values, "factor", log(0.95), -1, test, 1.0, 1.0)
    assert one.verdict == "can't be told"
    assert "seeds would show it" in in_words([one])


def test_a_script_that_knows_nothing_of_this_project_finds_the_same(claimed: Results) -> None:
    from figures.report import _registered

    root = claimed.root
    (root / "scale.toml").write_text(
        (FOLDER / "mini.toml").read_text().replace("registered = false", "registered = true")
    )
    report = root / "report.md"
    report.write_text("\n\n".join(_registered(Results(root))), encoding="utf-8")
    script = Path(__file__).with_name("recompute_report.py")
    line = [sys.executable, str(script), str(root), "--report", str(report)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("over 6 seeds, p 0.047") == 3
    report.write_text(
        report.read_text(encoding="utf-8").replace("| F3 | S2-SAM lowers Ra | **found** | × 0", "| F3 | × 1")
    )
    assert subprocess.run(line, capture_output=True, check=False).returncode == 1
