"""``python -m figures.compare``: panels that may be compared, and a word where they may not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.roughness import roughness
from figures.compare import draw, main
from figures.style import DOUBLE, PAPER, SINGLE
from landscape.errors import UserError
from landscape.plot import STYLE
from landscape.surface import FloatArray, Metric, Plane, Split, Surface

X = np.linspace(-1, 1, 9)
BOWL = 0.5 + X[:, None] ** 2 + 0.3 * X**2


def surface_of(loss: FloatArray, label: str, **about: Any) -> Surface:
    facts = {"kind": "random", "seed": 0, "normalize": "filter", "mask": "zeros", **about}
    split = Split(500, {"loss": Metric(loss, np.full(loss.shape, 0.02), 0.0)})
    plane = Plane(facts, np.ones(loss.shape, bool), {"test": split})
    beta = X if loss.shape[1] > 1 else np.zeros(1)
    return Surface(X, beta, (plane,), {"examples": {"test": "5eed"}}, {"label": label, "data": "cifar10"})


PAIR = [surface_of(BOWL, "dense", mask="none"), surface_of(2 * BOWL, "sparse")]


def words(figure: Any) -> str:
    return " ".join(text.get_text().replace("\u00a0", " ") for text in figure.texts)


def test_panels_share_scale_and_camera_and_state_what_they_share() -> None:
    figure = draw(PAIR)
    views = [axes for axes in figure.axes if axes.name == "3d"]
    assert views[0].get_zlim() == views[1].get_zlim()
    assert (views[0].elev, views[0].azim) == (views[1].elev, views[1].azim)
    text = words(figure)
    for surface in PAIR:
        assert f"Ra {roughness(surface).ra.value:.4g}" in text
    for part in (
        "mask none",
        "mask zeros",
        "normalization filter",
        "data cifar10",
        "examples 500",
        "span ±1",
    ):
        assert text.count(part) == 1


@pytest.mark.parametrize("width", [SINGLE, DOUBLE, 10.0])
@pytest.mark.parametrize("kind", ["both", "surface"])
def test_the_figure_is_as_wide_as_the_page_wants(width: float, kind: Any) -> None:
    assert draw(PAIR[:1], width=width, kind=kind).get_size_inches()[0] == pytest.approx(width)


def test_divergence_is_put_in_words() -> None:
    loss = BOWL.copy()
    loss[-1] = inf
    text = words(draw([surface_of(loss, "wild")], kind="contour"))
    assert "Ra not finite: diverged from radius 1" in text
    assert "within ±0.75" in text


def test_lines_are_compared_too() -> None:
    figure = draw([surface_of(BOWL[:, :1], "one"), surface_of(2 * BOWL[:, :1], "two")])
    assert "All panels: mask zeros" in words(figure)


def test_unfinished_surfaces_have_no_place_in_a_comparison() -> None:
    loss = BOWL.copy()
    loss[0] = np.nan
    with pytest.raises(UserError, match="unfinished: 9 of 81"):
        draw([surface_of(loss, "half")])


def saved(tmp_path: Path, *surfaces: Surface) -> list[str]:
    return [str(one.save(tmp_path / f"{index}.surface.h5")) for index, one in enumerate(surfaces)]


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_command_writes_the_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    paths = saved(tmp_path, *PAIR)
    output = tmp_path / f"compare.{form}"
    main([*paths, "-o", str(output)])
    assert output.stat().st_size > 10_000
    printed = capsys.readouterr()
    assert printed.out.strip() == str(output)
    assert printed.err == ""  # masks are what is compared


def test_command_warns_of_what_must_not_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(PAIR[1], settings={"examples": {"test": "0ther"}})
    main([*saved(tmp_path, PAIR[0], other), "-o", str(tmp_path / "x.png"), "--kind", "contour"])
    assert capsys.readouterr().err == "warning: the panels weren't made alike; they differ in example set\n"


def test_command_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = saved(tmp_path, *PAIR)
    for arguments, message in [
        ([str(tmp_path / "missing.h5"), "-o", "x.png"], "no such file"),
        (paths, "Parameter --output requires an argument"),
        ([*paths, "-o", str(tmp_path / "x.jpg")], "can't draw a .jpg"),
        ([*paths, "-o", str(tmp_path / "x.png"), "--width", "1"], "expected at least 1 of at least 1.2"),
        ([*paths, "-o", str(tmp_path / "x.png"), "--columns", "0"], "columns must be at least 1"),
    ]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert message in printed
        assert printed.count("\n") == 1


def test_needs_no_torch() -> None:
    code = "import sys, figures.compare; assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_style_only_names_settings_that_exist() -> None:
    import matplotlib as mpl

    assert set(PAPER) | set(STYLE) <= set(mpl.rcParams)
