"""Figures 1 and 3: every cell is there or named, on one scale, legible in print."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from made_results import (
    all_runs,
    loss_of,
    run_name,
    surface_of,
    write_results,
    write_table,
)
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from print_checks import check_print, words_of

from analysis.roughness import roughness
from analysis.statistics.uncertainty import t_quantile
from figures import figure1, figure3
from figures.results import Results, change_of_ra
from figures.style import COLOR_MAP
from landscape.errors import UserError

FIGURES = pytest.mark.parametrize(("module", "panels"), [(figure1, 8), (figure3, 18)])


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(write_results(tmp_path_factory.mktemp("full"), all_runs()))


def views(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.name == "3d"]


def sheet_of(axes: Any) -> Poly3DCollection:
    return next(one for one in axes.collections if isinstance(one, Poly3DCollection))


@FIGURES
def test_every_panel_is_there_and_legible(full: Results, module: Any, panels: int) -> None:
    figure = module.draw(full)
    assert len(views(figure)) == panels
    check_print(figure)
    text = words_of(figure)
    assert "Missing" not in text
    for cell in module.cells(full):
        found = roughness(cell.runs[0].surface).ra
        assert f"Ra {found.value:.3f}" in text
        assert f"{found.low:.3f}–{found.high:.3f}" in text
    for part in (
        "1,000 (train)",
        "span ±1",
        "grid 17×17",
        "seed 0",
        "normalization filter",
        "mask checkpoint",
    ):
        assert part in text


@FIGURES
def test_panels_share_heights_colours_and_camera(full: Results, module: Any, panels: int) -> None:
    figure = module.draw(full)
    losses = np.log10([cell.runs[0].surface.loss for cell in module.cells(full)])
    ends = losses.min(), losses.max()
    for axes in views(figure):
        assert sheet_of(axes).get_clim() == pytest.approx(ends)
        assert (axes.get_zlim()[1], axes.elev, axes.azim) == pytest.approx((ends[1], 30, -58))
        assert axes.get_zlim() == views(figure)[0].get_zlim()
    bar = next(axes for axes in figure.axes if "log scale" in axes.get_ylabel())
    assert bar.get_ylim() == pytest.approx(ends)


def test_a_surface_hides_the_contours_behind_it(full: Results) -> None:
    for axes in views(figure1.draw(full)):
        assert not axes.computed_zorder
        others = [one for one in axes.collections if one is not sheet_of(axes)]
        assert others
        assert all(one.get_zorder() < sheet_of(axes).get_zorder() for one in others)


def test_every_grid_point_is_drawn(full: Results) -> None:
    assert all(len(sheet_of(axes).get_facecolor()) == 16 * 16 for axes in views(figure1.draw(full)))


def test_the_colour_map_survives_greyscale() -> None:
    colors = mpl.colormaps[COLOR_MAP](np.linspace(0, 1, 64))[:, :3]
    assert (np.diff(colors @ [0.2126, 0.7152, 0.0722]) > 0).all()


@FIGURES
def test_pages_hold_the_same_panels(full: Results, module: Any, panels: int) -> None:
    labels = [surface.label for surface in module.surfaces(full)]
    assert labels == [cell.title for cell in module.cells(full)]
    assert len(set(labels)) == panels


def test_pairs_state_the_change_of_ra(full: Results) -> None:
    text = words_of(figure3.draw(full))
    for row in figure3.table(full).values():
        for original, other in row:
            before, after = (roughness(one.runs[0].surface).ra.value for one in (original, other))
            assert (original.optimizer, other.optimizer) == ("sgd", "s2sam")
            assert change_of_ra(original, other) == pytest.approx(after / before - 1)
    assert text.count("Ra −25.0 %") == 9
    assert figure3.caption(full).count("| −25.0 % |") == 9


@pytest.mark.parametrize(
    ("module", "panels", "state", "words"),
    [
        (figure1, 8, None, "not trained"),
        (figure1, 8, "missing", "not trained"),
        (figure1, 8, "failed", "training failed"),
        (figure3, 18, "finished", "no surface yet"),
    ],
)
def test_a_missing_run_is_named(
    tmp_path: Path, module: Any, panels: int, state: str | None, words: str
) -> None:
    gone = ("mest_em", 0.95, "sgd", 0)
    root = write_results(tmp_path, [run for run in all_runs() if run != gone])
    if state:
        write_table(root, [{"run": run_name(*gone), "state": state}])
    results = Results(root)
    figure = module.draw(results)
    assert len(views(figure)) == panels - 1
    check_print(figure)
    joined = words_of(figure).replace(" ", "")
    assert f"{words}:{run_name(*gone)}".replace(" ", "") in joined
    assert f"Missing: 1 of {panels} runs." in words_of(figure).replace("\n", " ")
    assert f"- {run_name(*gone)}: {words}" in module.caption(results)
    assert "change unknown" in words_of(figure) or module is figure1


def test_nothing_but_a_table_gives_frames_only(tmp_path: Path) -> None:
    write_table(tmp_path, [{"run": run_name("grasp", 0.8, "sgd"), "state": "missing"}])
    results = Results(tmp_path)
    figure = figure3.draw(results)
    assert views(figure) == []
    check_print(figure)
    assert figure3.surfaces(results) == []
    assert "Missing, 18 of 18 runs" in figure3.caption(results)


def altered(root: Path, change: Callable[[Any], Any], run: tuple[str, float, str, int]) -> None:
    surface_of(change(loss_of(*run))).save(root / "surfaces" / f"{run_name(*run)}.surface.h5")


def test_unfinished_diverged_and_huge_surfaces(tmp_path: Path) -> None:
    root = write_results(tmp_path, all_runs())
    half = loss_of("snip", 0.9, "s2sam")
    half[0, 0] = np.nan
    surface_of(half, complete=False).save(root / "surfaces" / f"{run_name('snip', 0.9, 's2sam')}.surface.h5")

    def edge(loss: Any) -> Any:
        loss[0] = inf
        return loss

    altered(root, edge, ("grasp", 0.9, "sgd", 0))
    altered(root, edge, ("grasp", 0.9, "s2sam", 0))
    altered(root, lambda loss: 0 * loss + inf, ("grasp", 0.95, "sgd", 0))
    altered(root, lambda loss: 3e5 * loss, ("mest_em", 0.98, "sgd", 0))
    altered(root, lambda loss: 3e5 * loss, ("mest_em", 0.98, "s2sam", 0))
    results = Results(root)
    figure = figure3.draw(results)
    check_print(figure)
    text = words_of(figure)
    assert "surface" in text
    assert "unfinished:" in text
    assert text.count("Ra not finite from r = 1 ") == 2
    assert "diverged at" in text
    assert "Ra not finite from r = 0 " in text
    assert text.count("change unknown") == 3
    assert "not finite: diverged from radius 1; " in figure3.caption(results)
    assert np.isfinite(views(figure)[0].get_zlim()).all()


def test_several_seeds_give_mean_and_spread(tmp_path: Path) -> None:
    gone = ("grasp", 0.9, "sgd", 2)
    runs = [run for run in all_runs(seeds=(0, 1, 2)) if run != gone]
    results = Results(write_results(tmp_path, runs))
    cell = results.cell("snip", 0.9, "sgd")
    values = np.array([roughness(run.surface).ra.value for run in cell.runs])
    logs = np.log(values)  # Ra is positive: mean and interval are made on the log scale
    half = t_quantile(2) * logs.std(ddof=1) / 3**0.5
    assert (cell.ra.value, cell.ra.low, cell.ra.high) == pytest.approx(
        tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]))
    )
    partly = results.cell("grasp", 0.9, "sgd")
    assert (len(partly.runs), list(partly.missing)) == (2, [run_name(*gone)])
    figure = figure3.draw(results)
    check_print(figure)
    text = words_of(figure)
    assert "over 2–3 training seeds; first seed drawn" in text.replace("\n", " ")
    assert "Missing: 1 of 54 runs." in text
    assert "| GraSP 0.9 original | 2 |" in figure3.caption(results)


def test_captions_hold_what_a_reader_must_know(full: Results) -> None:
    text = figure1.caption(full)
    for line in (
        "- network: resnet20-cifar10",
        "- examples: 1,000 (train)",
        "- span: ±1",
        "- directions: random, seed 0",
        "- normalization: filter",
        "- mask: checkpoint",
        "- training seeds: 0",
        "- points: 289 of 289 computed",
    ):
        assert line in text
    first = roughness(full.cell("grasp", 0.8, "sgd").runs[0].surface).ra
    cell = f"| GraSP 0.8 original | 1 | {first.value:.3f} ({first.low:.3f}–{first.high:.3f}) | 81.25 % |"
    assert cell in text
    assert len(re.findall(r"^\| (GraSP|MEST)", text, re.M)) == 8


def test_surfaces_made_otherwise_are_told(tmp_path: Path) -> None:
    root = write_results(tmp_path, all_runs())
    name = run_name("grasp", 0.8, "sgd")
    other = surface_of(loss_of("grasp", 0.8, "sgd"), settings={"examples": {"train": "0ther"}})
    other.save(root / "surfaces" / f"{name}.surface.h5")
    results = Results(root)
    assert figure1.unlike(results) == ["example set"]
    assert figure3.unlike(results) == []
    assert "The surfaces differ in example set." in words_of(figure1.draw(results)).replace("\n", " ")
    assert "**not made alike**" in figure1.caption(results)


def test_networks_are_not_mixed(tmp_path: Path) -> None:
    root = write_results(tmp_path, all_runs())
    loss = loss_of("grasp", 0.8, "sgd")
    other = run_name("grasp", 0.8, "sgd", network="resnet32_wide-cifar100")
    surface_of(loss).save(root / "surfaces" / f"{other}.surface.h5")
    with pytest.raises(UserError, match="choose with --network"):
        figure1.draw(Results(root))
    results = Results(root, "resnet32_wide-cifar100")
    figure = figure3.draw(Results(root, "resnet32_wide-cifar100"))
    assert len(views(figure1.draw(results))) == 1
    check_print(figure)
    with pytest.raises(UserError, match="no runs of the network 'vgg'"):
        figure1.draw(Results(root, "vgg"))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Results(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no surfaces/RUN"):
        figure1.draw(Results(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "results.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="no table of a sweep"):
        Results(tmp_path)
    root = write_results(tmp_path / "zero", [("grasp", 0.8, "sgd", 0)])
    altered(root, lambda loss: loss - loss.min(), ("grasp", 0.8, "sgd", 0))
    with pytest.raises(UserError, match="logarithmic"):
        figure1.draw(Results(root))
