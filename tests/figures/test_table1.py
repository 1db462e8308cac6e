"""Table 1: every number where it belongs, in all forms; what wasn't run stands empty."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from made_results import write_table

from figures import table1
from figures.results import Results
from figures.table_texts import to_csv, to_latex, to_markdown
from figures.tabular import Grid

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


def line(grid: Grid, *labels: str) -> list[str]:
    (found,) = [one for one in grid.lines if one.labels == labels]
    return [str(one) for one in found.entries]


def test_entries(tmp_path: Path) -> None:
    sparse, dense, _ = table1.grids(results(tmp_path))
    heads = [(one.group, one.head) for one in sparse.columns]
    assert heads[:2] == [("90 % sparse", "original"), ("90 % sparse", "S2-SAM")]
    # Over two seeds; over test examples; the paper's 98 % that nobody ran.
    assert line(sparse, "n, CIFAR-10", "GraSP") == [
        "55.00 ± 5.00",
        "70.00 ± 0.40",
        "40.00 ± 0.50",
        "□",
        "□",
        "□",
    ]
    assert line(sparse, "n, CIFAR-10", "LT") == ["□"] * 6
    assert line(sparse, "n, CIFAR-10", "odd_one&")[0] == "30.00 ± 0.50"
    assert line(sparse, "VGG-19, CIFAR-100", "all methods") == ["□"] * 6
    assert line(dense, "n, CIFAR-10") == ["90.00 ± 0.30", "□"]
    assert "Not finished, 1 runs: n-cifar10-set-0.9-sgd-seed0." in sparse.notes


def test_csv_has_a_line_per_cell(tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(table1.grids(results(tmp_path))))))
    grasp = [one for one in lines if one["row"] == "n, CIFAR-10, GraSP"]
    assert [one["state"] for one in grasp] == ["measured"] * 3 + ["not run"] * 3
    assert (grasp[0]["n"], grasp[0]["value"], grasp[0]["over"]) == ("2", "0.55", "seeds")
    assert (grasp[1]["error"], grasp[1]["over"]) == ("0.004", "test examples")
    assert grasp[3]["value"] == ""


def test_latex_is_a_table_without_bold_where_nothing_is_comparable(tmp_path: Path) -> None:
    sparse, _, used = map(to_latex, table1.grids(results(tmp_path)))
    grasp = next(one for one in sparse.splitlines() if one.startswith("n, CIFAR-10 & GraSP"))
    assert grasp.count("&") == 7
    assert "70.00" in grasp
    assert r"\textbf" not in grasp  # two seeds against one, and nothing to compare the 40.00 with
    assert r"\fbox" in grasp
    assert r"odd\_one\& &" in sparse
    assert r"n, CIFAR-10 & GraSP & 0.9 & 90.01 &  & 2–3 & 25,000 \\" in used
    assert sparse.count("{") == sparse.count("}")


def test_markdown_says_what_runs_spent(tmp_path: Path) -> None:
    text = to_markdown(table1.grids(results(tmp_path))[2])
    assert "| n, CIFAR-10 | GraSP | 0.9 | 90.01 |  | 2–3 | 25,000 |" in text
    assert "| n, CIFAR-10 | GraSP | 0.95 | 90.01 |  | 2 | 25,000 |" in text
    assert "| n, CIFAR-10 | odd_one\\& | 0.9 |  |  |  |  |" in text


def test_without_a_finished_run(tmp_path: Path) -> None:
    write_table(tmp_path, [{"run": "n-cifar10-set-0.9-sgd-seed0", "state": "missing"}])
    sparse, *_ = table1.grids(Results(tmp_path))
    assert {one.state for line_ in sparse.lines for one in line_.entries} == {"not run"}
