"""Claims: tested on the pairs that are there, with the right sign, and never silently on fewer."""

from __future__ import annotations

import csv
import json
from math import inf, isnan, log
from pathlib import Path

import numpy as np
import pytest
from made_results import all_runs, loss_of, run_name, surface_of, write_results, write_table
from scipy.stats import permutation_test

from figures import accuracy, counted
from figures.claims import Claim, accuracy_pairs, claims, pair_claim, ra_pairs, sparsity_claim
from figures.measures import measures_of
from figures.report import report
from figures.results import Results
from landscape.errors import UserError


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(write_results(tmp_path_factory.mktemp("full"), all_runs()))


def by_statement(found: list[Claim]) -> dict[str, Claim]:
    return {claim.statement: claim for claim in found}


def test_made_results_show_both_claims(full: Results) -> None:
    found = by_statement(claims(full))
    lower = found["S2-SAM lowers Ra"]
    assert (lower.verdict, lower.n) == ("found", 12)
    assert lower.effect.startswith("−2")  # the made surfaces are 0.75 times as steep
    grows = found["Ra grows with sparsity (SGD)"]
    assert (grows.verdict, grows.n, grows.towards) == ("not found", 3, True)  # three rows can't show it
    assert found["SAM lowers Ra"].verdict == "no data"
    assert isnan(found["SAM lowers Ra"].p_value)


def test_p_value_of_pairs_is_scipys(full: Results) -> None:
    pairs, _ = ra_pairs(full, "s2sam")
    logs = [log(after / before) for before, after in pairs.values()]
    expected = permutation_test((logs,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    claim = pair_claim("", "", pairs, [], sign=-1, ratio=True)
    assert claim.p_value == pytest.approx(expected)


def test_the_opposite_is_called_so(full: Results) -> None:
    pairs, _ = ra_pairs(full, "s2sam")
    turned = {key: (after, before) for key, (before, after) in pairs.items()}
    assert pair_claim("", "", turned, [], sign=-1, ratio=True).verdict == "the opposite was found"
    few = dict(list(pairs.items())[:4])
    assert pair_claim("", "", few, [], sign=-1, ratio=True).verdict == "not found"  # 4 pairs can't


def test_a_diverged_run_is_left_out_aloud(tmp_path: Path) -> None:
    root = write_results(tmp_path, all_runs())
    loss = loss_of("snip", 0.9, "s2sam")
    loss[0, 0] = inf
    name = run_name("snip", 0.9, "s2sam")
    surface_of(loss).save(root / "surfaces" / f"{name}.surface.h5")
    found = by_statement(claims(Results(root)))
    assert found["S2-SAM lowers Ra"].n == 11
    assert any("snip 0.9 seed 0" in text for text in found["S2-SAM lowers Ra"].left_out)
    assert any(name in text for text in found["Ra grows with sparsity (S2-SAM)"].left_out)


def test_a_method_with_one_sparsity_is_no_row(tmp_path: Path) -> None:
    runs = [("snip", 0.9, "sgd", 0), ("grasp", 0.8, "sgd", 0), ("grasp", 0.98, "sgd", 0)]
    claim = sparsity_claim(Results(write_results(tmp_path, runs)), "sgd", "", "")
    assert claim.n == 1


def write_rows(root: Path, accuracies: dict[tuple[str, str, str], float]) -> None:
    path = root / "runs" / "results.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "state", "method", "sparsity_asked", "optimizer", "seed", "test_accuracy"])
        for (method, sparsity, optimizer), value in accuracies.items():
            name = f"resnet20-cifar10-{method}-{sparsity}-{optimizer}-seed0"
            writer.writerow([name, "finished", method, sparsity, optimizer, 0, value])


def test_accuracy_pairs_need_no_surface(tmp_path: Path) -> None:
    write_table(tmp_path, [])
    rows = {("set", "0.9", "sgd"): 0.5, ("set", "0.9", "s2sam"): 0.6, ("dsr", "0.9", "sgd"): 0.4}
    write_rows(tmp_path, rows)
    pairs, left_out = accuracy_pairs(Results(tmp_path), "s2sam")
    assert pairs == {("set", 0.9, 0): (0.5, 0.6)}
    assert left_out == []


@pytest.mark.parametrize("state", ["interrupted", "failed", "missing"])
def test_accuracies_of_unfinished_runs_dont_count(tmp_path: Path, state: str) -> None:
    root = write_results(tmp_path, all_runs())
    path = root / "runs" / "results.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    write_table(root, [row | {"state": state} if row["optimizer"] == "s2sam" else row for row in rows])
    results = Results(root)
    found = by_statement(claims(results))["S2-SAM raises test accuracy"]
    assert (found.n, found.verdict, len(found.left_out)) == (0, "no data", 12)
    name = run_name("snip", 0.9, "s2sam")
    assert f"{name}: training {state}" in found.left_out
    assert not any(dot.optimizer == "s2sam" for dot in accuracy.dots(results))
    key = ("snip", 0.9, "s2sam")
    assert counted.accuracies(results, [key], 0)[key].absent == f"training {state}"
    [line] = [one for one in report(results).splitlines() if one.startswith("| SNIP | 0.9 | S2-SAM |")]
    assert "81.25" not in line
    if state != "missing":  # whose surface may be of weights that aren't kept here
        assert results.cell(*key).missing == {name: f"training {state}, the surface is of an earlier one"}


def test_eigenvalues_come_from_their_files(tmp_path: Path) -> None:
    root = write_results(tmp_path, all_runs())
    for method, sparsity, optimizer, seed in all_runs():
        value = 10 * sparsity * (0.5 if optimizer == "s2sam" else 1)
        path = root / "hessian" / f"{run_name(method, sparsity, optimizer, seed)}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"top": [{"value": value, "residual": 0.0, "converged": True}]}))
    found = by_statement(claims(Results(root)))["S2-SAM lowers the largest Hessian eigenvalue"]
    assert (found.n, found.verdict) == (12, "found")
    assert found.effect.startswith("−50.00 [−50.00, −50.00] %")


def test_a_broken_eigenvalue_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "hessian").mkdir()
    (tmp_path / "hessian" / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run\.json: can't be read .*analysis\.hessian"):
        measures_of(tmp_path, "run")
    assert measures_of(tmp_path, "other") == {}
    (tmp_path / "sharpness").mkdir()
    (tmp_path / "sharpness" / "third.csv").write_text("measure,value\nsam,big\n")
    with pytest.raises(UserError, match=r"third\.csv: can't be read .*analysis\.sharpness"):
        measures_of(tmp_path, "third")
