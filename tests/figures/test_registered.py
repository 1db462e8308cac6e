"""The registered tests: numbers per seed by hand, verdicts as the plan words them."""

from __future__ import annotations

import subprocess
import sys
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from made_results import run_name, surface_of, write_table

from analysis.roughness import roughness
from figures import figure1, figure3
from figures.registered import Registered, in_words, primary, registered, table
from figures.reproduce.scale import FOLDER
from figures.results import Results

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
            surface_of(loss, alpha=AXIS, beta=AXIS).save(root / "surfaces" / f"{name}.surface.h5")
            accuracy = 0.8 + (gain if optimizer == "s2sam" else 0.0) + 0.001 * seed
            rows.append(
                {"run": name, "state": "finished", "method": method, "sparsity_asked": f"{sparsity:g}",
                 "optimizer": optimizer, "seed": str(seed), "test_accuracy": f"{accuracy}"}
            )  # fmt: skip
    write_table(root, rows)
    return Results(root)


def hash_of(method: str, sparsity: float, optimizer: str) -> int:
    return sum(map(ord, f"{method}{sparsity}{optimizer}"))


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write(tmp_path_factory.mktemp("claimed"), growth=1.2, lowering=0.9, gain=0.004)


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
