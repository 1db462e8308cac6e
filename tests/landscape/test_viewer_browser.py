"""The page in a real browser: every control changes what it should, and nothing else happens."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import PATIENCE, STILL, Tab, Tabs, grid
from viewer_surfaces import bowl

from landscape.viewer import view

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>document.title = 'pwned'</script><img src=x onerror=alert(1)> \"'& 🦊 " + "x" * 300
)


_BOTH: dict[str, Any] = {"points": 13, "splits": ("test", "train"), "seeds": (0, 1)}
PAIR = [
    bowl(label="dense", ripple=0.05, **_BOTH),
    bowl(label="sparse", depth=0.8, interpolate=True, **_BOTH),
]
HOLES = bowl(label=HOSTILE, points=15, nan=True, inf=True)
HOLES.accuracy[3, 3] = 0.0
LINES = [bowl(label=f"run {k} {HOSTILE}", points=(21, 1), ripple=0.1 * k) for k in range(2)]
TABLE = [{"Ra": (0.5, 0.4, 0.6), HOSTILE: HOSTILE}, {"Ra": 0.1}, {"Ra": float("inf")}]


@pytest.fixture
def pair(tabs: Tabs) -> Tab:
    """Two surfaces, two splits, two planes; all controls."""
    tab = tabs.get("pair", PAIR, fragment="#view=contour")
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.visit("#view=contour")
    return tab


@pytest.fixture
def mixed(tabs: Tabs) -> Tab:
    """A surface with holes and two lines, all with hostile names."""
    surfaces = [HOLES, *LINES]
    tab = tabs.get("mixed", surfaces, fragment="#view=heatmap", metrics=TABLE, title=HOSTILE)
    tab.visit("#view=heatmap")
    return tab


def test_values_scale_and_range(pair: Tab) -> None:
    assert pair.trace()["type"] == "contour"
    np.testing.assert_allclose(grid(pair.trace()), PAIR[0].loss, rtol=1e-5)
    assert pair.trace()["colorbar"]["title"]["text"] == "loss (nats)"
    assert pair.figure()["layout"]["xaxis"]["title"]["text"] == "α (filter-normalized)"
    low = min(surface.loss.min() for surface in PAIR)
    high = max(surface.loss.max() for surface in PAIR)
    for index in (0, 1):
        limits = [pair.trace(index=index)[key] for key in ("zmin", "zmax")]
        np.testing.assert_allclose(limits, [low, high], rtol=1e-5)
    pair.choose("limits", "own")
    np.testing.assert_allclose(pair.trace(index=1)["zmin"], PAIR[1].loss.min(), rtol=1e-5)
    pair.choose("limits", "shared")
    pair.choose("scale", "log")
    np.testing.assert_allclose(grid(pair.trace()), np.log10(PAIR[0].loss), atol=1e-5)
    assert "log scale" in pair.trace()["colorbar"]["title"]["text"]
    assert pair.trace()["colorbar"]["ticktext"] == ["0.5", "1", "2", "5"]


def test_view_quantity_split_and_plane(pair: Tab) -> None:
    pair.choose("view", "heatmap")
    assert pair.trace()["type"] == "heatmap"
    pair.choose("metric", "accuracy")
    np.testing.assert_allclose(grid(pair.trace()), PAIR[0].accuracy, rtol=1e-5)
    assert pair.trace()["colorbar"]["ticktext"][-1].endswith("%")
    assert "maximum" in pair.text(".key")
    pair.choose("metric", "loss")
    pair.choose("split", "train")
    np.testing.assert_allclose(grid(pair.trace()), PAIR[0].metric(split="train").values, rtol=1e-5)
    assert "train, 1,000 examples" in pair.text(".subtitle")
    pair.choose("split", "test")
    pair.choose("plane", "direction seed 1")
    np.testing.assert_allclose(grid(pair.trace()), PAIR[0].metric(plane=1).values, rtol=1e-5)
    assert "direction seed 1" in pair.text(".subtitle")
    assert "computed" not in pair.names(1)
    pair.page.check("#computed")
    pair.settle()
    assert "computed" not in pair.names(0)  # all of them are
    assert len(pair.trace("computed", 1)["x"]) == PAIR[1].planes[1].computed.sum()


def test_clip_lowers_the_upper_limit(pair: Tab) -> None:
    before = pair.trace()
    pair.page.focus("#clip")
    for _ in range(10):
        pair.page.keyboard.press("ArrowLeft")
    pair.settle()
    after = pair.trace()
    assert after["zmin"] == before["zmin"]
    expected = before["zmin"] + (before["zmax"] - before["zmin"]) * 0.9**3
    assert math.isclose(after["zmax"], expected, rel_tol=1e-6)
    assert pair.text("#clip-value").startswith("above ")
    assert after["z"] == before["z"]  # values are only shown differently


def test_zoom_is_linked_and_reset(pair: Tab) -> None:
    start, end = pair.point(-0.5, -0.5), pair.point(0.5, 0.5)
    pair.page.mouse.move(*start)
    pair.page.mouse.down()
    pair.page.mouse.move(*end, steps=3)
    pair.page.mouse.up()
    pair.page.wait_for_function("() => document.querySelectorAll('.plot')[1].layout.xaxis.range[0] > -0.9")
    pair.settle()
    ranges = [pair.figure(index)["layout"]["xaxis"]["range"] for index in (0, 1)]
    np.testing.assert_allclose(ranges, [[-0.5, 0.5]] * 2, atol=0.05)
    pair.click("text=Reset view")
    assert pair.figure(1)["layout"]["xaxis"]["range"] == [-1, 1]


def test_zoom_is_each_maps_own_where_they_are_not_linked(pair: Tab) -> None:
    def ranges() -> list[list[float]]:
        return [pair.figure(index)["layout"]["xaxis"]["range"] for index in (0, 1)]

    pair.page.uncheck("#linked")
    for index, key in ((0, "+"), (1, "+"), (1, "+")):
        pair.page.focus(f".panel:nth-child({index + 1}) .plot")
        pair.page.keyboard.press(key)
        pair.settle()
    np.testing.assert_allclose(ranges(), [[-0.85, 0.85], [-(0.85**2), 0.85**2]])
    pair.choose("metric", "accuracy")
    np.testing.assert_allclose(ranges(), [[-0.85, 0.85], [-(0.85**2), 0.85**2]])
    pair.page.check("#linked")
    pair.settle()
    np.testing.assert_allclose(ranges(), [[-1, 1]] * 2)


def test_a_narrow_range_of_accuracies_has_distinct_ticks(tabs: Tabs) -> None:
    surface = bowl(points=7)
    low, wide = surface.accuracy.min(), np.ptp(surface.accuracy)
    surface.accuracy[:] = 0.979 + 0.002 * (surface.accuracy - low) / wide
    tab = tabs.get("narrow", [surface], fragment="#view=heatmap&metric=accuracy")
    assert tab.trace()["colorbar"]["ticktext"] == ["97.90 %", "97.95 %", "98.00 %", "98.05 %", "98.10 %"]


def test_a_failed_drawing_is_over(tabs: Tabs) -> None:
    tab = tabs.get("failing", [bowl(points=5)], fragment="#view=heatmap")
    tab.page.evaluate(
        """() => {
          const { react } = Plotly;
          Plotly.react = () => { Plotly.react = react; throw new Error("no room"); };
        }"""
    )
    tab.choose("view", "contour")
    assert tab.problems == ["no room"]
    tab.problems.clear()
    tab.choose("view", "heatmap")
    assert tab.trace()["type"] == "heatmap"


def test_click_reads_a_point_out_everywhere(pair: Tab) -> None:
    i, j = 9, 4
    alpha, beta = PAIR[0].alpha[i], PAIR[0].beta[j]
    pair.page.mouse.move(*pair.point(alpha, beta))
    pair.page.wait_for_selector(".readout b")
    assert len(pair.page.query_selector_all(".readout b")) == 4  # α, β, loss, accuracy where pointed at
    pair.page.mouse.click(*pair.point(alpha, beta))
    pair.page.mouse.move(2, 2)
    pair.page.wait_for_selector(".panel:nth-child(2) .readout b")
    pair.settle()
    for index, surface in enumerate(PAIR):
        text = pair.page.query_selector_all(".readout")[index].inner_text()
        loss, error = surface.loss[i, j], surface.metric().stderr[i, j]
        assert f"loss {loss:.3f} ± {error:.3f}" in text
        assert f"accuracy {100 * surface.accuracy[i, j]:.1f} ± " in text
        assert ("interpolated, error about 0.012" if index else "computed") in text
        assert pair.trace("pick", index)["x"] == [pytest.approx(alpha, abs=1e-6)]
    pair.page.fill("#pick-0", "0")
    pair.page.press("#pick-0", "Tab")
    pair.settle()
    assert pair.trace("pick")["x"] == [0]
    pair.click("[aria-label='Clear the read-out point']")
    assert "pick" not in pair.names()


# A drag as a busy machine delivers it: events close together, then no frame for a third of a second.
FLING = """async ([x, y]) => {
  const canvas = document.querySelector(".plot canvas");
  const send = (type, step, buttons) => canvas.dispatchEvent(new MouseEvent(type,
    { clientX: x + 8 * step, clientY: y + 4 * step, buttons, button: 0, bubbles: true, view: window }));
  const pause = (ms) => { const end = performance.now() + ms; while (performance.now() < end); };
  send("mousemove", 0, 0);
  send("mousedown", 0, 1);
  for (let step = 1; step < 9; step += 1) {
    await new Promise(requestAnimationFrame);
    await new Promise((done) => setTimeout(done, 5));
    send("mousemove", step, 1);
  }
  send("mouseup", 8, 0);
  pause(300);
}"""


def test_a_camera_that_goes_on_after_the_mouse_is_kept_where_it_stops(tabs: Tabs) -> None:
    pair = tabs.get("flung", PAIR, viewport={"width": 1120, "height": 560})
    pair.choose("view", "3d")
    box = pair.page.query_selector(".plot").bounding_box()
    first = pair.eye()
    for _ in range(8):  # Plotly drops what falls within one of its frames
        pair.page.evaluate(FLING, [box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5])
        pair.page.evaluate(STILL, 0)
        rest = pair.eye()
        if rest != first:
            break
    assert rest != first
    pair.choose("scale", "log")  # draws anew
    np.testing.assert_allclose([pair.eye(), pair.eye(1)], [rest, rest], atol=1e-6)


def test_three_dimensions_and_linked_cameras(pair: Tab) -> None:
    pair.page.set_viewport_size({"width": 1120, "height": 560})  # fewer pixels to draw without a GPU
    pair.choose("view", "3d")
    assert pair.trace()["type"] == "mesh3d"
    for name, values in (
        ("x", PAIR[0].alpha.repeat(13)),
        ("y", np.tile(PAIR[0].beta, 13)),
        ("z", PAIR[0].loss),
    ):
        np.testing.assert_allclose(pair.trace()[name], values.ravel(), rtol=1e-5)
    assert pair.figure()["layout"]["scene"]["xaxis"]["title"]["text"] == "α (filter-normalized)"
    assert {"centre", "best"} <= set(pair.names())
    first = pair.eye()
    for _ in range(5):  # drawing in software, a busy machine can miss a drag, or its end
        pair.drag()
        for _ in range(60):  # and one of the two is drawn later
            turned = pair.eye()
            if alike := turned != first and np.allclose(pair.eye(1), turned, atol=1e-6):
                break
            pair.page.wait_for_timeout(50)
        if alike:
            break
    assert turned != first
    np.testing.assert_allclose(pair.eye(1), turned, atol=1e-6)
    pair.page.uncheck("#linked")
    pair.settle()
    for _ in range(5):  # drawing in software, a busy machine can miss a drag
        pair.drag(1, (-80, 10))
        apart = pair.eye(1)
        if apart != turned:
            break
    np.testing.assert_allclose(pair.eye(), turned, atol=1e-6)
    assert apart != turned
    pair.choose("scale", "log")  # the cameras stay
    np.testing.assert_allclose([pair.eye(), pair.eye(1)], [turned, apart], atol=1e-6)
    np.testing.assert_allclose(pair.trace()["z"], np.log10(PAIR[0].loss).ravel(), atol=1e-5)
    assert pair.figure()["layout"]["scene"]["zaxis"]["ticktext"] == ["0.5", "1", "2", "5"]
    pair.page.check("#linked")
    pair.settle()
    np.testing.assert_allclose(pair.eye(1), turned, atol=1e-6)
    pair.click("text=Reset view")
    np.testing.assert_allclose([pair.eye(), pair.eye(1)], [first, first], atol=1e-6)


def test_address_keeps_the_view(pair: Tab) -> None:
    pair.visit("#view=heatmap&scale=log&limits=own&clip=0.8&pick=0.5,-0.5&linked=0&metric=loss")
    assert pair.trace()["type"] == "heatmap"
    assert pair.page.is_checked("#scale-log")
    assert not pair.page.is_checked("#linked")
    pair.choose("metric", "accuracy")
    pair.choose("scale", "linear")
    pair.page.wait_for_function("() => /accuracy/.test(location.hash) && !/scale/.test(location.hash)")
    fragment = pair.page.url.split("#")[1]
    assert "metric=accuracy" in fragment
    assert "scale" not in fragment
    assert "pick=0.5%2C-0.5" in fragment
    shown = pair.figure()["data"]
    pair.visit("#view=contour")
    pair.visit("#" + fragment)
    assert pair.figure()["data"] == shown
    pair.visit("#view=contour&clip=x&pick=1&scale=cubic&camera=1,2&zoom=a")  # nonsense is ignored
    assert pair.page.is_checked("#scale-linear")
    assert "pick" not in pair.names()


def test_theme_follows_the_system_and_can_be_chosen(pair: Tab) -> None:
    root = "document.documentElement.dataset.theme"
    light = pair.figure()["layout"]["font"]["color"]
    pair.page.emulate_media(color_scheme="dark")
    pair.page.wait_for_selector('html[data-theme="dark"]')
    pair.settle()
    dark = pair.figure()["layout"]["font"]["color"]
    assert dark != light
    pair.choose("theme", "light")
    assert pair.page.evaluate(root) == "light"
    assert pair.figure()["layout"]["font"]["color"] == light
    pair.page.emulate_media(color_scheme="light")


def test_controls_are_labelled_and_in_the_tab_order(pair: Tab) -> None:
    unnamed = pair.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select")]
          .filter((node) => !node.labels?.length && !node.ariaLabel && !node.textContent.trim()).length"""
    )
    assert unnamed == 0
    seen = set()
    pair.page.focus("#page-controls button")
    for _ in range(24):
        pair.page.keyboard.press("Tab")
        seen.add(pair.page.evaluate("document.activeElement.name"))
    assert {"view", "metric", "scale", "split", "plane", "limits", "clip", "linked", "theme"} <= seen
    pair.page.focus("#view-contour")
    pair.page.keyboard.press("ArrowRight")
    pair.settle()
    assert pair.trace()["type"] == "heatmap"


def test_hostile_names_are_text(mixed: Tab) -> None:
    assert mixed.page.title() == HOSTILE
    assert mixed.page.text_content("#title") == HOSTILE
    assert mixed.page.text_content("h2") == HOSTILE
    assert mixed.page.text_content("thead th:nth-child(3)") == HOSTILE
    assert mixed.page.text_content("td:nth-child(3)") == HOSTILE
    assert mixed.page.text_content(".legendtext").startswith("run 0 </script><script>document")
    assert mixed.page.query_selector("img") is None
    width, page_width = mixed.page.evaluate("[innerWidth, document.scrollingElement.scrollWidth]")
    assert page_width <= width


def test_holes_are_marked(mixed: Tab) -> None:
    diverged, unknown = int(np.isinf(HOLES.loss).sum()), int(np.isnan(HOLES.loss).sum())
    holes = grid(mixed.trace("holes"))
    assert (holes == 1).sum() == diverged
    assert (holes == 0).sum() == unknown
    assert np.isnan(grid(mixed.trace())).sum() == diverged + unknown
    assert f"{diverged} points diverged" in mixed.text(".key")
    assert f"{unknown} points not computed yet" in mixed.text(".key")
    assert "incomplete" in mixed.text(".subtitle")
    mixed.visit("#view=heatmap&pick=1,1")
    assert "loss diverged" in mixed.text(".readout")
    mixed.choose("view", "3d")
    assert len(mixed.trace("diverged")["x"]) == diverged


def test_lines_share_a_chart(mixed: Tab) -> None:
    figure = mixed.figure(1)
    lines = [trace for trace in figure["data"] if trace["name"].startswith("run")]
    for trace, surface in zip(lines, LINES, strict=True):
        np.testing.assert_allclose(trace["y"], surface.loss[:, 0], rtol=1e-5)
    assert figure["layout"]["showlegend"] is True
    assert figure["layout"]["yaxis"]["type"] == "linear"
    assert figure["layout"]["yaxis"]["title"]["text"] == "loss (nats)"
    mixed.choose("scale", "log")
    assert mixed.figure(1)["layout"]["yaxis"]["type"] == "log"
    mixed.page.query_selector_all(".plot")[1].scroll_into_view_if_needed()
    mixed.page.mouse.click(*mixed.point(0.5, LINES[1].loss[15, 0], 1))
    mixed.page.wait_for_selector(".panel:nth-child(2) .readout p:nth-child(2)")
    mixed.settle()
    assert len(mixed.page.query_selector_all(".panel:nth-child(2) .readout p")) == 2
    assert "run 1" in mixed.text(".panel:nth-child(2) .readout")


def test_log_needs_positive_values(mixed: Tab) -> None:
    mixed.visit("#view=heatmap&scale=log")
    assert mixed.page.is_enabled("#scale-log")
    mixed.choose("metric", "accuracy")
    assert mixed.page.is_disabled("#scale-log")
    np.testing.assert_allclose(grid(mixed.trace()), HOLES.accuracy, rtol=1e-5)


def test_downloads(mixed: Tab) -> None:
    def save(kind: str) -> tuple[str, bytes]:
        with mixed.page.expect_download() as found:
            mixed.page.click(".downloads > button")
            mixed.page.click(f".menu button:has-text('{kind}')")
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()

    name, picture = save("PNG")
    assert picture[:4] == b"\x89PNG"
    assert name.startswith("script_script_document.title")
    assert len(name) < 100
    _, drawing = save("SVG")
    title = next(node for node in ElementTree.fromstring(drawing).iter() if node.get("class") == "gtitle")
    assert "".join(title.itertext()).startswith("</script><script>document")
    _, table = save("CSV")
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert rows[0]["surface"] == HOSTILE
    np.testing.assert_allclose([float(row["loss"]) for row in rows], HOLES.loss.ravel(), rtol=1e-5)
    alpha = np.repeat(HOLES.alpha, len(HOLES.beta))
    np.testing.assert_allclose([float(row["alpha"]) for row in rows], alpha, atol=1e-9)
    stderr = HOLES.metric("accuracy").stderr.ravel()
    np.testing.assert_allclose([float(row["accuracy_stderr"]) for row in rows], stderr, rtol=5e-3)


def test_table_sorts_and_copies(mixed: Tab) -> None:
    order = (
        "[...document.querySelectorAll('tbody td:nth-child(2)')].map((cell) => cell.firstChild.textContent)"
    )
    assert mixed.page.evaluate(order) == ["0.5", "0.1", "not finite"]
    mixed.page.click("thead button:has-text('Ra')")
    assert mixed.page.evaluate(order) == ["0.1", "0.5", "not finite"]
    mixed.page.click("thead button:has-text('Ra')")
    assert mixed.page.evaluate(order) == ["not finite", "0.5", "0.1"]
    assert mixed.text("tbody small") == "0.4 to 0.6"
    mixed.context.grant_permissions(["clipboard-read", "clipboard-write"])
    mixed.page.click("text=Copy table")
    mixed.page.wait_for_selector("text=Copied")
    copied = mixed.page.evaluate("navigator.clipboard.readText()")
    assert "\t0.5 [0.4 to 0.6]\t" in copied.splitlines()[2]


def test_many_panels(tabs: Tabs) -> None:
    surfaces = [bowl(label=f"network {k}", points=4) for k in range(24)]
    tab = tabs.get("many", surfaces, viewport={"width": 1280, "height": 600})
    assert tab.page.is_checked("#view-contour")
    drawn = "[...document.querySelectorAll('.plot')].filter((plot) => plot.data).length"
    assert 0 < tab.page.evaluate(drawn) < 24
    tab.page.evaluate("document.querySelectorAll('.panel')[23].scrollIntoView()")
    tab.page.wait_for_function("() => document.querySelectorAll('.plot')[23].data")
    tab.settle()
    np.testing.assert_allclose(grid(tab.trace(index=23)), surfaces[23].loss, rtol=1e-5)


@pytest.mark.slow
def test_webgl_contexts_stay_below_the_browsers_limit(tabs: Tabs) -> None:
    surfaces = [bowl(label=f"network {k}", points=3) for k in range(15)]
    tab = tabs.get("webgl", surfaces, fragment="#view=3d", viewport={"width": 1280, "height": 600})
    for index in (5, 9, 14):
        tab.page.evaluate("index => document.querySelectorAll('.panel')[index].scrollIntoView()", index)
        tab.page.wait_for_function(
            "index => document.querySelectorAll('.plot')[index].data?.[0].type === 'mesh3d'", arg=index
        )
        tab.settle()
    types = tab.page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.data?.[0].type)")
    assert types[-1] == "mesh3d"
    assert types.count("mesh3d") <= 12


def test_notebook_frame_draws(tabs: Tabs, tmp_path: Path) -> None:
    page = view([bowl(points=(5, 1), label="in a notebook")], metrics=[{}])
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f'<meta charset="utf-8">{page._repr_html_()}', encoding="utf-8")
    context = tabs.browser.new_context()
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(notebook.as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator(".plot .xtitle").wait_for()
    frame.locator('input[value="log"]').check()
    frame.locator(".ytitle:has-text('log scale')").wait_for()
    assert frame.locator("h2").first.inner_text() == "in a notebook"
    context.close()
    assert problems == []


def test_large_grids_and_single_rows(tabs: Tabs) -> None:
    surfaces = [
        bowl(label="large", points=201),
        bowl(label="one row", points=(1, 11)),
        bowl(label="point", points=(1, 1)),
    ]
    tab = tabs.get("large", surfaces, fragment="#view=heatmap")
    assert len(tab.trace()["z"]) == 201
    assert len(tab.trace(index=1)["z"]) == 11
    assert "loss" in tab.text(".panel:nth-child(3)")
    tab.visit("#view=3d")
    assert len(tab.trace()["x"]) == 201**2
    assert tab.trace(index=1)["type"] == "scatter3d"
    np.testing.assert_allclose(tab.trace(index=1)["z"], surfaces[1].loss[0], rtol=1e-5)
