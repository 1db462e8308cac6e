"""``python -m analysis.connectivity a.pt b.pt``: files, table, JSON, going on after a stop, bad input."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.connectivity import __main__ as command_module
from analysis.connectivity import barrier
from analysis.connectivity.__main__ import main
from landscape.checkpoint import load_checkpoint
from landscape.surface import load_surface

MODEL = ["--model", "test_connectivity_command:tiny"]
QUICK = [*MODEL, "--data", "npz:images.npz", "--examples", "20", "--steps", "4", "--points", "3"]


class Tiny(nn.Module):
    """A classifier of images with a few weights."""

    def __init__(self, wide: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, wide, 2, stride=2), nn.BatchNorm2d(wide)
        self.linear = nn.Linear(4 * wide, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(inputs)).relu().flatten(1))  # type: ignore[no-any-return]


def tiny() -> Tiny:
    """For ``--model test_connectivity_command:tiny``."""
    return Tiny()


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

    @property
    def error(self) -> str:
        lines = self.err.splitlines()
        assert self.code == 2, self.err
        assert lines[-1].startswith("error: ")
        assert "Traceback" not in self.err
        return lines[-1]


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
    np.savez(tmp_path / "images.npz", **arrays)  # type: ignore[arg-type]
    for number, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model = tiny()
            with torch.no_grad():
                model.linear.weight.mul_(torch.rand(3, 16) > 0.5)
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    return tmp_path


def test_everything_is_written_and_agrees(folder: Path) -> None:
    done = Outcome("a.pt", "b.pt", *QUICK, "--json", "found.json", folder=folder)
    assert done.code == 0, done.err
    names = ["a--b.bend.pt", "a--b.bezier.surface.h5", "a--b.linear.surface.h5", "a--b.png"]
    assert sorted(path.name for path in (folder / "connectivity").iterdir()) == names
    content = json.loads((folder / "found.json").read_text())
    assert content["ends"] == ["a", "b"]
    for curve in ("linear", "bezier"):
        surface = load_surface(folder / "connectivity" / f"a--b.{curve}.surface.h5")
        assert surface.complete
        assert surface.alpha.tolist() == [0.0, 0.5, 1.0] == content["curves"][curve]["t"]
        assert surface.splits == ("train", "test")
        for split in surface.splits:
            told = content["curves"][curve]["splits"][split]
            assert told["loss"]["values"] == surface.metric(split=split).values[:, 0].tolist()
            found = barrier(surface, split)
            assert told["loss"]["barrier"]["value"] == found.height.value
            assert told["accuracy"]["barrier"]["t"] == barrier(surface, split, "accuracy").t
            assert f"{curve}, {split}" in done.out
    assert surface.planes[0].about["bend"]["examples"] == 23  # all training examples
    again = Outcome("a.pt", "b.pt", *QUICK, "--json", "-", folder=folder)
    assert json.loads(again.out) == content


def test_the_bend_opens_as_a_checkpoint_of_the_same_network(folder: Path) -> None:
    assert Outcome("a.pt", "b.pt", *QUICK, "--curve", "bezier", "--no-plot", folder=folder).code == 0
    assert not (folder / "connectivity" / "a--b.linear.surface.h5").exists()
    bend = load_checkpoint(folder / "connectivity" / "a--b.bend.pt", model=MODEL[1])
    ends = [load_checkpoint(folder / f"{name}.pt", model=MODEL[1]) for name in "ab"]
    assert bend.mask is not None
    kept = [dict(one.model.named_parameters())["linear.weight"] != 0 for one in ends]
    assert torch.equal(bend.mask["linear.weight"], kept[0] | kept[1])
    assert [one["file"] for one in bend.config["ends"]] == ["a", "b"]
    assert bend.config["connectivity"]["training"]["steps"] == 4


def test_the_straight_line_alone_trains_nothing(folder: Path) -> None:
    done = Outcome("a.pt", "b.pt", *QUICK, "--curve", "linear", "--split", "test", folder=folder)
    assert done.code == 0, done.err
    assert not list(folder.glob("connectivity/*.bend*"))
    surface = load_surface(folder / "connectivity" / "a--b.linear.surface.h5")
    assert surface.splits == ("test",)


def test_a_time_budget_ends_it_and_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """A second passes at every look."""

        now = 0.0

        def monotonic(self) -> float:
            self.now += 1
            return self.now

    with monkeypatch.context() as patch:
        patch.setattr(command_module, "time", Clock())
        stopped = Outcome("a.pt", "b.pt", *QUICK, "--time-budget", "5s", "-o", "parts", folder=folder)
    assert stopped.code == 130
    assert "time budget is used up; parts/a--b.* keep what was computed" in stopped.err
    assert (folder / "parts" / "a--b.bend.pt.partial").exists()
    assert Outcome("a.pt", "b.pt", *QUICK, "-o", "parts", folder=folder).code == 0
    assert Outcome("a.pt", "b.pt", *QUICK, "-o", "whole", folder=folder).code == 0
    for curve in ("linear", "bezier"):
        first, second = (
            load_surface(folder / part / f"a--b.{curve}.surface.h5") for part in ("parts", "whole")
        )
        assert first.loss.tobytes() == second.loss.tobytes()


def test_overwriting_begins_anew(folder: Path) -> None:
    assert Outcome("a.pt", "b.pt", *QUICK, "--no-plot", folder=folder).code == 0
    other = [*QUICK, "--no-plot", "--lr", "0.01"]
    assert "made with other settings (training" in Outcome("a.pt", "b.pt", *other, folder=folder).error
    done = Outcome("a.pt", "b.pt", *other, "--overwrite", folder=folder)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["a.pt", "nothing.pt"], "nothing.pt"),
        (["a.pt", "images.npz"], "images.npz"),
        (["a.pt", "b.pt", "--points", "2"], "--points 2: expected at least 3"),
        (["a.pt", "b.pt", "--steps", "-1"], "--steps -1: expected at least 0"),
        (["a.pt", "b.pt", "--train-batch-size", "0"], "--train-batch-size 0"),
        (["a.pt", "b.pt", "--lr", "0"], "--lr 0"),
        (["a.pt", "b.pt", "--time-budget", "soon"], "time budget 'soon'"),
        (["a.pt", "b.pt", "-o", "a.pt"], "name a folder"),
        (["a.pt", "b.pt", "--json", "a.pt"], "would overwrite"),
        (["a.pt", "b.pt", "--json", "."], "--json . is a folder"),
        (["a.pt"], "second"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: list[str], text: str) -> None:
    quick = [one for one in QUICK if one not in ("--steps", "4", "--points", "3")]
    assert text.lower() in Outcome(*arguments, *quick, folder=folder).error.lower()
    assert not (folder / "connectivity").exists()


def test_where_json_cannot_be_written_nothing_is_computed(folder: Path) -> None:
    outcome = Outcome("a.pt", "b.pt", *QUICK, "--json", "a.pt/found.json", folder=folder)
    assert "choose another path" in outcome.error
    assert not list(folder.glob("connectivity/*"))


def test_networks_of_other_shapes_are_refused(folder: Path) -> None:
    torch.save(Tiny(5).state_dict(), folder / "wide.pt")
    assert "wide.pt" in Outcome("a.pt", "wide.pt", *QUICK, folder=folder).error
