"""The page in a real browser: every control changes what it should, and nothing else happens."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Tab, chromium
from viewer_surfaces import bowl

from landscape.store import Surface
from landscape.viewer import view

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>document.title = 'pwned'</script><img src=x onerror=alert(1)> \"'& 🦊 " + "x" * 300
)
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """One browser for all tests here."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(running: Any, tmp_path: Path) -> Iterator[Open]:
    """Open surfaces as a page; afterwards no tab may have complained or asked for anything."""
    tabs: list[Tab] = []

    def opened(surfaces: list[Surface], fragment: str = "", **options: Any) -> Tab:
        metrics = options.pop("metrics", [{} for _ in surfaces])
        path = view(surfaces, metrics=metrics, title=options.pop("title", None)).save(tmp_path / "page.html")
        tabs.append(Tab(running, path, fragment, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()


def pair(**options: Any) -> list[Surface]:
    """Two surfaces with two splits and two planes, the second interpolated."""
    both = {"points": 13, "splits": ("test", "train"), "seeds": (0, 1), **options}
    return [
        bowl(label="dense", ripple=0.05, **both),
        bowl(label="sparse", depth=0.8, interpolate=True, **both),
    ]


def grid(trace: dict[str, Any]) -> Any:
    """The values of a trace as ``[alpha, beta]``, NaN where there is none."""
    return np.array(trace["z"], dtype=float).T


def test_controls_of_flat_views(open_page: Open) -> None:
    surfaces = pair()
    tab = open_page(surfaces, "#view=contour")
    assert tab.trace()["type"] == "contour"
    np.testing.assert_allclose(grid(tab.trace()), surfaces[0].loss, rtol=1e-5)
    assert tab.trace()["colorbar"]["title"]["text"] == "loss (nats)"
    layout = tab.figure()["layout"]
    assert layout["xaxis"]["title"]["text"] == "α (filter-normalized)"
    low = min(surface.loss.min() for surface in surfaces)
    high = max(surface.loss.max() for surface in surfaces)
    for index in (0, 1):  # shared limits
        np.testing.assert_allclose(
            [tab.trace(index=index)[key] for key in ("zmin", "zmax")], [low, high], rtol=1e-5
        )

    tab.choose("limits", "own")
    np.testing.assert_allclose(tab.trace(index=1)["zmin"], surfaces[1].loss.min(), rtol=1e-5)
    tab.choose("limits", "shared")

    tab.choose("scale", "log")
    np.testing.assert_allclose(grid(tab.trace()), np.log10(surfaces[0].loss), atol=1e-5)
    assert "log scale" in tab.trace()["colorbar"]["title"]["text"]
    assert tab.trace()["colorbar"]["ticktext"] == ["0.5", "1", "2", "5"]
    tab.choose("scale", "linear")

    tab.choose("view", "heatmap")
    assert tab.trace()["type"] == "heatmap"
    tab.choose("metric", "accuracy")
    np.testing.assert_allclose(grid(tab.trace()), surfaces[0].accuracy, rtol=1e-5)
    assert tab.trace()["colorbar"]["ticktext"][-1].endswith("%")
    assert "maximum" in tab.text(".key")
    tab.choose("metric", "loss")

    tab.choose("split", "train")
    np.testing.assert_allclose(grid(tab.trace()), surfaces[0].metric("loss", split="train").values, rtol=1e-5)
    assert "train, 1,000 examples" in tab.text(".subtitle")
    tab.choose("split", "test")

    tab.choose("plane", "direction seed 1")
    np.testing.assert_allclose(grid(tab.trace()), surfaces[0].metric("loss", plane=1).values, rtol=1e-5)
    assert "direction seed 1" in tab.text(".subtitle")

    assert "computed" not in tab.names(1)
    tab.page.check("#computed")
    tab.settle()
    assert "computed" not in tab.names(0)  # all of them are
    assert len(tab.trace("computed", 1)["x"]) == surfaces[1].planes[1].computed.sum()


def test_clip_lowers_the_upper_limit(open_page: Open) -> None:
    tab = open_page([bowl(points=9)], "#view=heatmap")
    before = tab.trace()
    tab.page.focus("#clip")
    for _ in range(30):
        tab.page.keyboard.press("ArrowLeft")
    tab.settle()
    after = tab.trace()
    assert after["zmin"] == before["zmin"]
    expected = before["zmin"] + (before["zmax"] - before["zmin"]) * 0.7**3
    assert math.isclose(after["zmax"], expected, rel_tol=1e-6)
    assert tab.text("#clip-value").startswith("above ")
    assert after["z"] == before["z"]  # values are only shown differently


def test_zoom_is_linked_and_reset(open_page: Open) -> None:
    tab = open_page(pair(), "#view=contour")
    start, end = tab.point(-0.5, -0.5), tab.point(0.5, 0.5)
    tab.page.mouse.move(*start)
    tab.page.mouse.down()
    tab.page.mouse.move(*end, steps=3)
    tab.page.mouse.up()
    tab.page.wait_for_timeout(100)
    tab.settle()
    ranges = [tab.figure(index)["layout"]["xaxis"]["range"] for index in (0, 1)]
    np.testing.assert_allclose(ranges, [[-0.5, 0.5]] * 2, atol=0.05)
    tab.click("text=Reset view")
    assert tab.figure(1)["layout"]["xaxis"]["range"] == [-1, 1]


def test_click_reads_a_point_out_everywhere(open_page: Open) -> None:
    surfaces = pair()
    tab = open_page(surfaces, "#view=contour")
    i, j = 9, 4
    alpha, beta = surfaces[0].alpha[i], surfaces[0].beta[j]
    tab.page.mouse.move(*tab.point(alpha, beta))
    tab.page.wait_for_selector(".readout b")
    assert len(tab.page.query_selector_all(".readout b")) == 4  # α, β, loss, accuracy of the panel pointed at
    tab.page.mouse.click(*tab.point(alpha, beta))
    tab.page.mouse.move(2, 2)
    tab.page.wait_for_function(
        "() => document.querySelectorAll('.readout b').length === 8"
    ) if False else None
    tab.settle()
    for index, surface in enumerate(surfaces):
        text = tab.page.query_selector_all(".readout")[index].inner_text()
        loss, error = surface.loss[i, j], surface.metric("loss").stderr[i, j]
        assert f"loss {loss:.3f} ± {error:.3f}" in text
        assert f"accuracy {100 * surface.accuracy[i, j]:.1f} ± " in text
        assert ("interpolated, error ≤ 0.012" if index else "computed") in text
        assert tab.trace("pick", index)["x"] == [pytest.approx(alpha, abs=1e-6)]
    tab.page.fill("#pick-0", "0")
    tab.page.press("#pick-0", "Tab")
    tab.settle()
    assert tab.trace("pick")["x"] == [0]
    tab.click("[aria-label='Clear the read-out point']")
    assert "pick" not in tab.names()


def test_three_dimensions_and_linked_cameras(open_page: Open) -> None:
    surfaces = pair(points=9)
    tab = open_page(surfaces)
    figure = tab.figure()
    scene = figure["layout"]["scene"]
    assert tab.trace()["type"] == "surface"
    np.testing.assert_allclose(grid(tab.trace()), surfaces[0].loss, rtol=1e-5)
    assert scene["xaxis"]["title"]["text"] == "α (filter-normalized)"
    assert {"centre", "best"} <= set(tab.names())

    def eyes() -> list[Any]:
        return [tab.figure(index)["layout"]["scene"]["camera"]["eye"] for index in (0, 1)]

    first = eyes()[0]
    tab.drag()
    turned = eyes()
    assert turned[0] == turned[1] != first
    tab.page.uncheck("#linked")
    tab.drag(1, (-80, 10))
    apart = eyes()
    assert apart[0] == turned[0] != apart[1]
    tab.choose("scale", "log")  # the cameras stay
    assert eyes() == apart
    np.testing.assert_allclose(grid(tab.trace()), np.log10(surfaces[0].loss), atol=1e-5)
    tab.page.check("#linked")
    tab.settle()
    assert eyes()[0] == eyes()[1] == turned[0]
    tab.page.evaluate("location.hash = '#clip=0.7'")
    tab.settle()
    top = tab.figure()["layout"]["scene"]["zaxis"]["range"][1]
    assert top < surfaces[1].loss.max()
    tab.click("text=Reset view")
    assert eyes() == [first, first]


def test_address_keeps_the_view(open_page: Open) -> None:
    tab = open_page(
        pair(), "#view=heatmap&scale=log&limits=own&clip=0.8&pick=0.5,-0.5&metric=loss&linked=0&theme=dark"
    )
    assert tab.trace()["type"] == "heatmap"
    assert tab.page.is_checked("#scale-log")
    assert not tab.page.is_checked("#linked")
    tab.choose("metric", "accuracy")
    tab.choose("scale", "linear")
    tab.page.wait_for_timeout(400)
    fragment = tab.page.url.split("#")[1]
    assert "metric=accuracy" in fragment
    assert "scale" not in fragment
    assert "pick=0.5%2C-0.5" in fragment
    again = Tab(tab.context.browser, Path(tab.address.removeprefix("file://")), "#" + fragment)
    assert again.figure()["data"] == tab.figure()["data"]
    again.close()
    nonsense = Tab(
        tab.context.browser, Path(tab.address.removeprefix("file://")), "#view=cube&clip=x&pick=1&scale=log"
    )
    assert nonsense.page.is_checked("#view-3d")
    nonsense.close()


def test_theme_follows_the_system_and_can_be_chosen(open_page: Open) -> None:
    tab = open_page([bowl(points=5)], "#view=heatmap", color_scheme="dark")
    root = "document.documentElement.dataset.theme"
    assert tab.page.evaluate(root) == "dark"
    dark = tab.figure()["layout"]["font"]["color"]
    tab.page.emulate_media(color_scheme="light")
    tab.page.wait_for_selector('html[data-theme="light"]')
    tab.settle()
    light = tab.figure()["layout"]["font"]["color"]
    assert light != dark
    tab.choose("theme", "dark")
    assert tab.page.evaluate(root) == "dark"
    assert tab.figure()["layout"]["font"]["color"] == dark


def test_hostile_names_are_text(open_page: Open) -> None:
    surfaces = [
        bowl(label=HOSTILE, points=(9, 1)),
        bowl(label=HOSTILE, points=(9, 1)),
        bowl(label=HOSTILE, points=5),
    ]
    tab = open_page(surfaces, "#view=contour", metrics=[{HOSTILE: HOSTILE}] * 3, title=HOSTILE)
    assert tab.page.title() == HOSTILE
    assert tab.text("#title") == HOSTILE
    assert tab.page.text_content("h2") == HOSTILE
    assert tab.page.text_content("td") == HOSTILE
    assert tab.page.text_content("thead th:nth-child(2)") == HOSTILE
    assert tab.page.text_content(".legendtext").startswith("</script><script>document.title")
    assert tab.page.query_selector("img") is None
    width, page_width = tab.page.evaluate("[innerWidth, document.scrollingElement.scrollWidth]")
    assert page_width <= width


def test_holes_are_marked(open_page: Open) -> None:
    surface = bowl(points=15, nan=True, inf=True)
    diverged, unknown = int(np.isinf(surface.loss).sum()), int(np.isnan(surface.loss).sum())
    tab = open_page([surface], "#view=heatmap")
    holes = grid(tab.trace("holes"))
    assert (holes == 1).sum() == diverged
    assert (holes == 0).sum() == unknown
    assert np.isnan(grid(tab.trace())).sum() == diverged + unknown
    assert f"{diverged} points diverged" in tab.text(".key")
    assert f"{unknown} points not computed yet" in tab.text(".key")
    assert "incomplete" in tab.text(".subtitle")
    tab.page.fill("#pick-0", "1")
    tab.page.fill("#pick-1", "1")
    tab.page.press("#pick-1", "Tab")
    tab.settle()
    assert "loss diverged" in tab.text(".readout")
    tab.choose("view", "3d")
    assert len(tab.trace("diverged")["x"]) == diverged


def test_lines_share_a_chart(open_page: Open) -> None:
    surfaces = [bowl(label=f"run {k}", points=(21, 1), ripple=0.1 * k) for k in range(3)]
    tab = open_page(surfaces)
    figure = tab.figure()
    lines = [trace for trace in figure["data"] if trace["name"].startswith("run")]
    assert [trace["name"] for trace in lines] == ["run 0", "run 1", "run 2"]
    for trace, surface in zip(lines, surfaces, strict=True):
        np.testing.assert_allclose(trace["y"], surface.loss[:, 0], rtol=1e-5)
    assert figure["layout"]["showlegend"] is True
    assert figure["layout"]["yaxis"]["type"] == "linear"
    assert figure["layout"]["yaxis"]["title"]["text"] == "loss (nats)"
    tab.choose("scale", "log")
    assert tab.figure()["layout"]["yaxis"]["type"] == "log"
    tab.page.mouse.click(*tab.point(0.5, float(np.log10(surfaces[2].loss[15, 0]))))
    tab.settle()
    assert len(tab.page.query_selector_all(".readout p")) == 3
    assert "run 2" in tab.text(".readout")
    assert tab.page.query_selector("#view-3d") is None


def test_log_needs_positive_values(open_page: Open) -> None:
    surface = bowl(points=5)
    surface.loss[0, 0] = 0.0
    tab = open_page([surface], "#view=heatmap&scale=log")
    assert tab.page.is_disabled("#scale-log")
    np.testing.assert_allclose(grid(tab.trace()), surface.loss, rtol=1e-5)


def test_many_panels_are_drawn_as_they_come_into_sight(open_page: Open) -> None:
    surfaces = [bowl(label=f"network {k}", points=4) for k in range(24)]
    tab = open_page(surfaces, viewport={"width": 1280, "height": 700})
    assert tab.page.is_checked("#view-contour")
    drawn = "() => [...document.querySelectorAll('.plot')].filter((plot) => plot.data).length"
    assert 0 < tab.page.evaluate(drawn) < 24
    tab.page.evaluate("document.querySelectorAll('.panel')[23].scrollIntoView()")
    tab.page.wait_for_timeout(200)
    tab.settle()
    np.testing.assert_allclose(grid(tab.trace(index=23)), surfaces[23].loss, rtol=1e-5)


def test_webgl_contexts_stay_below_the_browsers_limit(open_page: Open) -> None:
    surfaces = [bowl(label=f"network {k}", points=3) for k in range(15)]
    tab = open_page(surfaces, "#view=3d", viewport={"width": 1280, "height": 700})
    for _ in range(3):
        tab.page.mouse.wheel(0, 900)
        tab.page.wait_for_timeout(200)
        tab.settle()
    types = tab.page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.data?.[0].type)")
    assert types[-1] == "surface"
    assert types.count("surface") <= 12


def test_downloads(open_page: Open, tmp_path: Path) -> None:
    surface = bowl(label="=cmd() <net>", points=(5, 3), inf=True)
    tab = open_page([surface], "#view=contour")

    def save(kind: str) -> tuple[str, bytes]:
        with tab.page.expect_download() as found:
            tab.page.click(f".downloads button:has-text('{kind}')")
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()

    name, picture = save("PNG")
    assert (name, picture[:4]) == ("cmd_net__loss.png", b"\x89PNG")
    name, drawing = save("SVG")
    assert drawing.startswith(b"<svg")
    assert "=cmd() &lt;net&gt;" in drawing.decode()
    name, table = save("CSV")
    assert name == "cmd_net_.csv"
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert rows[0]["surface"] == "'=cmd() <net>"  # no formula for a spreadsheet to run
    np.testing.assert_allclose([float(row["loss"]) for row in rows], surface.loss.ravel(), rtol=1e-5)
    np.testing.assert_allclose([float(row["alpha"]) for row in rows], np.repeat(surface.alpha, 3))
    np.testing.assert_allclose(
        [float(row["accuracy_stderr"]) for row in rows], surface.metric("accuracy").stderr.ravel(), rtol=5e-3
    )


def test_table_sorts_and_copies(open_page: Open) -> None:
    metrics = [{"Ra": (0.5, 0.4, 0.6), "mask": "erk"}, {"Ra": 0.1}, {"Ra": float("inf")}]
    surfaces = [bowl(label=name, points=3) for name in "abc"]
    tab = open_page(surfaces, "#view=heatmap", metrics=metrics)
    order = "() => [...document.querySelectorAll('tbody th')].map((cell) => cell.textContent).join('')"
    assert tab.page.evaluate(order) == "abc"
    tab.page.click("thead button:has-text('Ra')")
    assert tab.page.evaluate(order) == "bac"
    tab.page.click("thead button:has-text('Ra')")
    assert tab.page.evaluate(order) == "cab"
    assert tab.text("tbody small") == "0.4 to 0.6"
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.page.click("text=Copy table")
    tab.page.wait_for_selector("text=Copied")
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[2] == "a\t0.5 [0.4 to 0.6]\terk"


def test_phone_shows_everything_in_its_width(open_page: Open) -> None:
    tab = open_page(pair(), viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= 390
    sides = tab.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, .plot")].flatMap((node) => {
          const { left, right } = node.getBoundingClientRect();
          return [left, right];
        })"""
    )
    assert min(sides) >= 0
    assert max(sides) <= 390


def test_controls_are_labelled_and_in_the_tab_order(open_page: Open) -> None:
    tab = open_page(pair(), "#view=heatmap")
    unnamed = tab.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select")]
          .filter((node) => !node.labels?.length && !node.ariaLabel && !node.textContent.trim()).length"""
    )
    assert unnamed == 0
    seen = set()
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        seen.add(tab.page.evaluate("document.activeElement.name || document.activeElement.title"))
    assert {"view", "metric", "scale", "split", "plane", "limits", "clip", "linked", "theme"} <= seen
    tab.page.focus("#view-heatmap")
    tab.page.keyboard.press("ArrowLeft")
    tab.settle()
    assert tab.trace()["type"] == "contour"


def test_notebook_frame_draws(running: Any, tmp_path: Path) -> None:
    page = view([bowl(points=5, label="in a notebook")], metrics=[{}])
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f'<meta charset="utf-8"><h1>cell</h1>{page._repr_html_()}', encoding="utf-8")
    context = running.new_context()
    tab = context.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: "GL Driver" in message.text or problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(notebook.as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator("#status[hidden]").wait_for(state="attached", timeout=60_000)
    frame.locator('input[value="contour"]').check()
    frame.locator(".plot .xtitle").wait_for()
    assert frame.locator("h2").first.inner_text() == "in a notebook"
    context.close()
    assert problems == []


def test_large_grids_and_single_rows(open_page: Open) -> None:
    surfaces = [
        bowl(label="large", points=201),
        bowl(label="one row", points=(1, 11)),
        bowl(label="point", points=(1, 1)),
    ]
    tab = open_page(surfaces, "#view=heatmap")
    assert len(tab.trace()["z"]) == 201
    assert len(tab.trace(index=1)["z"]) == 11
    assert os.path.getsize(tab.address.removeprefix("file://")) < 6e6
