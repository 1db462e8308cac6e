"""``analysis.compare``: rows from files, pairs by words, tables in every form."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from dataclasses import replace
from math import inf, isinf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness_cases import drawn
from roughness_surfaces import axis, noisy_surface, surface_of
from scipy import stats

from analysis.compare.comparison_table import escape, paired_table, table, to_csv, to_json, to_latex
from analysis.compare.pairs import compare_pairs, find_pairs
from analysis.compare.read import _metrics, read_results, row_name
from analysis.compare.rows import Cell, Row, columns, disagreements, merge, share
from analysis.robustness.robustness_file import save
from analysis.roughness import roughness
from analysis.statistics.paired import permutation_test
from landscape.errors import UserError
from landscape.surface import Surface

X = axis(9)
BOWL = 1 + X[:, None] ** 2 + 0.5 * X**2


def saved_surface(path: Path, label: str, *, sha256: str = "", scale: float = 1.0) -> Surface:
    counts = np.full(10, 10)
    values, blocks = noisy_surface(np.random.default_rng(0), scale * BOWL, counts)
    surface = surface_of(values, blocks=blocks, counts=counts, label=label, density=0.1)
    metrics = {"test_accuracy": 0.9, "test_examples": 1000}
    checkpoint = {"file": label, "sha256": sha256, "metrics": metrics}
    surface = replace(surface, about={**surface.about, "checkpoint": checkpoint})
    surface.save(path)
    return surface


def saved_sharpness(path: Path, name: str, sha256: str, **values: float | None) -> Path:
    measures = {
        key: {"value": value, "low": 0.1, "high": 0.9, "kind": "lower bound", "diverged": value is None}
        for key, value in values.items()
    }
    entry = {
        "name": name,
        "file": f"{name}.pt",
        "sha256": sha256,
        "split": "train",
        "settings": {"rho": 0.05, "mask": None},
        "about": {"density": 0.1},
        "measures": measures,
    }
    path.write_text(json.dumps({"format": "sharpscape.sharpness", "version": 1, "results": [entry]}))
    return path


def saved_spectrum(path: Path, name: str, sha256: str) -> Path:
    row = {
        "label": name,
        "file": f"{name}.hessian.h5",
        "top": [{"value": 40.0, "residual": 0.5, "converged": True}],
        "trace": {"value": 300.0, "stderr": 4.0, "error": 9.0},
        "settings": {"examples": "5eed", "mask": {"source": "zeros"}},
        "about": {"checkpoint": {"sha256": sha256, "metrics": {}}},
    }
    path.write_text(json.dumps([row]))
    return path


def test_files_of_one_network_become_one_row(tmp_path: Path) -> None:
    surface = saved_surface(tmp_path / "a.surface.h5", "a", sha256="1")
    files = [
        tmp_path / "a.surface.h5",
        saved_sharpness(tmp_path / "s.json", "other name", "1", sam=0.5, lambda_max=41.0),
        saved_spectrum(tmp_path / "h.json", "a", ""),
        saved_sharpness(tmp_path / "t.json", "b", "2", sam=None),
    ]
    first, second = merge(row for path in files for row in read_results(path))
    assert (first.name, first.sha256, second.name) == ("a", "1", "b")
    ra = roughness(surface).ra
    found = first.cells["ra"]
    assert (found.value, found.low, found.high) == pytest.approx((ra.value, ra.low, ra.high), rel=1e-9)
    assert first.cells["accuracy"] == share(0.9, 1000)
    assert first.cells["sparsity"].value == pytest.approx(0.9)
    assert first.cells["sam"] == Cell(0.5, 0.1, 0.9, bound=True)
    assert first.cells["lambda_max"] == Cell(40.0, 39.5, 40.5)
    assert first.cells["lambda_max (sharpness)"].value == 41.0
    assert first.cells["trace"] == Cell(300.0, 291.0, 309.0)
    assert isinf(second.cells["sam"].value)
    assert columns([first, second])[:6] == ["accuracy", "sparsity", "ra", "ra_log", "lambda_max", "trace"]


def test_two_surfaces_of_one_network_stay_apart(tmp_path: Path) -> None:
    for number in (1, 2):
        saved_surface(tmp_path / f"{number}.surface.h5", "a", sha256="1", scale=float(number))
    rows = merge(row for number in (1, 2) for row in read_results(tmp_path / f"{number}.surface.h5"))
    assert [row.name for row in rows] == [f"a ({tmp_path / f'{number}.surface.h5'})" for number in (1, 2)]


def test_corrupted_images_stand_beside_what_is_known_of_the_network(tmp_path: Path) -> None:
    saved_surface(tmp_path / "a.surface.h5", "a", sha256=f"{1:064x}")
    one = drawn(1)
    save(one, tmp_path / "net.robustness.h5")
    (row,) = merge(row for path in tmp_path.iterdir() for row in read_results(path))
    mean = one.mean_accuracy()
    assert row.cells["corrupted"] == Cell(mean.value, mean.low, mean.high)
    assert mean.value == pytest.approx(one.correct.mean())
    assert columns([row])[:3] == ["accuracy", "corrupted", "sparsity"]
    half = replace(one, done=np.arange(75).reshape(15, 5) > 0)
    with pytest.raises(UserError, match=r"half.h5 lacks some of the 15 corruptions .*; go on with"):
        read_results(save(half, tmp_path / "half.h5"))


def test_roughness_json_gives_the_surfaces_ra(tmp_path: Path) -> None:
    from analysis.roughness.__main__ import main as run

    surface = saved_surface(tmp_path / "a.surface.h5", "a")
    run([str(tmp_path / "a.surface.h5"), "--json", str(tmp_path / "r.json")])
    (row,) = merge(read_results(tmp_path / "r.json"))
    assert row.cells["ra"].high == pytest.approx(roughness(surface).ra.high)
    assert row.cells["ra_log"].value == pytest.approx(roughness(surface, log=True).ra.value)


@pytest.mark.parametrize("known", [True, False], ids=["digests", "no digests"])
def test_networks_that_are_all_called_final_stay_apart(tmp_path: Path, known: bool) -> None:
    from analysis.roughness.__main__ import main as run

    for number in (1, 2):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        digest = str(number) if known else ""
        saved_surface(folder / "one.surface.h5", "final", sha256=digest, scale=float(number))
        run([str(folder / "one.surface.h5"), "--json", str(folder / "ra.json")])
        saved_spectrum(folder / "h.json", "final", digest)
    results = [tmp_path / "run1" / "ra.json", tmp_path / "run2" / "h.json"]
    ra, spectrum = merge(row for path in results for row in read_results(path))
    assert set(ra.cells) == {"ra", "ra_log"}
    assert set(spectrum.cells) == {"lambda_max", "trace"}
    same = [tmp_path / "run1" / "ra.json", tmp_path / "run1" / "one.surface.h5"]
    assert len(merge(row for path in same for row in read_results(path))) == 1


@pytest.mark.parametrize(
    ("text", "word"), [("{", "not readable as JSON"), ("3", "expected JSON"), ('[{"top": []}]', "damaged")]
)
def test_other_json_is_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=word):
        read_results(tmp_path / "x.json")
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "y.json")


def test_names_of_checkpoints() -> None:
    assert row_name(Path("runs/snip-0.9-sgd-seed0/final.pt")) == "snip-0.9-sgd-seed0"
    assert row_name(Path("runs/mine.pt")) == "mine"
    assert row_name(Path("runs/snip-0.9-sgd-seed0/final.surface.h5")) == "snip-0.9-sgd-seed0"
    assert row_name(Path("hessian/snip-0.9-sgd-seed0.hessian.h5")) == "snip-0.9-sgd-seed0"


def made_rows(count: int = 7) -> list[Row]:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(count):
        base = draw.normal()
        for word, shift in (("sgd", 0.0), ("s2sam", -0.5)):
            cells = {"ra": Cell(base + shift + 0.1 * draw.normal()), "sam": Cell(1.0)}
            rows.append(Row(f"snip-{word}-seed{number}", [f"{number}"], cells=cells))
    return rows


def test_pairs_are_told_by_one_word() -> None:
    rows = made_rows(3)
    rows += [Row("snip-sgd2-seed0", []), Row("snip-sgd-seed9", []), Row("grasp-s2sam-seed0", [])]
    pairs = [(one.name, other.name) for one, other in find_pairs(rows, "sgd", "s2sam")]
    assert pairs == [(f"snip-sgd-seed{n}", f"snip-s2sam-seed{n}") for n in range(3)]
    for words in (("sgd", "sgd"), ("sgd", "sam"), ("", ".*")):
        with pytest.raises(UserError, match="no two names differ only in that word"):
            find_pairs(rows, *words)


def test_paired_tests_are_those_of_the_differences() -> None:
    rows = made_rows()
    pairs = find_pairs(rows, "sgd", "s2sam")
    found = {one.column: one for one in compare_pairs(pairs)}
    differences = [after.cells["ra"].value - before.cells["ra"].value for before, after in pairs]
    assert found["ra"].test == permutation_test(differences)
    theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found["ra"].test.p_value == pytest.approx(theirs.pvalue)
    assert found["ra"].second - found["ra"].first == pytest.approx(found["ra"].test.mean)
    assert found["sam"].test.p_value == 1.0


def test_pairs_without_a_finite_number_are_left_out_and_counted() -> None:
    rows = made_rows()
    rows[0].cells["ra"] = Cell(inf)
    del rows[3].cells["ra"]
    found = {one.column: one for one in compare_pairs(find_pairs(rows, "sgd", "s2sam"))}
    assert (found["ra"].test.n, found["ra"].left_out) == (5, 2)
    assert found["ra"].test.interval == "t"
    assert found["sam"].left_out == 0


HOSTILE = r"\input{x} 50% of a_b & [bold]c[/bold] $#~^<> λ"


def test_latex_escapes_whatever_a_name_holds() -> None:
    assert escape("a_b & 5 %") == r"a\_b \& 5 \%"
    rows = [*made_rows(), Row(HOSTILE, ["x"], cells={"ra": Cell(inf), "accuracy": Cell(0.5)})]
    tests = compare_pairs(find_pairs(rows, "sgd", "s2sam"))
    text = to_latex(rows, tests, ("sgd", "s2sam"))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert (
        r"\textbackslash{}input\{x\} 50\% of a\_b \& [bold]c[/bold] "
        r"\$\#\textasciitilde{}\textasciicircum{}\textless{}\textgreater{} $\lambda$ & 50"
    ) in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    cells = [line.replace(r"\&", "").count("&") for line in body]
    assert cells == [3] * (1 + len(rows)) + [4] * (1 + len(tests))
    assert r"$\infty$" in text
    assert r"\input" not in text.replace(r"\textbackslash{}input", "")


def test_csv_and_json_hold_everything() -> None:
    rows = [*made_rows(), Row(HOSTILE, ["x"], "12", {"ra": Cell(inf), "accuracy": share(0.5, 100)})]
    tests = compare_pairs(find_pairs(rows, "sgd", "s2sam"))
    lines = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [line["network"] for line in lines] == [row.name for row in rows]
    assert (lines[-1]["ra"], lines[-1]["ra_low"], lines[-1]["sam"]) == ("inf", "", "")
    assert float(lines[-1]["accuracy_low"]) == share(0.5, 100).low
    content = json.loads(to_json(rows, tests, ("sgd", "s2sam")))
    last = content["networks"][-1]
    assert (last["cells"]["ra"]["value"], last["cells"]["ra"]["diverged"]) == (None, True)
    assert content["tests"][0]["test"]["p_value"] == tests[0].test.p_value
    assert content["tests"][0]["pairs"][0] == ["snip-sgd-seed0", "snip-s2sam-seed0"]


def test_terminal_tables_show_names_as_they_are() -> None:
    from rich.console import Console

    rows = [*made_rows(4), Row(HOSTILE, ["x"], cells={"sam": Cell(2.0, 1.0, 3.0, bound=True)})]
    tests = compare_pairs(find_pairs(rows, "sgd", "s2sam"))
    console = Console(width=300, file=io.StringIO())
    console.print(table(rows))
    console.print(paired_table(tests, "sgd", "s2sam"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert HOSTILE in text
    assert "≥ 2.0 [1.0, 3.0]" in text
    assert "s2sam − sgd" in text
    assert " (t)" in text


def test_what_was_measured_differently_is_named() -> None:
    rows = [Row("a", [], made={"x": "1", "y": "2"}), Row("b", [], made={"x": "3"}), Row("c", [])]
    assert disagreements(rows) == {"x": ["1", "3"]}


def test_share_is_scipys_wilson_interval() -> None:
    theirs = stats.binomtest(873, 1000).proportion_ci(method="wilson")
    found = share(0.873, 1000)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6)
    assert isnan(share(0.5, None).low)


def run(*arguments: object) -> tuple[int, str, str]:
    from analysis.compare.__main__ import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(one) for one in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_command(tmp_path: Path) -> None:
    files: list[Any] = []
    for number in range(6):
        for word in ("sgd", "s2sam"):
            name = f"{word}-{number}"
            path = tmp_path / f"{name}.surface.h5"
            saved_surface(path, name, scale=1.0 + 0.1 * number + (word == "s2sam") * (1 + 0.01 * number))
            files.append(path)
    tex = tmp_path / "t.tex"
    code, out, err = run(*files, "--pair", "sgd", "s2sam", "--latex", tex)
    assert (code, err) == (0, "")
    assert "sgd-0" in out
    assert "0.031" in out, "six pairs that all rise"
    assert tex.read_text().startswith(r"\begin{tabular}")
    code, out, err = run(*files, "--csv", "-")
    assert out.startswith("network,sha256,files,accuracy")
    saved_sharpness(tmp_path / "s.json", "sgd-0", "", sam=1.0)
    text = (tmp_path / "s.json").read_text().replace("0.05", "0.1").replace("sgd-0", "sgd-1")
    (tmp_path / "t.json").write_text(text)
    code, out, err = run(*files[:4], tmp_path / "s.json", tmp_path / "t.json")
    assert code == 0
    assert err == "warning: not measured alike, compare with care: sharpness rho 0.05 / 0.1\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["missing.surface.h5"], "no such file"),
        (["missing.pt"], "missing.pt"),
        ([], "--help"),
        (["a.json", "--hessian"], "none is given"),
        (["a.json", "--csv", "-", "--json", "-"], "both go to standard output"),
        (["a.json", "--csv", "x", "--json", "./x"], "same file"),
        (["a.json", "--csv", "a.surface.h5"], "would overwrite"),
        (["a.json", "--split", "both"], "one split"),
        (["a.json", "--test-seed", "1.5"], "whole number"),
        (["a.json", "--measures", "x"], "unknown measure"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.parametrize("stated", [80.0, -0.1, float("nan"), "=1+1", True, 10**400])
def test_an_accuracy_that_is_no_fraction_is_left_out_and_said(
    stated: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """93.1 of somebody's checkpoint is in percent; 9310 % would be wrong, and silence, too."""
    assert not _metrics({"test_accuracy": stated, "test_examples": 100}, "net")
    assert "net: test accuracy left out" in capsys.readouterr().err


@pytest.mark.parametrize("stated", [0, 1, 0.5])
def test_an_accuracy_that_is_a_fraction_is_taken(stated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _metrics({"test_accuracy": stated, "test_examples": 10**400}, "net")["accuracy"].value == stated
    assert not _metrics({}, "net")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"top": None}, {"top": {}}, {"top": [{"value": 10**400, "residual": 0}]}, {"top": 5}]
)
def test_spectra_in_json_that_none_writes_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = saved_spectrum(tmp_path / "n.json", "n", "0")
    path.write_text(json.dumps([json.loads(path.read_text())[0] | change]))
    with pytest.raises(UserError, match="damaged"):
        read_results(path)
