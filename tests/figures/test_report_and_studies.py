"""The report and the figures of accuracy and dependence: every number is there, nothing is silent."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_results import NETWORK, X, all_runs, loss_of, run_name, surface_of, write_results
from print_checks import check_print, words_of
from scipy.stats import spearmanr

from analysis.roughness import roughness
from figures import accuracy, dependence, prediction
from figures.report import PRODUCT, report
from figures.results import Results
from figures.studies import Studies, ra_of
from landscape.errors import UserError
from landscape.surface import Surface

STUDIED = [run_name("grasp", 0.9, "sgd"), run_name("grasp", 0.9, "s2sam")]


def with_planes(surface: Surface, factors: tuple[float, ...]) -> Surface:
    """The same loss on several planes, steeper by a factor."""
    planes = []
    for seed, factor in enumerate(factors):
        other = surface_of(surface.loss * factor).planes[0]
        planes.append(replace(other, about={**other.about, "seed": seed}))
    return replace(surface, planes=tuple(planes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_results(tmp_path_factory.mktemp("results"), all_runs())
    rows = []
    for number, (method, sparsity, optimizer, seed) in enumerate(all_runs()):
        name = run_name(method, sparsity, optimizer, seed)
        rows.append(
            {"run": name, "state": "finished", "method": method, "sparsity_asked": f"{sparsity:g}",
             "optimizer": optimizer, "seed": seed, "test_accuracy": 0.3 + 0.01 * (7 * number % 24),
             "test_accuracy_error": 0.005, "kept_weights": 27000}
        )  # fmt: skip
        surface = with_planes(surface_of(loss_of(method, sparsity, optimizer, seed)), (0.9, 1.0, 1.1))
        surface.save(root / "surfaces" / f"{name}.surface.h5")
    lost = {"run": run_name("rigl", 0.9, "sgd"), "state": "missing", "method": "rigl"}
    rows.append(dict.fromkeys(rows[0], "") | lost | {"sparsity_asked": "0.9", "optimizer": "sgd", "seed": 0})
    with (root / "runs" / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for name in STUDIED:
        loss = loss_of("grasp", 0.9, name.split("-")[4])
        for span in (0.5, 2.0):
            surface_of(loss * span, alpha=X * span, beta=X * span).save(
                root / "studies" / f"{name}.span{span:g}.surface.h5"
            )
        surface_of(loss * 3).save(root / "studies" / f"{name}.dense.surface.h5")
    surface_of(loss_of("grasp", 0.9, "sgd") * 0.9).save(root / "studies" / f"{STUDIED[0]}.exact.surface.h5")
    (root / "hessian").mkdir()
    top = {"top": [{"value": 12.5, "residual": 0.1, "converged": False}]}
    trace = {"trace": {"value": 80.0, "stderr": 2.0, "error": 4.0}}
    (root / "hessian" / f"{STUDIED[0]}.json").write_text(json.dumps(top | trace))
    (root / "sharpness").mkdir()
    for number, (method, sparsity, optimizer, seed) in enumerate(all_runs()):
        rows = f"measure,value,low,high,settings\nsam,{0.02 + 0.001 * number},0.01,0.09,rho=0.05\n"
        (root / "sharpness" / f"{run_name(method, sparsity, optimizer, seed)}.csv").write_text(rows)
    return root


def test_ra_of_each_plane(root: Path) -> None:
    run = Results(root).cell("grasp", 0.9, "sgd").runs[0]
    whole = roughness(surface_of(loss_of("grasp", 0.9, "sgd"))).ra.value
    values = [ra_of(run.surface, [number]).value for number in range(3)]
    np.testing.assert_allclose(values, [0.9 * whole, whole, 1.1 * whole])


def test_studies_find_their_runs(root: Path) -> None:
    studies = Studies(Results(root))
    assert set(studies.spans) == set(STUDIED)
    assert [span for span, _ in studies.spans[STUDIED[0]]] == [0.5, 1.0, 2.0]
    agreement = studies.agreements[0]
    assert agreement.exact == pytest.approx(agreement.adaptive)
    assert agreement.agree
    [first, _] = studies.masks
    # One plane of dense directions is compared with the first masked one, not with the mean of three.
    assert first[2].value / first[1].value == pytest.approx(3 / 0.9)


def test_a_disagreement_is_seen(root: Path, tmp_path: Path) -> None:
    name = STUDIED[0]
    write_results(tmp_path, [("grasp", 0.9, "sgd", 0)])
    surface_of(loss_of("grasp", 0.9, "sgd") * 1.01).save(tmp_path / "studies" / f"{name}.exact.surface.h5")
    [found] = Studies(Results(tmp_path)).agreements
    assert not found.agree
    assert "**they differ by more than stated**" in report(Results(tmp_path))


def test_figures_are_legible(root: Path) -> None:
    results = Results(root)
    for module in (accuracy, dependence):
        figure = module.draw(results)
        check_print(figure)
        assert "n = 24" in words_of(figure) or module is dependence


def test_correlation_is_spearmans(root: Path) -> None:
    found = accuracy.dots(Results(root))
    expected = spearmanr([dot.x for dot in found], [dot.y for dot in found]).statistic
    one = accuracy.correlation(found)
    assert one is not None
    assert one.rho == pytest.approx(expected)
    assert accuracy.correlation_text(one).startswith(f"ρ = {expected:.2f}".replace("-", "−"))
    assert accuracy.correlation(found[:2]) is None
    assert len(accuracy.changes(Results(root))) == 12


def test_report_has_everything(root: Path) -> None:
    text = report(Results(root))
    for cell in Results(root).cells:
        for run in cell.runs:
            assert f"{run.ra.ra.value:.2g}"[:3] in text
    assert "12.5 (not converged, residual 0.1) | 80 ± 4 | 0.03 [0.01, 0.09] | not computed" in text
    assert text.count("not computed") >= 23
    assert "SAM sharpness: rho=0.05." in text
    assert "| RigL | 0.9 | original | not trained | – | – | – | – | – | – | – | – |" in text
    assert "S2-SAM lowers SAM sharpness | ours |" in text
    assert "1 of 25 runs:" in text
    assert f"- {run_name('rigl', 0.9, 'sgd')}: not trained" in text
    assert "S2-SAM lowers Ra | Figure 3 | **found**" in text
    assert "S2-SAM raises test accuracy" in text
    assert "they agree within the stated error" in text
    assert "nan" not in text


def test_dense_runs_are_shown_for_comparison(root: Path, tmp_path: Path) -> None:
    write_results(tmp_path, [("grasp", 0.9, "sgd", 0)])
    name = f"{NETWORK}-dense-sgd-seed0"
    surface_of(loss_of("grasp", 0.8, "sgd")).save(tmp_path / "surfaces" / f"{name}.surface.h5")
    results = Results(tmp_path)
    assert [cell.title for cell in results.dense] == ["dense 0 original"]
    assert [cell.method for cell in results.cells] == ["grasp"]  # no cell of the paper's figures
    [line] = [one for one in report(results).splitlines() if one.startswith("| dense | 0 | original | ")]
    assert line.endswith("| all | – | – | – | – |")
    assert Results(root).dense == []


def test_predictions_are_spearmans(root: Path) -> None:
    results = Results(root)
    found = prediction.dots(results, "sam")
    expected = spearmanr([dot.x for dot in found], [dot.y for dot in found]).statistic
    [line] = [
        one for one in prediction.table(results).splitlines() if one.startswith("| SAM sharpness | 24 |")
    ]
    assert f"ρ = {expected:.2f}".replace("-", "−") in line
    assert "Fisher" not in prediction.table(results)  # not computed here


def test_where_the_report_goes(root: Path, tmp_path: Path) -> None:
    [usual] = PRODUCT.write(Results(root), root / "figures")
    assert usual == root / "report.md"
    assert "](figures/accuracy.png)" in usual.read_text()
    [other] = PRODUCT.write(Results(root), tmp_path)
    assert other == tmp_path / "report.md"
    assert "](accuracy.png)" in other.read_text()


def test_nothing_to_compare(tmp_path: Path) -> None:
    write_results(tmp_path, [("grasp", 0.9, "sgd", 0)])
    with pytest.raises(UserError, match="nothing to compare"):
        dependence.draw(Results(tmp_path))
    assert "nothing to compare" in report(Results(tmp_path))


def test_every_version_that_computed_a_surface_is_told(tmp_path: Path) -> None:
    for optimizer, version in (("sgd", "1.0"), ("s2sam", "1.1")):
        one = surface_of(loss_of("snip", 0.9, optimizer))
        versions = {"python": "3.11", "sharpscape": version}
        name = run_name("snip", 0.9, optimizer)
        replace(one, about={**one.about, "versions": versions}).save(
            tmp_path / "surfaces" / f"{name}.surface.h5"
        )
    [line] = [one for one in report(Results(tmp_path)).splitlines() if one.startswith("- software: ")]
    assert line in (
        "- software: python 3.11, sharpscape 1.0 and 1.1",
        "- software: python 3.11, sharpscape 1.1 and 1.0",
    )
