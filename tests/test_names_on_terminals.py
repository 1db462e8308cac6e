"""Text of files on a terminal: no escape sequence, no markup of the library that draws tables."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.compare.comparison_table import paired_table
from analysis.curvature import map_report
from analysis.robustness.reference_errors import UNNORMALIZED
from analysis.robustness.robustness_table import table as robustness_table
from landscape.commandline.console import terminal
from tests.analysis.robustness_cases import drawn
from tests.landscape.test_edges import HOSTILE, surface_called
from training.__main__ import _print_result
from training.checkpoint import RunFolder
from training.progress import TrainingProgress
from training.sweep.table import COLUMNS, show_table

MARKUP = "[link=https:evil.example][bold red]net[/x]"
HIDDEN = {"\x1b", "\x07", "\x9b", "\u202e"}


def printed(what: object) -> str:
    """On a terminal of the library's own, which takes brackets in a plain text for markup."""
    file = io.StringIO()
    Console(file=file, width=400).print(what)
    return file.getvalue()


def test_brackets_and_colons_are_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    terminal().print(f"{MARKUP} :smile:")
    assert capsys.readouterr().out == f"{MARKUP} :smile:\n"


def test_names_of_runs_are_not_markup() -> None:
    file = io.StringIO()
    row = dict.fromkeys(COLUMNS, "") | {"run": MARKUP, "state": "finished", "dead_filters": "[bold]3"}
    show_table([row, row | {"run": "failing", "state": "failed", "error": MARKUP}], Console(file=file))
    shown = file.getvalue()
    assert shown.count(MARKUP) == 2
    assert "finished" in shown
    assert "[bold]3" in shown


def test_what_a_robustness_result_remarks_is_not_markup() -> None:
    one = replace(drawn(), about=drawn().about | {"remark": MARKUP, "data": {"name": MARKUP}})
    assert printed(robustness_table([one], UNNORMALIZED)).count(MARKUP) == 2


def test_words_of_a_comparison_are_not_markup() -> None:
    assert MARKUP in printed(paired_table([], "a", MARKUP))


def test_labels_of_curvature_are_not_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(map_report, "_cells", lambda *_: {"λmax": "[bold]1"})
    monkeypatch.setattr(map_report, "terminal", lambda: Console(width=400))
    map_report._print_table(surface_called(MARKUP), "test", [0])
    shown = capsys.readouterr().out
    assert MARKUP in shown
    assert "[bold]1" in shown


def test_notes_of_a_training_are_not_markup() -> None:
    file = io.StringIO()
    TrainingProgress(Console(file=file, width=400)).note("1 is broken: a[/b].png")
    assert file.getvalue() == "note: 1 is broken: a[/b].png\n"


def test_layers_of_a_finished_run_have_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path, {})
    folder.final.write_bytes(b"")
    layer = {"weights": 8, "kept": 4, "filters": 2, "dead_filters": 1}
    metrics: dict[str, Any] = {
        **{"test_accuracy": 0.5, "test_examples": 4, "test_loss": 1.0, "sparsity": 0.5, "parameters": 9},
        **{"sparsity_overall": 0.5, "epochs_trained": 1, "seconds": 1.0, "layers": {HOSTILE: layer}},
        **{"dense_layers": {HOSTILE: 1}, "classes_without_input": []},
    }
    _print_result(folder, metrics)
    shown = capsys.readouterr().out
    assert not HIDDEN & set(shown)
    assert shown.count("title") == 3
