"""Measures beside the registered one: closed forms, and a table of made results."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from made_results import run_name
from test_registered import AXIS, planned, write

from figures import sensitivity
from figures.results import Results

GRID = np.linspace(-1, 1, 41)
A, B = np.meshgrid(GRID, GRID, indexing="ij")


def test_a_quadratic_has_nothing_left_without_its_form() -> None:
    loss = np.exp(0.3 + 0.2 * A - 0.1 * B + A**2 + 0.5 * A * B + 0.7 * B**2)
    assert sensitivity.ra_of_log(GRID, GRID, loss) > 0.2
    assert sensitivity.ra_without_form(GRID, GRID, loss) == pytest.approx(0.0, abs=1e-12)


def test_what_the_form_leaves_is_the_ripple() -> None:
    ripple = 0.1 * np.sin(9 * A) * np.sin(9 * B)
    with_form = sensitivity.ra_without_form(GRID, GRID, np.exp(2 * A**2 + B**2 + ripple))
    assert with_form == pytest.approx(sensitivity.ra(GRID, GRID, ripple), rel=0.02)


def test_clipping_takes_the_corners_away() -> None:
    loss = 1 + 1000 * (A**2 + B**2)
    assert sensitivity.ra_clipped(GRID, GRID, loss) < 0.01 * sensitivity.ra(GRID, GRID, loss)


def test_where_the_mean_loss_doubles_in_closed_form() -> None:
    # The mean of 1 + c (a² + b²) over the square of half-width s is 1 + 2 c s² / 3.
    fine = np.linspace(-1, 1, 401)
    a, b = np.meshgrid(fine, fine, indexing="ij")
    found = sensitivity.doubled_span(fine, fine, 1 + 6.0 * (a**2 + b**2))
    assert found == pytest.approx(0.5, abs=2e-3)
    assert np.isnan(sensitivity.doubled_span(fine, fine, 1 + 0.1 * (a**2 + b**2)))


@pytest.mark.filterwarnings("ignore")
def test_the_table_has_both_numbers_of_every_measure(tmp_path: Path) -> None:
    results = write(tmp_path, growth=1.2, lowering=0.9, gain=0.0, seeds=range(3))
    found = {(row.name, row.where): row for row in sensitivity.rows(results)}
    row = found["Ra of log loss", "span 0.25, train"]
    assert row.growth is not None
    assert row.change is not None
    assert row.growth.mean == pytest.approx(3 * log(1.2), abs=0.1)
    assert exp(row.change.mean) == pytest.approx(0.9, abs=0.03)
    assert ("λmax", "train") not in found  # nobody computed it
    shown = f"| Ra of log loss | span 0.25, train | × {exp(row.growth.mean):.3f} ["
    assert shown in sensitivity.table(results)


def test_other_spans_have_rows_of_their_own(tmp_path: Path) -> None:
    results = write(tmp_path, growth=1.2, lowering=0.9, gain=0.0, seeds=range(1))
    for run in results.runs:
        surface = planned(run.surface.loss**2, 2 * AXIS)
        surface.save(tmp_path / "studies" / f"{run.name}.span0.5.surface.h5")
    assert run_name("grasp", 0.9, "sgd") in {run.name for run in results.runs}
    where = {row.where for row in sensitivity.rows(Results(tmp_path))}
    assert {"span 0.25, train", "span 0.5, train"} <= where


def test_a_split_is_not_markup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "surfaces").mkdir()
    row = sensitivity.Row("Ra", "span 1, train <img src=x> | **found** [a](b)", None, None)
    monkeypatch.setattr(sensitivity, "rows", lambda results: [row])
    shown = sensitivity.table(Results(tmp_path)).splitlines()[-1]
    assert shown.startswith(r"| Ra | span 1, train \<img src=x\> \| \*\*found\*\* \[a\](b) |")
