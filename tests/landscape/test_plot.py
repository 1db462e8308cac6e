"""Static figures: what is on them, what fits, what the files hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from landscape.errors import UserError
from landscape.plot import plot_surfaces, save_figure
from landscape.plot.scale import Scale, number, scale_of
from landscape.plot.text import interval_text, wrap
from landscape.surface import FloatArray, Metric, Path2D, Plane, Split, Surface

X = np.linspace(-1, 1, 11)
BOWL = 0.5 + (X[:, None] - 0.4) ** 2 + 0.3 * (X + 0.2) ** 2  # lowest at (0.4, -0.2)
RA = {"Ra": (0.123, 0.119, 0.127)}


def surface_of(
    loss: FloatArray, label: str = "net", computed: Any = None, beta: FloatArray = X, **about: Any
) -> Surface:
    accuracy = np.exp(-np.where(np.isfinite(loss), loss, 1))
    known = np.ones(loss.shape, bool) if computed is None else computed
    error = 0.0 if known.all() else 0.013
    metrics = {
        "loss": Metric(loss, np.full(loss.shape, 0.05), error),
        "accuracy": Metric(accuracy, np.full(loss.shape, 0.01), error),
    }
    facts = {"kind": "random", "seed": 3, "normalize": "filter", "mask": "zeros", "density": 0.1, **about}
    plane = Plane(facts, known, {"test": Split(1000, metrics)})
    return Surface(
        np.linspace(-1, 1, len(loss)), beta, (plane,), {}, {"label": label, "data": {"name": "cifar10"}}
    )


def words(figure: Figure) -> str:
    return " ".join(text.get_text().replace("\u00a0", " ") for text in figure.texts)


def views(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.name == "3d"]


def maps(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.name != "3d" and axes.get_ylabel() == "β"]


def test_a_column_says_and_shows_everything() -> None:
    figure = plot_surfaces([surface_of(BOWL, "ResNet-20")], metrics=[RA])
    text = words(figure)
    for part in (
        "ResNet-20",
        "Ra 0.1230, 95 % [0.1190, 0.1270]",
        "mask from zero weights, 90 % sparse",
        "filter-normalized",
        "direction seed 3",
        "cifar10 test",
        "1,000 examples",
    ):
        assert part in text
    (view,), (plane,) = views(figure), maps(figure)
    assert (view.get_xlabel(), view.get_ylabel(), view.get_zlabel()) == ("α", "β", "loss (nats)")
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("α", "β")
    assert figure.axes[-1].get_ylabel() == "loss (nats)"
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == [
        "checkpoint",
        "lowest grid point",
    ]


def test_ra_comes_from_the_surface_itself_by_default() -> None:
    from analysis.roughness import roughness

    surface = surface_of(BOWL)
    assert interval_text(roughness(surface).ra.value) in words(plot_surfaces([surface], kind="contour"))


def test_alpha_runs_to_the_right_and_the_marks_are_where_they_belong() -> None:
    (plane,) = maps(plot_surfaces([surface_of(BOWL)], metrics=[RA]))
    lowest, center = plane.collections[-2].get_offsets(), plane.collections[-1].get_offsets()
    np.testing.assert_allclose(lowest, [[0.4, -0.2]], atol=1e-9)
    np.testing.assert_allclose(center, [[0, 0]], atol=1e-9)
    uneven = surface_of(BOWL[:, :5], beta=X[:5])
    (plane,) = maps(plot_surfaces([uneven], metrics=[RA]))
    assert (plane.get_xlim(), plane.get_ylim()) == ((-1, 1), (X[0], X[4]))


def test_accuracy_marks_its_highest_point() -> None:
    figure = plot_surfaces([surface_of(BOWL)], metric="accuracy", metrics=[RA])
    assert "highest grid point" in [entry.get_text() for entry in figure.legends[0].get_texts()]
    np.testing.assert_allclose(maps(figure)[0].collections[-2].get_offsets(), [[0.4, -0.2]], atol=1e-9)
    assert views(figure)[0].get_zlabel() == "accuracy"


def test_panels_share_scale_and_camera_unless_told() -> None:
    pair = [surface_of(BOWL), surface_of(3 * BOWL)]
    shared = views(plot_surfaces(pair, metrics=[RA, RA]))
    assert shared[0].get_zlim() == shared[1].get_zlim()
    assert (shared[0].elev, shared[0].azim) == (shared[1].elev, shared[1].azim)
    own = plot_surfaces(pair, metrics=[RA, RA], share=False)
    assert views(own)[0].get_zlim() != views(own)[1].get_zlim()
    assert len(own.axes) == 6
    assert len(plot_surfaces(pair, metrics=[RA, RA]).axes) == 5


def test_holes_are_drawn_and_explained() -> None:
    loss = BOWL.copy()
    loss[9:, :] = inf
    loss[:2, :2] = nan
    figure = plot_surfaces([surface_of(loss)], metrics=[{"Ra": (inf, nan, nan)}])
    entries = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert entries[-2:] == ["diverged", "not computed"]
    text = words(figure)
    assert "Ra not finite" in text
    assert "diverged from radius 0.8" in text
    assert "unfinished: 4 points missing" in text
    FigureCanvasAgg(figure).draw()


def test_interpolated_surfaces_show_their_computed_points() -> None:
    computed = np.zeros(BOWL.shape, bool)
    computed[::5, ::5] = True
    figure = plot_surfaces([surface_of(BOWL, computed=computed)], metrics=[RA])
    assert "9 of 121 points computed, error about 0.013" in words(figure)
    assert len(maps(figure)[0].collections[-3].get_offsets()) == 9


def test_logarithms_where_the_values_span_magnitudes() -> None:
    steep = surface_of(BOWL**8)
    by_itself = views(plot_surfaces([steep], metrics=[RA]))[0]
    assert by_itself.get_zlim()[1] == pytest.approx(np.log10(BOWL.max() ** 8))
    assert {"0.1", "10", "1000"} == {label.get_text() for label in by_itself.get_zticklabels()}
    linear = views(plot_surfaces([steep], metrics=[RA], log=False))[0]
    assert linear.get_zlim()[1] == pytest.approx(BOWL.max() ** 8)


def test_clip_lowers_the_ceiling_and_says_so() -> None:
    figure = plot_surfaces([surface_of(BOWL)], metrics=[RA], clip=1.5)
    assert views(figure)[0].get_zlim()[1] == pytest.approx(1.5)
    assert "drawn up to 1.5" in words(figure)


def test_a_flat_surface_can_be_drawn() -> None:
    FigureCanvasAgg(plot_surfaces([surface_of(np.ones((3, 3)), beta=X[[0, 5, 10]])], metrics=[{}])).draw()


def test_lines_share_a_chart_with_bands() -> None:
    pair = [surface_of(BOWL[:, :1], name, beta=np.zeros(1)) for name in ("one", "two")]
    figure = plot_surfaces(pair, metrics=[RA, RA])
    chart = figure.axes[0]
    assert (chart.get_xlabel(), chart.get_ylabel()) == ("α", "loss (nats)")
    curve, other = chart.lines[0], chart.lines[1]
    np.testing.assert_allclose(curve.get_ydata(), BOWL[:, 0])
    assert to_rgba(curve.get_color()) != to_rgba(other.get_color())
    band = chart.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(BOWL[:, 0].min() - 1.96 * 0.05)
    assert "one" in words(figure)
    assert "two" in words(figure)


def test_planes_between_networks_name_them_on_the_axis() -> None:
    surface = surface_of(BOWL, alpha_to="epoch 10", normalize="none", kind="between")
    assert maps(plot_surfaces([surface], metrics=[RA]))[0].get_xlabel() == "α (1 = epoch 10)"


@pytest.mark.parametrize(("kind", "count"), [("surface", 1), ("contour", 1), ("both", 3)])
def test_nothing_overlaps_or_leaves_the_sheet(kind: Any, count: int) -> None:
    name = "a_name_without_any_space_" * 4 + "then some words"
    surfaces = [surface_of((k + 1) ** 4 * BOWL, name) for k in range(count)]
    figure = plot_surfaces(surfaces, kind=kind, metrics=[RA] * count, columns=2, footer="Small print. " * 20)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    flat = [text.get_window_extent(renderer) for text in figure.texts]
    flat += [axes.get_tightbbox(renderer) for axes in figure.axes if axes.name != "3d"]
    flat += [legend.get_window_extent(renderer) for legend in figure.legends]
    for box in [*flat, *(axes.get_tightbbox(renderer) for axes in views(figure))]:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    # A 3D view's box has empty corners, reaching under the heading; all others keep apart.
    for index, box in enumerate(flat):
        assert not any(_overlap(box, other) for other in flat[index + 1 :])


def _overlap(one: Any, other: Any) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(wide > 1 and high > 1.5)  # line spacing is tighter than the boxes of the letters


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_files_are_the_same_bytes_every_time(tmp_path: Path, form: str) -> None:
    for name in ("a", "b"):
        plot_surfaces([surface_of(BOWL)], metrics=[RA], path=tmp_path / f"{name}.{form}")
    first, second = ((tmp_path / f"{name}.{form}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{form}", f"b.{form}"]
    if form == "pdf":
        assert b"/Type3" not in first
        assert b"/FontFile2" in first
        assert b"CreationDate" not in first


def test_files_that_can_not_be_written(tmp_path: Path) -> None:
    figure = plot_surfaces([surface_of(BOWL)], metrics=[RA], kind="contour")
    with pytest.raises(UserError, match=r"can't draw a \.jpg; use \.png, \.pdf or \.svg"):
        save_figure(figure, tmp_path / "x.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_figure(figure, tmp_path / "file" / "x.png")


def test_bad_requests() -> None:
    plane, line = surface_of(BOWL), surface_of(BOWL[:, :1], beta=np.zeros(1))
    for arguments, options, message in [
        ([], {}, "no surface"),
        ([plane, line], {}, "can't share a figure"),
        ([plane], {"kind": "line"}, "'line' doesn't fit 2-dimensional"),
        ([line], {"kind": "both"}, "'both' doesn't fit 1-dimensional"),
        ([plane], {"kind": "3d"}, "unknown kind '3d'"),
        ([plane], {"metric": "f1"}, "no metric 'f1' on test; it has loss, accuracy"),
        ([plane], {"split": "train"}, "no split 'train'; it has test"),
        ([plane], {"plane": 1}, "no plane 1; it has 1"),
        ([plane], {"metrics": []}, "0 rows of metrics for 1 surfaces"),
        ([plane], {"columns": 0}, "0 columns"),
        ([plane], {"clip": 0.1}, "clip 0.1 lies below"),
        ([surface_of(BOWL - 1)], {"log": True}, "needs positive values"),
        ([surface_of(BOWL * nan)], {"metrics": [{}]}, "no finite value"),
    ]:
        with pytest.raises(UserError, match=message):
            plot_surfaces(arguments, **{"metrics": [RA] * len(arguments), **options})


def test_settings_stay_as_they_were() -> None:
    before = dict(mpl.rcParams)
    figure = plot_surfaces([surface_of(BOWL)], metrics=[RA], style={"font.size": 11}, kind="contour")
    assert dict(mpl.rcParams) == before
    assert maps(figure)[0].xaxis.label.get_size() == 7.5


def test_draws_without_torch_and_pyplot() -> None:
    code = (
        "import sys, landscape.plot\n"
        "assert not {'torch', 'matplotlib.pyplot', 'plotly', 'analysis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_surface_plot_is_the_same_figure() -> None:
    assert words(surface_of(BOWL).plot(metrics=[RA], kind="contour")) == words(
        plot_surfaces([surface_of(BOWL)], metrics=[RA], kind="contour")
    )


def test_unfinished_surfaces_are_drawn_without_ra() -> None:
    loss = BOWL.copy()
    loss[3] = nan
    figure = plot_surfaces([replace(surface_of(loss), complete=False)], kind="contour")
    assert "unfinished: 11 points missing" in words(figure)
    assert "Ra" not in words(figure)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((-0.29, 4.3), ["1", "10", "100", "1000", "10000"]),
        ((-3, 9), ["0.001", "1", "1000", "1e6", "1e9"]),
        ((0.0, 1.0), ["1", "3", "10"]),
    ],
)
def test_log_levels_are_evenly_spaced(ends: tuple[float, float], expected: list[str]) -> None:
    assert Scale(True, *ends, float("inf")).levels(5)[1] == expected


@pytest.mark.parametrize(("low", "high"), [(0.01, 3000), (1e-9, 1e9), (2, 90), (0.3, 0.31), (5, 5)])
@pytest.mark.parametrize("log", [True, False])
def test_levels_are_round_and_inside(low: float, high: float, log: bool) -> None:
    scale = scale_of([np.array([low, high])], log=log, clip=None)
    positions, texts = scale.levels(9)
    assert 3 <= len(positions) <= 20
    assert all(first < second for first, second in pairwise(positions))
    assert positions[0] >= scale.low
    assert positions[-1] <= scale.high
    values = 10**positions if log else positions
    read = [float(text.replace("−", "-")) for text in texts]
    np.testing.assert_allclose(read, values, rtol=6e-3)


def test_numbers_and_intervals_in_words() -> None:
    assert [number(value) for value in (0.05, 20, 1000, 3e7, -0.5)] == ["0.05", "20", "1000", "3e7", "−0.5"]
    assert interval_text((0.38012, 0.3702, 0.3911)) == "0.380, 95 % [0.370, 0.391]"
    assert interval_text((12345.6, 12000.0, 13000.0)) == "1.235e+04, 95 % [1.2e+04, 1.3e+04]"
    assert interval_text((0.38012, nan, nan)) == "0.3801"
    assert interval_text(0.5) == "0.5"
    assert interval_text("unknown") == "unknown"


def test_wrapping_measures_the_text() -> None:
    assert wrap("short", 3, 8) == ["short"]
    lines = wrap("several words that don't fit " * 3, 1.5, 8)
    assert len(lines) > 2
    assert " ".join(lines).split() == ("several words that don't fit " * 3).split()
    assert "".join(wrap("x" * 100, 1.0, 8)) == "x" * 100


@pytest.mark.parametrize("shape", [(1, 5), (1, 2)])
def test_one_point_along_alpha_is_no_area(shape: tuple[int, int]) -> None:
    thin = replace(surface_of(np.ones(shape), beta=np.linspace(-1, 1, shape[1])), alpha=np.zeros(1))
    with pytest.raises(UserError, match=f"{shape[0]}×{shape[1]} points are no area"):
        plot_surfaces([thin], metrics=[{}])


@pytest.mark.parametrize("label", ["A" * 200_000, "a b " * 50_000])
def test_a_name_without_end_is_cut(label: str) -> None:
    """Fitting it into lines would take minutes."""
    figure = plot_surfaces([surface_of(BOWL, label)])
    assert "…" in words(figure)
    assert max(len(text.get_text()) for text in figure.findobj(Text)) < 1000


def test_a_3d_view_marks_the_checkpoint_and_the_path() -> None:
    path = Path2D(np.array([0.8, 0.3, 0.0]), np.array([0.5, 0.1, 0.0]), ("a", "b", "c"))
    surface = surface_of(BOWL)
    (plane,) = surface.planes
    walked = replace(surface, planes=(replace(plane, path=path),))
    figure = plot_surfaces([walked], metrics=[RA], kind="surface", log=False)
    (axes,) = views(figure)
    places = [np.array(line.get_data_3d()) for line in axes.lines]
    stems = [one for one in places if one.shape[1] == 2]
    assert len(stems) == 1
    x, y, z = stems[0]
    assert (x == 0).all()
    assert (y == 0).all()
    i, j = surface.center
    assert z[0] == pytest.approx(surface.loss[i, j])
    walk = next(one for one in places if one.shape[1] > 2)
    np.testing.assert_allclose(walk[:2, [0, -1]], [[0.8, 0.0], [0.5, 0.0]])
    assert walk[2, -1] == pytest.approx(surface.loss[i, j])
    assert np.isfinite(walk[2]).all()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["checkpoint", "path, from its start"]


def test_directions_normalized_differently_are_said_so() -> None:
    surface = surface_of(BOWL)
    (plane,) = surface.planes
    about = {**plane.about, "normalize": "none (β: filter)"}
    named = replace(surface, planes=(replace(plane, about=about),))
    words = " ".join(text.get_text() for text in plot_surfaces([named], metrics=[RA]).texts)
    assert "not normalized (β: filter-normalized)" in words.replace("\n", " ")
    assert "none" not in words


def test_the_words_about_lines_stand_below_a_chart_as_wide_as_the_figure() -> None:
    line = surface_of(BOWL[:, :1], beta=np.zeros(1))
    figure = plot_surfaces([line, line, line], metrics=[RA] * 3)
    chart, *keys = figure.axes
    box = chart.get_position()
    assert box.width > 0.8
    assert len(keys) == 3
    assert all(key.get_position().y1 < box.y0 for key in keys)
    assert keys[1].get_position().y1 == pytest.approx(keys[0].get_position().y1)  # two beside each other


def test_the_small_print_is_whole_and_a_word_without_end_is_not() -> None:
    words = [f"word{number}" for number in range(120)]
    assert " ".join(wrap(" ".join(words), 6.5, 6)).split() == words
    endless = "".join(wrap("x" * 5000, 6.5, 6))
    assert len(endless) < 900
    assert "…" in endless
