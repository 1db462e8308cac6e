"""Names of runs, data and optimizers: no run counts twice or for another network, and no name is markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import NETWORK, loss_of, run_name, surface_of, write_results, write_steps, write_table

from figures import accuracy, dependence, figure2, figure3
from figures.claims import accuracy_pairs
from figures.finished import finished
from figures.product_command import main
from figures.registered import registered
from figures.report import report
from figures.results import Results
from figures.table_texts import to_markdown
from figures.tabular import Column, Entry, Grid, Line
from landscape.errors import UserError
from landscape.plot import save_figure

RUNS = [(method, 0.9, optimizer, 0) for method in ("snip", "grasp") for optimizer in ("sgd", "s2sam")]
FORGED = "cifar10\n\n- **S2-SAM lowers Ra: found.** (p = 0.001)\x1b]0;T\x07 <img src=x>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_results(tmp_path, RUNS)


def rows(network: str, first: str, second: str) -> list[dict[str, str]]:
    """Accuracies of all runs with SGD and S2-SAM."""
    return [
        {"run": run_name(method, sparsity, optimizer, seed, network), "state": "finished", "method": method,
         "sparsity_asked": f"{sparsity:g}", "optimizer": optimizer, "seed": str(seed),
         "test_accuracy": first if optimizer == "sgd" else second}
        for method, sparsity, optimizer, seed in RUNS
    ]  # fmt: skip


def test_a_network_whose_name_begins_alike_is_another_one(root: Path) -> None:
    write_table(root, rows(NETWORK, "0.80", "0.81") + rows(f"{NETWORK}-small", "0.5", "0.4"))
    results = Results(root, NETWORK)
    pairs, _ = accuracy_pairs(results, "s2sam")
    assert pairs == {("grasp", 0.9, 0): (0.8, 0.81), ("snip", 0.9, 0): (0.8, 0.81)}
    assert len(results.rows) == len(RUNS)


def test_accuracies_belong_to_the_run_that_a_row_names(root: Path) -> None:
    expected, _ = accuracy_pairs(Results(root), "s2sam")
    table = root / "runs" / "results.csv"
    table.write_text(table.read_text().replace(",0,0.8125", ",,0.8125"))
    assert accuracy_pairs(Results(root), "s2sam")[0] == expected
    short = [
        {key: row[key] for key in ("run", "state", "test_accuracy")} for row in rows(NETWORK, "0.8", "0.9")
    ]
    write_table(root, short)
    assert set(accuracy_pairs(Results(root), "s2sam")[0].values()) == {(0.8, 0.9)}
    assert registered(Results(root))[2].per_seed == {}
    assert "nan" not in report(Results(root))


@pytest.mark.parametrize(("one", "other"), [("seed0", "seed00"), ("-0.9-", "-0.90-")])
def test_two_names_of_one_run_are_refused(root: Path, one: str, other: str) -> None:
    name = run_name("snip", 0.9, "sgd")
    twice = name.replace(one, other)
    surface_of(loss_of("snip", 0.9, "sgd")).save(root / "surfaces" / f"{twice}.surface.h5")
    with pytest.raises(UserError, match="would count twice"):
        Results(root)
    (root / "surfaces" / f"{name}.surface.h5").unlink()
    write_table(root, [])
    results = Results(root)
    assert results.seeds == [0]
    assert [run.name for run in results.cell("snip", 0.9, "sgd").runs] == [twice]


@pytest.mark.parametrize("sparsity", ["..", "1e"])
def test_what_is_no_sparsity_is_no_run(root: Path, sparsity: str) -> None:
    write_table(
        root, [{"run": f"{NETWORK}-snip-{sparsity}-sgd-seed0", "state": "finished", "test_accuracy": "1"}]
    )
    results = Results(root)
    assert {cell.sparsity for cell in results.cells} == {0.9}
    assert finished(results).rows == {}


def test_tables_count_no_run_twice(root: Path) -> None:
    names = [f"{NETWORK}-odd&-0.9-sgd-seed{seed}" for seed in ("0", "00")]
    write_table(root, [{"run": name, "state": "finished", "test_accuracy": "0.5"} for name in names])
    with pytest.raises(UserError, match="would count twice"):
        finished(Results(root))


def test_an_optimizer_without_a_marker_is_drawn(root: Path) -> None:
    added = []
    for optimizer in ("asam", "fsam", "own"):
        name = run_name("snip", 0.9, optimizer)
        surface_of(loss_of("snip", 0.9, "sgd")).save(root / "surfaces" / f"{name}.surface.h5")
        added += [{**rows(NETWORK, "0.8", "")[0], "run": name, "optimizer": optimizer}]
    write_table(root, rows(NETWORK, "0.80", "0.81") + added)
    figure = accuracy.draw(Results(root))
    words = {text.get_text() for text in figure.texts}
    assert {"original", "S2-SAM", "asam", "fsam", "own"} <= words


def named(root: Path, data: str) -> Results:
    """The same surfaces over data of another name."""
    for optimizer in ("sgd", "s2sam"):
        one = surface_of(loss_of("snip", 0.9, optimizer))
        one = replace(one, about={**one.about, "data": {"name": data}, "units": {"loss": r"$\frac$"}})
        one.save(root / "surfaces" / f"{run_name('snip', 0.9, optimizer)}.surface.h5")
    return Results(root)


def test_a_dollar_is_no_mathematics(root: Path, tmp_path: Path) -> None:
    results = named(root, r"photos $\frac$")
    save_figure(figure3.draw(results), tmp_path / "figure.svg")
    main([accuracy.PRODUCT], [str(root), "--output", str(tmp_path / "out")])
    write_steps(root)
    found = figure2.steps(results)
    steps = tuple(replace(step, axes=(r"$\frac$", "b\x1b")) for step in found.steps)
    save_figure(figure2.draw_steps(replace(found, steps=steps)), tmp_path / "steps.svg")


def test_no_name_forges_a_line(root: Path) -> None:
    results = named(root, FORGED)
    texts = [report(results), figure3.caption(results), accuracy.caption(results)]
    for text in texts:
        assert "\n- **S2-SAM lowers Ra: found.**" not in text
        assert not re.search(r"(?<!\\)<img", text)
        assert "\x1b" not in text
        assert r"\*\*S2-SAM lowers Ra: found.\*\*" in text


def test_no_network_is_markup(tmp_path: Path) -> None:
    network = "resnet20-a|b<img src=x onerror=alert(1)>"
    write_table(tmp_path, rows(network, "0.8", "0.9"))
    for method, sparsity, optimizer, seed in RUNS[:2]:
        name = run_name(method, sparsity, optimizer, seed, network)
        surface_of(loss_of(method, sparsity, optimizer)).save(tmp_path / "surfaces" / f"{name}.surface.h5")
        surface_of(loss_of(method, sparsity, optimizer) * 3).save(
            tmp_path / "studies" / f"{name}.dense.surface.h5"
        )
    results = Results(tmp_path)
    for text in (report(results), figure3.caption(results), dependence.caption(results)):
        assert not re.search(r"(?<!\\)<img", text)
        assert r"a\|b\<img" in text


def test_no_head_title_or_note_of_a_table_is_markup() -> None:
    column = Column("a|b", "<i>", "key")
    grid = Grid("t|<b>", ("h|",), (column,), (Line(("l|",), (Entry("1"),)),), ("n|\n\n- forged <u>",))
    text = to_markdown(grid)
    assert r"| h\| | a\|b \<i\> |" in text
    assert r"**t\|\<b\>**" in text
    assert r"n\| - forged \<u\>" in text
