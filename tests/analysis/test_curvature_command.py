"""The command: a map in the surface file, page and pictures; bad input in one line; stopping and going on."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hessian_cases import seeded
from matplotlib.collections import PathCollection

sys.path.append(str(Path(__file__).resolve().parents[1] / "landscape"))

from command import Outcome, save_images, surface, tiny

from analysis.curvature.__main__ import main
from analysis.curvature.extremes import Extremes
from analysis.curvature.map_record import KEY, METRICS
from analysis.curvature.points import PointSolver
from analysis.hessian import HessianOperator
from landscape import load_surface
from landscape.keeping import pace
from landscape.plot import plot_surfaces
from landscape.plot.text import conventions_text, unit_of
from landscape.viewer.page_data import payload

MODEL = ["--model", "command:tiny", "--threads", 1, "--device", "cpu"]
DATA = ["--data", "npz:images.npz"]
FEW = ["--max-points", 4]


def made(*arguments: object, folder: Path, name: str) -> None:
    given = ["net.pt", *MODEL, *DATA, "--examples", 20, "--points", 3, "--no-page", "--no-plot", *arguments]
    outcome = surface(*given, "-o", f"{name}.surface.h5", folder=folder)
    assert outcome.code == 0, outcome.err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half pruned network, another one, images, and surfaces of the first."""
    folder = tmp_path_factory.mktemp("curvature")
    for number, name in enumerate(("net", "other")):
        state = seeded(tiny, number).float().state_dict()
        state["0.weight"][:, :, ::2] = 0
        torch.save(state, folder / f"{name}.pt")
    save_images(folder / "images.npz")
    made(folder=folder, name="plane")
    made("--plane", "hessian", "--span", 0.1, folder=folder, name="eigen")
    made("--planes", 2, "--split", "both", "--dim", 1, folder=folder, name="two")
    made("--between", "other.pt", "--dim", 1, folder=folder, name="between")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it: the command writes into the surface files."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


def curvature(name: str, *arguments: object, folder: Path, checkpoint: str = "net.pt") -> Outcome:
    """The command in this process."""
    given = [f"{name}.surface.h5", checkpoint, *MODEL, *([] if "--data" in arguments else DATA), *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(one) for one in given])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def test_map_table_page_and_pictures(folder: Path) -> None:
    outcome = curvature("plane", "--max-points", 9, folder=folder)
    assert outcome.code == 0, outcome.err
    assert "at most 9 points of about" in outcome.err
    for row in ("λmax at the centre", "|λmin/λmax| range", "stated error", "20 train", "products"):
        assert row in outcome.out
    for name in ("plane.html", "plane.lambda_max.png", "plane.lambda_ratio.png"):
        assert (folder / name).stat().st_size > 1000
        assert f"wrote {name}" in outcome.out
    found = load_surface(folder / "plane.surface.h5")
    assert found.about[KEY]["train"]["0"]["complete"]
    assert list(found.planes[0].splits["train"].metrics) == ["loss", "accuracy", *METRICS]
    again = curvature("plane", "--max-points", 9, "--no-page", "--no-plot", folder=folder)
    assert (again.code, "at most" in again.err, "html" in again.out) == (0, False, False)
    assert load_surface(folder / "plane.surface.h5").about == found.about


def test_page_and_figure_know_the_map(folder: Path) -> None:
    outcome = curvature("plane", *FEW, "--examples", 10, "--no-page", "--no-plot", folder=folder)
    assert outcome.code == 0, outcome.err
    found = load_surface(folder / "plane.surface.h5")
    plane = found.planes[0]
    words = conventions_text(found, plane, "lambda_max", "train").replace("\u00a0", " ")
    assert "10 examples" in words
    assert "4 of 9 points computed" in words
    assert "20 examples" in conventions_text(found, plane, "loss", "train").replace("\u00a0", " ")
    assert [unit_of(found, name, "train") for name in METRICS] == ["λmax", "λmin", "|λmin/λmax|"]
    shown = payload([found], [{}])["surfaces"][0]["planes"][0]["splits"][0]["metrics"]
    assert [one["name"] for one in shown][2:] == list(METRICS)
    assert shown[2]["computed"].count("1") == 4
    assert shown[0]["computed"] is None
    axes = plot_surfaces([found], metric="lambda_max", kind="contour", metrics=[{}]).axes[0]
    scattered = [len(one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)]
    assert 4 in scattered


def test_a_hessian_plane_reads_its_eigenvectors(folder: Path) -> None:
    outcome = curvature("eigen", *FEW, "--no-page", "--no-plot", folder=folder)
    assert outcome.code == 0, outcome.err
    found = load_surface(folder / "eigen.surface.h5")
    centre = found.metric("lambda_max").values[1, 1]
    assert centre == pytest.approx(found.planes[0].about["eigenvalues"][0], rel=0.01)
    (folder / "eigen.plane.hessian.h5").unlink()
    assert "--keep-directions" in curvature("eigen", *FEW, "--overwrite", "--seed", 1, folder=folder).error


def test_one_of_several_planes_and_another_split(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")  # of no terminal: the table isn't folded
    outcome = curvature("two", "--planes", 1, "--split", "test", *FEW, "--no-page", folder=folder)
    assert outcome.code == 0, outcome.err
    found = load_surface(folder / "two.surface.h5")
    assert list(found.about[KEY]) == ["test"]
    assert "half of λmax between points within" in outcome.out
    assert list(found.about[KEY]["test"]) == ["1"]
    assert (folder / "two.plane1.lambda_max.png").exists()
    assert not (folder / "two.plane0.lambda_max.png").exists()


def test_bad_input_is_one_line(folder: Path) -> None:
    before = (folder / "plane.surface.h5").read_bytes()
    assert "another checkpoint" in curvature("plane", folder=folder, checkpoint="other.pt").error
    assert "no such file" in curvature("nothing", folder=folder).error
    assert "keep-directions" in curvature("between", folder=folder).error
    assert (
        "--split test: plane.surface.h5 has train"
        in curvature("plane", "--split", "test", folder=folder).error
    )
    assert "examples 21: expected 1 to 20" in curvature("plane", "--examples", 21, folder=folder).error
    assert "no plane 3" in curvature("plane", "--planes", 3, folder=folder).error
    save_images(folder / "others.npz", train=80)
    assert "20 train examples" in curvature("plane", "--data", "npz:others.npz", folder=folder).error
    for option, value in (
        ("--max-points", 0),
        ("--tolerance", 1),
        ("--eigenvalue-tolerance", 0),
        ("--max-products", 0),
        ("--memory", -1),
        ("--device", "abacus"),
        ("--examples", 0),
        ("--seed", -1),
    ):
        rest = [one for one in MODEL if one != option] if option != "--device" else MODEL[:4]
        outcome = _plain("plane", *rest, *DATA, option, value, folder=folder)
        assert outcome.error.startswith(f"error: {option} {value}"), outcome.err
    assert (folder / "plane.surface.h5").read_bytes() == before


def test_a_surface_of_the_library_with_a_mask_of_its_own(folder: Path) -> None:
    """Its mask is the network's; checkpoint and data are called as its author liked."""
    whole = load_surface(folder / "plane.surface.h5")
    settings = whole.settings | {"mask": whole.settings["mask"] | {"source": "given"}}
    about = whole.about | {"checkpoint": "net.pt", "data": "images"}
    replace(whole, settings=settings, about=about).save(folder / "own.surface.h5")
    outcome = curvature("own", *FEW, "--no-page", "--no-plot", folder=folder)
    assert outcome.code == 0, outcome.err


def _plain(name: str, *arguments: object, folder: Path) -> Outcome:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([f"{name}.surface.h5", "net.pt", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def test_stopped_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    options = ["--max-points", 9, "--no-page", "--no-plot"]
    shutil.copy(folder / "plane.surface.h5", folder / "whole.surface.h5")
    assert curvature("whole", *options, folder=folder).code == 0
    solve, calls = PointSolver.solve, 0

    def stopping(self: PointSolver, coordinates: Any) -> Extremes:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return solve(self, coordinates)

    monkeypatch.setattr(PointSolver, "solve", stopping)
    outcome = curvature("plane", *options, folder=folder)
    assert outcome.code == 130
    assert "same command" in outcome.err
    assert curvature("plane", *options, folder=folder).code == 0
    assert calls == 4 + 6
    first, second = (load_surface(folder / f"{name}.surface.h5") for name in ("plane", "whole"))
    for name in METRICS:
        assert first.metric(name).values.tobytes() == second.metric(name).values.tobytes()
    assert np.isfinite(first.metric("lambda_max").values).all()


def test_a_finished_surface_stays_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving the surface's command again keeps the map."""
    assert curvature("plane", *FEW, "--no-page", "--no-plot", folder=folder).code == 0
    before = (folder / "plane.surface.h5").read_bytes()
    monkeypatch.setattr(HessianOperator, "multiply", None)
    made(folder=folder, name="plane")
    assert (folder / "plane.surface.h5").read_bytes() == before
