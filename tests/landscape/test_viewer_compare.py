"""In a real browser: differences, cuts through a point, paths, maps of eigenvalues."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
from browser import Tab, Tabs, grid
from viewer_surfaces import bowl, with_curvature, with_path

pytestmark = pytest.mark.browser

PATH = (
    [0.9, 0.45, 0.1, 0.0, 3.0],
    [-0.8, -0.1, 0.2, 0.0, 0.0],
    ["step 0", "<b>step</b> 1", "step 2", "end", "far"],
)
FIRST = with_path(with_curvature(bowl(label="first", points=(13, 11), interpolate=True)), *PATH)
SECOND = bowl(label="second", points=(13, 11), depth=0.9, ripple=0.4)
OTHER_GRID = bowl(label="another grid", points=9)
LINES = [bowl(label=f"line {k}", points=(13, 1), depth=0.3 + k) for k in range(2)]


@pytest.fixture
def tab(tabs: Tabs) -> Tab:
    """Three surfaces and two lines, flat."""
    tab = tabs.get("compare", [FIRST, SECOND, OTHER_GRID, *LINES], fragment="#view=heatmap")
    tab.page.set_viewport_size({"width": 1280, "height": 900})
    tab.visit("#view=heatmap")
    tab.page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    return tab


def refer(tab: Tab, label: str) -> None:
    """Choose the reference."""
    tab.page.select_option("#reference", label=label)
    tab.settle()


def test_difference_is_value_minus_reference(tab: Tab) -> None:
    refer(tab, "first")
    expected = SECOND.loss - FIRST.loss
    np.testing.assert_allclose(grid(tab.trace(index=1)), expected, atol=2e-5)
    np.testing.assert_allclose(grid(tab.trace(index=0)), FIRST.loss, rtol=1e-5)  # the reference itself
    limit = np.abs(expected).max()
    np.testing.assert_allclose(
        [tab.trace(index=1)[key] for key in ("zmin", "zmax")], [-limit, limit], rtol=1e-4
    )
    middle = tab.trace(index=1)["colorscale"][4]
    assert middle == [0.5, "#f2f0ec"]
    assert tab.trace(index=0)["colorscale"] != tab.trace(index=1)["colorscale"]
    assert tab.trace(index=1)["colorbar"]["title"]["text"] == "Δ loss (nats)"
    assert "difference to first" in tab.text(".panel:nth-child(2) .key")
    assert tab.page.is_disabled("#scale-log")
    assert tab.text("#scale-note") == "differences have a linear scale"
    tab.choose("view", "3d")
    np.testing.assert_allclose(tab.trace(index=1)["z"], expected.ravel(), atol=2e-5)
    refer(tab, "nothing")
    np.testing.assert_allclose(tab.trace(index=1)["z"], SECOND.loss.ravel(), rtol=1e-5)


def test_difference_says_why_there_is_none(tab: Tab) -> None:
    refer(tab, "first")
    assert tab.text(".panel:nth-child(3) .notice") == (
        "No difference: the grids differ. This one: 9 × 9 points, α from −1 to 1; "
        "the reference: 13 × 11 points, α from −1 to 1."
    )
    tab.choose("metric", "accuracy")
    expected = SECOND.accuracy - FIRST.accuracy
    np.testing.assert_allclose(grid(tab.trace(index=1)), expected, atol=1e-5)
    assert tab.trace(index=1)["colorbar"]["ticktext"][0].endswith("%")
    tab.page.select_option("#metric", "lambda_max")
    tab.settle()
    assert "no “λmax” on test" in tab.text(".panel:nth-child(2) .notice")


def test_differences_of_lines_share_a_chart(tab: Tab) -> None:
    refer(tab, "line 0")
    traces = [trace for trace in tab.figure(3)["data"] if trace["name"].startswith("line")]
    np.testing.assert_allclose(traces[0]["y"], np.zeros(13), atol=1e-9)
    np.testing.assert_allclose(traces[1]["y"], np.ones(13), atol=1e-5)


@pytest.mark.parametrize("reference", [0, 1])
def test_clip_of_differences_is_in_words_what_it_is_in_the_figure(tab: Tab, reference: int) -> None:
    tab.visit(f"#view=heatmap&reference={reference}&clip=0.8")
    limit = 0.8**3 * np.abs(SECOND.loss - FIRST.loss).max()
    np.testing.assert_allclose(tab.trace(index=1 - reference)["zmax"], limit, rtol=1e-4)
    assert float(tab.text("#clip-value").removeprefix("beyond ±")) == pytest.approx(limit, rel=1e-3)


def test_a_point_of_a_difference_shows_both_values(tab: Tab) -> None:
    tab.visit("#view=heatmap&reference=0&pick=0.35,0.2")
    i, j = np.abs(FIRST.alpha - 0.35).argmin(), np.abs(FIRST.beta - 0.2).argmin()
    text = tab.text(".panel:nth-child(2) .readout")
    assert f"Δ loss {SECOND.loss[i, j] - FIRST.loss[i, j]:.4g}" in text
    assert f"loss {SECOND.loss[i, j]:.3f} ± " in text
    assert f"reference loss {FIRST.loss[i, j]:.3f} ± " in text
    assert "interpolated, error about 0.012" in text


def cut(tab: Tab, axis: int) -> dict[str, Any]:
    """Plotly's figure of one cut."""
    figure: dict[str, Any] = tab.page.evaluate(
        """axis => {
          const plot = document.getElementById(`cut-${axis}`);
          return JSON.parse(JSON.stringify({ data: plot.data, layout: plot.layout }));
        }""",
        axis,
    )
    return figure


def test_click_draws_both_cuts(tab: Tab) -> None:
    assert tab.page.is_hidden("#cuts")
    i, j = 9, 3
    tab.page.mouse.click(*tab.point(FIRST.alpha[i], FIRST.beta[j]))
    tab.page.wait_for_selector("#cuts:not([hidden])")
    tab.page.click("text=Cuts ↓")
    tab.page.wait_for_selector("#cut-1 .main-svg")
    tab.settle()
    places = ((FIRST.alpha, FIRST.loss[:, j]), (FIRST.beta, FIRST.loss[i]))
    for axis, (coordinates, values) in enumerate(places):
        figure = cut(tab, axis)
        lines = [trace for trace in figure["data"] if trace.get("showlegend")]
        assert [line["name"] for line in lines] == ["first", "second", "another grid"]
        np.testing.assert_allclose(lines[0]["x"], coordinates, atol=1e-9)
        np.testing.assert_allclose(lines[0]["y"], values, rtol=1e-5)
        best = next(trace for trace in figure["data"] if trace["name"] == "best")
        assert best["x"] == [pytest.approx(coordinates[values.argmin()])]
        assert figure["layout"]["shapes"][0]["x0"] == pytest.approx((FIRST.alpha[i], FIRST.beta[j])[axis])
        assert any(trace["name"] == "centre" for trace in figure["data"])
    assert tab.text("#cuts h3") == "along α, at β = −0.4"
    drawn = [trace for trace in tab.figure(0)["data"] if trace["name"] == "cut"]
    assert drawn[0]["y"] == [pytest.approx(FIRST.beta[j])] * 2
    tab.choose("metric", "accuracy")
    lines = [trace for trace in cut(tab, 0)["data"] if trace.get("showlegend")]
    np.testing.assert_allclose(lines[0]["y"], FIRST.accuracy[:, j], rtol=1e-5)
    refer(tab, "first")
    lines = [trace for trace in cut(tab, 0)["data"] if trace.get("showlegend")]
    assert [line["name"] for line in lines] == ["second"]
    np.testing.assert_allclose(lines[0]["y"], (SECOND.accuracy - FIRST.accuracy)[:, j], atol=1e-5)
    tab.click("#cuts button")
    assert tab.page.is_hidden("#cuts")
    assert "cut" not in tab.names()


def test_path_is_drawn_named_and_switched(tab: Tab) -> None:
    assert tab.trace("path")["x"] == PATH[0]
    assert tab.trace("path")["y"] == PATH[1]
    assert "path" not in tab.names(1)
    assert "path of 5 networks, 1 outside the grid" in tab.text(".key")
    tab.page.mouse.move(*tab.point(PATH[0][1], PATH[1][1]))
    tab.page.wait_for_selector(".tip:not([hidden])")
    assert tab.text(".tip") == "<b>step</b> 1"
    tab.page.mouse.move(2, 2)
    tab.page.wait_for_selector(".tip", state="hidden")
    tab.page.uncheck("#path")
    tab.settle()
    assert "path" not in tab.names()
    tab.choose("view", "3d")
    assert "path" not in tab.names()
    tab.page.check("#path")
    tab.settle()
    points = tab.trace("path")
    assert points["x"] == PATH[0]
    assert points["z"][4] is None  # outside
    lift = 0.01 * (tab.trace()["cmax"] - tab.trace()["cmin"])
    middle = np.argmin(FIRST.loss)  # the centre: the last but one network of the path lies on a grid point
    assert points["z"][3] == pytest.approx(FIRST.loss.ravel()[middle] + lift, abs=1e-4)
    line = tab.trace("path line")
    assert len(line["x"]) > 20
    inside = [z is not None for z in line["z"]]
    assert all(inside[: len(inside) // 4])


@pytest.mark.parametrize("view", ["heatmap", "contour", "3d"])
def test_paths_of_several_trainings_are_never_joined(tabs: Tabs, view: str) -> None:
    """Each has its own line, colour, name and labels."""
    surface = with_path(bowl(label="both", points=(13, 11)), *PATH, parts=[("<i>sgd</i>", 3), ("s2sam", 2)])
    tab = tabs.get("several", [surface], fragment=f"#view={view}")
    tab.visit(f"#view={view}")
    paths = [trace for trace in tab.figure()["data"] if trace["name"] == "path"]
    assert [trace["x"] for trace in paths] == [PATH[0][:3], PATH[0][3:]]
    assert [trace["customdata"] for trace in paths] == [PATH[2][:3], PATH[2][3:]]
    assert [trace["marker"]["color"] for trace in paths] == ["#ff5a36", "#39c5f3"]
    assert "path of <i>sgd</i>, 3 networks" in tab.text(".key")
    assert "path of s2sam, 2 networks, 1 outside the grid" in tab.text(".key")
    colors = tab.page.eval_on_selector_all(
        ".mark.path", "list => list.map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert colors == ["rgb(255, 90, 54)", "rgb(57, 197, 243)"]
    if view == "heatmap":
        tab.page.mouse.move(*tab.point(PATH[0][3], PATH[1][3]))
        tab.page.wait_for_selector(".tip:not([hidden])")
        assert tab.text(".tip") == "end"


def test_eigenvalue_maps_have_names_and_points_of_their_own(tab: Tab) -> None:
    options = tab.page.eval_on_selector_all("#metric option", "list => list.map((one) => one.textContent)")
    assert options == ["loss", "accuracy", "λmax", "λmin", "|λmin/λmax|"]
    tab.page.select_option("#metric", label="λmin")
    tab.choose("scale", "linear")
    values = FIRST.metric("lambda_min").values
    np.testing.assert_allclose(grid(tab.trace()), values, rtol=1e-5)
    assert tab.trace()["colorbar"]["title"]["text"] == "λmin"
    assert tab.page.is_disabled("#scale-log")
    assert tab.text("#scale-note") == "linear: λmin is not above 0 everywhere"
    tab.page.check("#computed")
    tab.settle()
    computed = FIRST.metric("lambda_min").computed
    assert computed is not None
    assert len(tab.trace("computed")["x"]) == computed.sum()
    assert f"{computed.sum()} of 143 points computed" in tab.text(".key")
    tab.page.select_option("#metric", label="λmax")
    tab.choose("scale", "log")
    np.testing.assert_allclose(grid(tab.trace()), np.log10(FIRST.metric("lambda_max").values), atol=1e-5)
    tab.page.uncheck("#computed")
    tab.settle()


def test_values_say_which_eigenvalues_were_computed(tab: Tab) -> None:
    tab.page.click(".panel:nth-child(1) .downloads > button")
    with tab.page.expect_download() as found:
        tab.page.click(".panel:nth-child(1) .menu button:has-text('CSV')")
    with open(found.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    metric = FIRST.metric("lambda_max")
    assert metric.computed is not None
    assert [row["lambda_max_computed"] == "1" for row in rows] == metric.computed.ravel().tolist()
    assert [row["computed"] == "1" for row in rows] == FIRST.planes[0].computed.ravel().tolist()
    assert "loss_computed" not in rows[0]


def test_log_in_the_address_falls_back_to_linear(tab: Tab) -> None:
    tab.visit("#view=heatmap&metric=lambda_min&scale=log")
    np.testing.assert_allclose(grid(tab.trace()), FIRST.metric("lambda_min").values, rtol=1e-5)
    assert tab.page.is_checked("#scale-linear")
