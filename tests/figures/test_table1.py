"""Table 1: every number where it belongs, in all three forms."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from made_results import write_table

from figures import table1
from figures.results import Results
from landscape.errors import UserError

HEAD = [
    "run",
    "state",
    "method",
    "sparsity_asked",
    "optimizer",
    "seed",
    "test_accuracy",
    "test_accuracy_error",
    "sparsity",
    "sparsity_overall",
    "epochs_trained",
    "examples_trained",
]
ROWS = [
    ("grasp", "0.9", "sgd", 0, "0.5", "0.005"),
    ("grasp", "0.9", "sgd", 1, "0.6", "0.005"),
    ("grasp", "0.9", "s2sam", 0, "0.7", "0.004"),
    ("grasp", "0.95", "sgd", 0, "0.4", "0.005"),
    ("odd_one&", "0.9", "sgd", 0, "0.3", "0.005"),
    ("dense", "", "sgd", 0, "0.9", "0.003"),
]


def results(root: Path) -> Results:
    write_table(root, [])
    with (root / "runs" / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for method, sparsity, optimizer, seed, accuracy, error in ROWS:
            middle = f"{sparsity}-" if sparsity else ""
            name = f"n-cifar10-{method}-{middle}{optimizer}-seed{seed}"
            known = (
                ["" if method == "dense" else "0.9001", "", 2 + seed, 25000] if method != "odd_one&" else []
            )
            writer.writerow([name, "finished", method, sparsity, optimizer, seed, accuracy, error, *known])
        writer.writerow(["n-cifar10-set-0.9-sgd-seed0", "failed", "set", "0.9", "sgd", 0, "", ""])
    return Results(root)


def test_entries(tmp_path: Path) -> None:
    found = table1.table(results(tmp_path))
    assert found.methods == ["dense", "grasp", "odd_one&"]
    assert found.sparsities == [0.9, 0.95]
    two = found.entries["grasp", 0.9, "sgd"]
    assert (two.mean, two.error) == (pytest.approx(0.55), pytest.approx(0.05))  # over seeds
    assert found.entries["grasp", 0.9, "s2sam"].error == 0.004  # over examples
    assert found.unfinished == ("n-cifar10-set-0.9-sgd-seed0",)


def test_csv_has_a_line_per_entry(tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(table1.to_csv(table1.table(results(tmp_path))))))
    assert len(lines) == 5
    first = next(line for line in lines if line["method"] == "grasp" and line["optimizer"] == "sgd")
    assert (first["seeds"], first["test_accuracy"], first["error_over"]) == ("2", "0.550000", "seeds")
    assert (first["epochs_trained"], first["examples_trained"]) == ("2.5", "25000")
    assert (first["sparsity_masked"], first["sparsity_overall"]) == ("0.9001", "")
    odd = next(line for line in lines if line["method"] == "odd_one&")
    assert odd["epochs_trained"] == odd["examples_trained"] == ""


def test_latex_is_a_table_with_the_better_one_in_bold(tmp_path: Path) -> None:
    text = table1.to_latex(table1.table(results(tmp_path)))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    grasp = next(line for line in rows if line.startswith("GraSP"))
    assert r"GraSP & 90 \% & 90.01 & -- & 2--3 & 25,000 \\" in rows
    assert grasp.count("&") == 4
    assert r"\textbf{70.00}" in grasp
    assert r"\textbf{55.00}" not in grasp
    assert r"\textbf{40.00}" not in grasp  # nothing to compare it with
    assert "--" in grasp
    assert r"odd\_one\& &" in text
    assert text.count("{") == text.count("}")


def test_markdown_names_what_is_missing(tmp_path: Path) -> None:
    text = table1.to_markdown(table1.table(results(tmp_path)))
    assert "| GraSP | 55.00 ± 5.00 | 70.00 ± 0.40 | 40.00 ± 0.50 | – |" in text
    assert "| GraSP | 0.9 | 90.01 | – | 2–3 | 25,000 |" in text
    assert "| GraSP | 0.95 | 90.01 | – | 2 | 25,000 |" in text
    assert "| odd_one& | 0.9 | – | – | – | – |" in text
    assert "Dense, original: 90.00 ± 0.30 %." in text
    assert "Not finished, 1 runs: n-cifar10-set-0.9-sgd-seed0." in text


def test_without_a_finished_run(tmp_path: Path) -> None:
    write_table(tmp_path, [{"run": "n-cifar10-set-0.9-sgd-seed0", "state": "missing"}])
    with pytest.raises(UserError, match="no finished run"):
        table1.table(Results(tmp_path))
