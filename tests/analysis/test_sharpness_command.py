"""``python -m analysis.sharpness``: table, JSON, CSV, going on after a stop, bad input."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from math import inf, isinf
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.sharpness import MEASURES, sharpness
from analysis.sharpness import sharpness_file as record
from analysis.sharpness.__main__ import main
from analysis.sharpness.measure import Measure, Settings, Sharpness
from analysis.sharpness.objective import Objective
from analysis.sharpness.sharpness_options import ChosenMeasures
from landscape.errors import UserError

QUICK = ["--examples", "20", "--draws", "2", "--steps", "1", "--starts", "2", "--dtype", "float64"]
DATA = ["--data", "npz:images.npz"]


class Outcome:
    """How a command ended and what it said."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        out, err, self.code = io.StringIO(), io.StringIO(), 0
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(one) for one in arguments])
            except SystemExit as stop:
                self.code = int(stop.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()


class Tiny(torch.nn.Module):
    """A classifier of images with a few weights, half of them zero."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(12, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs[:, :, ::2, ::2].flatten(1))  # type: ignore[no-any-return]


def tiny() -> Tiny:
    """For ``--model test_sharpness_command:tiny``."""
    return Tiny()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    arrays = {
        f"{split}_{part}": value
        for split, count in (("train", 23), ("test", 11))
        for part, value in (
            ("x", draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)),
            ("y", np.arange(count) % 3),
        )
    }
    (tmp_path / "other.json").write_text("[]")
    np.savez(tmp_path / "images.npz", **arrays)  # type: ignore[arg-type]
    for number, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model = tiny()
            with torch.no_grad():
                model.linear.weight.mul_(torch.rand(3, 12) > 0.5)
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    return tmp_path


MODEL = ["--model", "test_sharpness_command:tiny"]
COMMON = [*MODEL, *DATA, *QUICK]


def test_json_csv_and_table(folder: Path) -> None:
    done = Outcome("a.pt", "b.pt", *COMMON, "--json", "out.json", "--csv", "out.csv", folder=folder)
    assert done.code == 0, done.err
    for measure in MEASURES.values():
        assert measure.title in done.out
        assert measure.source in done.out
    assert "≥" in done.out
    entries = record.load(folder / "out.json")
    assert [one.name for one in entries] == ["a", "b"]
    assert all(list(one.measures) == list(MEASURES) for one in entries)
    assert entries[0].about["mask"] == "zeros"
    assert entries[0].about["kept_weights"] < 39
    rows = list(csv.DictReader(io.StringIO((folder / "out.csv").read_text())))
    assert [(row["checkpoint"], row["measure"]) for row in rows] == [(n, m) for n in "ab" for m in MEASURES]
    assert float(rows[0]["value"]) == entries[0].measures["sam"].value
    assert rows[0]["settings"] == "rho=0.05"


def test_a_command_gives_what_the_library_gives(folder: Path) -> None:
    options = ["--examples", "0", "--dtype", "float64", "--measures", "sam", "--json", "-"]
    done = Outcome("a.pt", *MODEL, *DATA, *options, folder=folder)
    (row,) = json.loads(done.out)["results"]
    with np.load(folder / "images.npz") as arrays:
        pixels, targets = arrays["train_x"] / 255, torch.from_numpy(arrays["train_y"])
    scaled = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    model = tiny()
    model.load_state_dict(torch.load(folder / "a.pt", weights_only=True))
    mask = {"linear.weight": model.linear.weight.detach() != 0}
    images = torch.from_numpy(scaled.transpose(0, 3, 1, 2)).contiguous()
    found = sharpness(model, (images, targets), measures=["sam"], mask=mask, dtype="float64")["sam"]
    assert row["measures"]["sam"]["value"] == pytest.approx(found.value, rel=1e-4)


def test_both_splits_have_their_entry(folder: Path) -> None:
    done = Outcome("a.pt", *COMMON, "--split", "both", "--measures", "sam", "--json", "-", folder=folder)
    assert [one["split"] for one in json.loads(done.out)["results"]] == ["train", "test"]


def test_a_stopped_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["a.pt", *COMMON, "--measures", "sam", "asam", "gaussian", "-o", "out.json"]
    whole = Outcome(*command[:-1], "whole.json", folder=folder)
    assert whole.code == 0, whole.err
    computed: list[str] = []

    def watched(name: str, measure: Measure, stop: bool) -> Measure:
        def compute(objective: Objective, settings: Settings) -> Sharpness:
            computed.append(name)
            if stop:
                raise KeyboardInterrupt
            return measure.compute(objective, settings)

        return Measure(compute, measure.title, measure.unit, measure.source, measure.uses, measure.passes)

    for name, measure in list(MEASURES.items()):
        monkeypatch.setitem(MEASURES, name, watched(name, measure, stop=name == "gaussian"))
    stopped = Outcome(*command, folder=folder)
    assert stopped.code == 130
    assert "stopped by Ctrl-C after 2 of 3 measures of a; out.json keeps what was finished" in stopped.err
    monkeypatch.undo()
    for name, measure in list(MEASURES.items()):
        monkeypatch.setitem(MEASURES, name, watched(name, measure, stop=False))
    computed.clear()
    done = Outcome(*command, folder=folder)
    assert done.code == 0, done.err
    assert computed == ["gaussian"]
    whole_entry, entry = record.load(folder / "whole.json")[0], record.load(folder / "out.json")[0]
    assert list(entry.measures) == list(whole_entry.measures)
    assert repr(entry.measures) == repr(whole_entry.measures)


def test_an_output_file_keeps_other_results_and_refuses_other_settings(folder: Path) -> None:
    common = [*COMMON, "--measures", "sam", "-o", "out.json"]
    for name in "ab":
        assert Outcome(f"{name}.pt", *common, folder=folder).code == 0
    assert [one.name for one in record.load(folder / "out.json")] == ["a", "b"]
    other = Outcome("a.pt", *common, "--rho", "0.2", folder=folder)
    assert other.code == 2
    assert "out.json holds a with other settings (rho 0.05 there, 0.2 now)" in other.err
    unrelated = Outcome("a.pt", *common, "--sigma", "0.2", folder=folder)
    assert unrelated.code == 0
    assert Outcome("a.pt", *common, "--rho", "0.2", "--overwrite", folder=folder).code == 0
    entries = {one.name: one.settings["rho"] for one in record.load(folder / "out.json")}
    assert entries == {"a": 0.2, "b": 0.05}


def test_infinity_and_nothing_survive_the_file(tmp_path: Path) -> None:
    measures = {"sam": Sharpness(inf), "asam": Sharpness(1.0, stderr_draws=0.5, kind="lower bound")}
    entry = record.Entry("a [b]", "a.pt", "1", "train", {"rho": 0.1}, {}, measures)
    record.save([entry], tmp_path / "x.json")
    (found,) = record.load(tmp_path / "x.json")
    assert isinf(found.measures["sam"].value)
    assert repr(found) == repr(entry)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["missing.pt"], "missing.pt"),
        ([], "--help"),
        (["a.pt", "--rho", "0"], "--rho 0.0: expected a positive"),
        (["a.pt", "--adaptive-rho", "nan"], "--adaptive-rho nan"),
        (["a.pt", "--draws", "1"], "--draws 1: expected at least 2"),
        (["a.pt", "--steps", "1.5"], "whole number"),
        (["a.pt", "--measures", "sharp"], "unknown measure 'sharp'; expected one of sam"),
        (["a.pt", "--device", "tpu"], "--device tpu"),
        (["a.pt", "--json", "a.pt"], "would overwrite"),
        (["a.pt", "--json", "-", "--csv", "-"], "standard output"),
        (["a.pt", *MODEL, "--data", "npz:none.npz"], "none.npz"),
        (["a.pt", *MODEL, *DATA, "--mask", "checkpoint"], "stores no mask"),
        (["a.pt", "-o", "images.npz"], "a file NAME.sharpness.json"),
        (["a.pt", *MODEL, *DATA, "-o", "other.json"], "expected a file written by analysis.sharpness"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: list[str], word: str) -> None:
    done = Outcome(*arguments, folder=folder)
    assert done.code == 2
    assert done.out == ""
    assert done.err.splitlines()[-1].startswith("error: ")
    assert done.err.count("error: ") == 1
    assert word in done.err


@pytest.mark.parametrize("text", ["[]", '{"format": "sharpscape.sharpness", "version": 1, "results": [{}]}'])
def test_files_of_others_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        record.load(tmp_path / "x.json")


def test_help_names_every_option(tmp_path: Path) -> None:
    done = Outcome("--help", folder=tmp_path)
    assert done.code == 0
    for option in ("--rho", "--measures", "--draws", "--output", "--trust-checkpoint", "--data-root"):
        assert option in done.out
    assert all(name in done.out for name in MEASURES)


def test_settings_are_the_options(tmp_path: Path) -> None:
    assert ChosenMeasures().settings() == Settings()
    assert ChosenMeasures(measures=("keskar", "sam")).names() == ("sam", "keskar")
