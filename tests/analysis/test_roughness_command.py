"""``python -m analysis.roughness``: table, JSON, CSV, warnings, errors, start-up."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import fields, replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from roughness_surfaces import axis, noisy_surface, surface_of

from analysis.roughness import roughness
from analysis.roughness.__main__ import main
from analysis.roughness.metrics import METRICS
from analysis.statistics.uncertainty import Estimate
from landscape.surface import Surface

COUNTS = np.full(10, 10)
X = axis(9)
BOWL = 1 + X[:, None] ** 2 + 0.5 * X**2


def made(label: str = "bowl", scale: float = 1.0) -> Surface:
    values, blocks = noisy_surface(np.random.default_rng(0), scale * BOWL, COUNTS)
    return surface_of(values, blocks=blocks, counts=COUNTS, label=label)


@pytest.fixture
def bowl(tmp_path: Path) -> str:
    return str(made().save(tmp_path / "bowl.surface.h5"))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error, after checking that it is all there is."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    output = capsys.readouterr()
    assert exit_.value.code == 2
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


def test_the_caption_tells_what_was_measured(bowl: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([bowl, "--span", "0.5"])
    assert "span ±0.5 of ±1; grid 5×5 of 9×9;" in capsys.readouterr().out


def test_table(bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = made("steep bowl", 2.0)
    main([bowl, str(other.save(tmp_path / "steep.surface.h5"))])
    output = capsys.readouterr()
    found = roughness(made()).ra
    assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in output.out
    assert all(metric.name in output.out for metric in METRICS.values())
    for text in ("bowl", "steep bowl", "Ra of log loss", "span ±1", "grid 9×9", "examples 100", "mask zeros"):
        assert text in output.out
    assert "95% intervals over examples" in output.out
    assert "Made differently" not in output.out
    assert output.err == ""


def test_json_holds_everything(bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([bowl, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["quantity"] for row in rows] == ["loss", "log loss"]
    assert set(rows[0]["estimates"]) == set(METRICS)
    assert set(rows[0]["estimates"]["ra"]) == {field.name for field in fields(Estimate)}
    assert rows[0]["estimates"]["ra"]["value"] == pytest.approx(roughness(made()).ra.value, rel=1e-12)
    assert rows[0]["made"]["normalization"] == "filter"
    assert rows[0]["resolution"] == [9, 9]
    main([bowl, "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    assert "Roughness of loss" in capsys.readouterr().out


def test_csv_has_one_line_per_metric(bowl: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([bowl, "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["quantity"], row["metric"]) for row in rows] == [
        (quantity, metric) for quantity in ("loss", "log loss") for metric in METRICS
    ]
    assert float(rows[0]["high"]) == pytest.approx(roughness(made()).ra.high, rel=1e-12)
    assert rows[0]["stderr_planes"] == ""
    assert rows[0]["mask"] == "zeros"


def test_divergence_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = BOWL.copy()
    values[0, 0] = inf
    path = str(surface_of(values, label="wild").save(tmp_path / "wild.surface.h5"))
    main([path])
    table = capsys.readouterr().out
    assert "∞ (diverged at radius 1.41)" in table
    assert "wild within ±0.75" in table
    main([path, "--json"])
    row = json.loads(capsys.readouterr().out)[0]
    assert row["estimates"]["ra"]["value"] is None
    assert row["diverged_radius"] == pytest.approx(2**0.5)
    assert row["finite"]["estimates"]["ra"]["value"] > 0
    main([path, "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["value"] for row in rows if (row["metric"], row["region"]) == ("ra", "±1")] == ["inf", "inf"]
    assert len(rows) == 4 * len(METRICS)


def test_losses_that_are_not_positive_have_no_log_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(surface_of(BOWL - 2).save(tmp_path / "negative.surface.h5"))
    main([path, "--log"])
    assert "a loss isn't positive" in capsys.readouterr().out
    main([path, "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_every_split_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    surface = made()
    plane = surface.planes[0]
    both = {"train": plane.splits["test"], "test": plane.splits["test"]}
    path = str(replace(surface, planes=(replace(plane, splits=both),)).save(tmp_path / "both.surface.h5"))
    main([path, "--json"])
    assert [row["split"] for row in json.loads(capsys.readouterr().out)] == ["train", "train", "test", "test"]
    main([path, "--json", "--split", "test"])
    assert {row["split"] for row in json.loads(capsys.readouterr().out)} == {"test"}
    main([path])
    assert "split" in capsys.readouterr().out


def test_warns_in_one_line_when_surfaces_were_made_differently(
    bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = surface_of(BOWL[1:-1], alpha=X[1:-1], beta=X, mask="none", normalize="layer")
    other = replace(other, settings={"examples": {"test": "0ther"}}, about={"label": "b", "data": "real"})
    main([bowl, str(other.save(tmp_path / "other.surface.h5"))])
    output = capsys.readouterr()
    assert output.err.startswith("warning: ")
    assert output.err.count("\n") == 1
    for difference in (
        "span ±1 / [-0.75, 0.75] × [-1, 1]",
        "grid 9×9 / 7×9",
        "data made up / real",
        "example set 5eed / 0ther",
        "normalization filter / layer",
        "mask zeros / none",
    ):
        assert difference in output.err
    assert "Made differently" in output.out


def test_warns_of_unfinished_surfaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed = np.zeros(BOWL.shape, bool)
    computed[::2, ::2] = True
    preview = replace(surface_of(BOWL, computed=computed, error=nan, label="preview"), complete=False)
    main([str(preview.save(tmp_path / "preview.surface.h5")), "--json"])
    output = capsys.readouterr()
    assert output.err == "warning: unfinished, interpolated so far: preview\n"
    assert json.loads(output.out)[0]["complete"] is False


def test_names_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(surface_of(BOWL, label="net [bold]").save(tmp_path / "x.surface.h5"))])
    assert "net [bold]" in capsys.readouterr().out


def test_warns_of_other_direction_seeds(
    bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = surface_of(np.stack([BOWL, BOWL + 1]), counts=COUNTS, label="two")
    main([bowl, str(several.save(tmp_path / "two.surface.h5"))])
    assert "directions random, seed 0 / random, seeds 0, 1" in capsys.readouterr().err


def test_equal_labels_are_told_apart_by_file(
    bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = str(made().save(tmp_path / "copy.surface.h5"))
    main([bowl, copy, "--json"])
    assert len({row["surface"] for row in json.loads(capsys.readouterr().out)}) == 2


def test_errors(bowl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in error_of(capsys, str(tmp_path / "missing.surface.h5"))
    (tmp_path / "text.surface.h5").write_text("not a surface")
    assert "not a readable surface" in error_of(capsys, str(tmp_path / "text.surface.h5"))
    assert "FILE" in error_of(capsys)
    assert "--help" in error_of(capsys, bowl, "--wrong")
    assert "expected more than 0" in error_of(capsys, bowl, "--span", "nan")
    assert "no split 'x'" in error_of(capsys, bowl, "--split", "x")
    unfinished = BOWL.copy()
    unfinished[1] = nan
    path = str(surface_of(unfinished).save(tmp_path / "unfinished.surface.h5"))
    assert "unfinished: 9 of 81 points missing" in error_of(capsys, path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot write" in error_of(capsys, bowl, "--json", str(blocked / "out.json"))


def test_a_report_never_overwrites_a_surface(bowl: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(bowl).read_bytes()
    assert "would overwrite a surface" in error_of(capsys, "x.surface.h5", "--json", bowl)
    assert Path(bowl).read_bytes() == before


def test_command_runs_without_torch_and_with_little_else(bowl: str) -> None:
    code = (
        "import runpy, sys; sys.argv = ['roughness', sys.argv[1], '--csv']\n"
        "runpy.run_module('analysis.roughness', run_name='__main__')\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, bowl], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("surface,file,split")


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    for option in ("--split", "--span", "--reference", "--log", "--json", "--csv", "Examples:", "default"):
        assert option in text
