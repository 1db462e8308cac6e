"""The page for everyone: axe-core in both themes, keyboard alone, a phone's screen, tables to copy."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from browser import Tab, Tabs
from viewer_surfaces import bowl, with_curvature, with_path

pytestmark = pytest.mark.browser

PATH = ([0.8, 0.2, 0.0], [-0.6, 0.3, 0.0], ["step 0", "step 1", "step 2"])
ALL = [
    with_curvature(
        with_path(bowl(label="everything", points=11, interpolate=True, splits=("test", "train")), *PATH)
    ),
    bowl(label="holes", points=11, nan=True, inf=True, splits=("test", "train"), seeds=(0, 1)),
    *(bowl(label=f"line {k}", points=(11, 1), ripple=0.1 * k) for k in range(2)),
]
ROWS: list[dict[str, Any]] = [
    {"Ra": (0.5, 0.4, 0.6), "lambda_max": 40.0},
    {"Ra": 0.1, "note": "a|b*"},
    {"Ra": float("inf")},
    {},
]
PHONE = {"width": 390, "height": 844}
AXE = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  if (found.passes.length < 15) return ["axe checked too little"];
  return found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => [id, ...nodes.map((node) => `${node.target}: ${node.failureSummary}`)]);
}"""


@pytest.fixture
def tab(tabs: Tabs) -> Tab:
    """Every control and every section of the page."""
    tab = tabs.get("all", ALL, fragment="#view=contour&pick=0.2,0.2", metrics=ROWS)
    tab.page.set_viewport_size({"width": 1280, "height": 900})
    tab.visit("#view=contour")
    tab.page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    return tab


@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab: Tab, theme: str, size: dict[str, int]) -> None:
    tab.page.set_viewport_size(size)
    tab.visit(f"#view=contour&theme={theme}&pick=0.2,0.2&metric=lambda_min&reference=0&path=1")
    tab.page.evaluate("document.getElementById('provenance').open = true")
    tab.page.click(".downloads > button")
    tab.settle()
    if not tab.page.evaluate("'axe' in globalThis"):
        axe = files("axe_playwright_python") / "axe.min.js"
        tab.page.evaluate(axe.read_text(encoding="utf-8"))
    assert tab.page.evaluate(AXE) == []
    tab.visit(f"#view=3d&theme={theme}")
    assert tab.page.evaluate(AXE) == []


def focused(tab: Tab) -> str:
    """What the focus is on: id, or name, or text."""
    return str(
        tab.page.evaluate(
            """(({ id, name, className, textContent }) => id || name || className || textContent)(
              document.activeElement)"""
        )
    )


def test_keyboard_reaches_everything(tab: Tab) -> None:
    tab.visit("#view=contour&pick=0.2,0.2")
    tab.page.focus("#page-controls button")
    seen = [focused(tab)]
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        seen.append(focused(tab))
    wanted = {"view-contour", "metric", "scale-linear", "split-test", "plane", "reference", "limits-shared"}
    wanted |= {"clip", "pick-0", "pick-1", "linked", "computed", "path", "theme-auto", "plot js-plotly-plot"}
    wanted |= {"Copy table", "Copy Markdown", "scroll", "Download", "Close", "Cuts ↓"}
    assert wanted - set(seen) == set()
    assert seen.count("plot js-plotly-plot") >= 3


def test_keys_turn_and_zoom_the_camera(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 800, "height": 500})
    tab.visit("#view=3d")
    tab.page.focus(".plot")
    before = np.array(tab.eye())
    tab.page.keyboard.press("ArrowRight")
    tab.settle()
    turned = np.array(tab.eye())
    angle = np.arctan2(turned[1], turned[0]) - np.arctan2(before[1], before[0])
    assert np.degrees(angle) == pytest.approx(5, abs=0.01)
    np.testing.assert_allclose(tab.eye(1), turned, atol=1e-6)  # linked
    tab.page.keyboard.press("+")
    tab.settle()
    centre = np.array([0, 0, -0.2])
    near = tab.eye()
    ratio = np.linalg.norm(np.array(near) - centre) / np.linalg.norm(turned - centre)
    assert ratio == pytest.approx(0.85, abs=1e-6)
    tab.page.keyboard.press("ArrowUp")
    tab.settle()
    assert tab.eye()[2] > near[2]
    tab.page.keyboard.press("0")
    tab.settle()
    np.testing.assert_allclose(tab.eye(), before, atol=1e-6)


def test_keys_move_maps_lines_and_the_point(tab: Tab) -> None:
    def ranges(index: int) -> list[float]:
        return [float(value) for value in tab.figure(index)["layout"]["xaxis"]["range"]]

    tab.page.focus(".plot")
    tab.page.keyboard.press("=")
    tab.settle()
    np.testing.assert_allclose(ranges(1), [-0.85, 0.85])
    tab.page.keyboard.press("ArrowRight")
    tab.settle()
    np.testing.assert_allclose(ranges(0), [-0.68, 1.02])
    tab.page.keyboard.press("Home")
    tab.settle()
    np.testing.assert_allclose(ranges(0), [-1, 1])
    for key, alpha, beta in (("Right", 0, 0), ("Right", 0.2, 0), ("Down", 0.2, -0.2), ("Left", 0, -0.2)):
        tab.page.keyboard.press(f"Shift+Arrow{key}")
        tab.settle()
        assert tab.trace("pick")["x"] == [pytest.approx(alpha, abs=1e-9)]
        assert tab.trace("pick")["y"] == [pytest.approx(beta, abs=1e-9)]
    tab.page.keyboard.press("Escape")
    tab.settle()
    assert "pick" not in tab.names()
    tab.page.focus(".panel:nth-child(3) .plot")
    tab.page.keyboard.press("-")
    tab.settle()
    np.testing.assert_allclose(ranges(2), [-1 / 0.85, 1 / 0.85])
    tab.page.keyboard.press("0")
    tab.settle()


def test_downloads_by_keyboard(tab: Tab) -> None:
    tab.page.focus(".downloads > button")
    tab.page.keyboard.press("Enter")
    assert tab.page.get_attribute(".downloads > button", "aria-expanded") == "true"
    for _ in range(3):
        tab.page.keyboard.press("Tab")
    with tab.page.expect_download() as found:
        tab.page.keyboard.press("Enter")
    assert found.value.suggested_filename == "everything.csv"
    assert tab.page.get_attribute(".downloads > button", "aria-expanded") == "false"
    assert "Download" in tab.page.evaluate("document.activeElement.textContent")


def test_table_by_keyboard_and_as_markdown(tab: Tab) -> None:
    heads = [one.inner_text() for one in tab.page.query_selector_all("thead th")]
    assert heads == ["surface", "Ra", "λmax", "mask", "plane", "note"]
    tab.page.focus("thead button:has-text('Ra')")
    tab.page.keyboard.press("Space")
    assert tab.page.get_attribute("thead th:nth-child(2)", "aria-sort") == "ascending"
    tab.page.keyboard.press("Space")
    assert tab.page.get_attribute("thead th:nth-child(2)", "aria-sort") == "descending"
    tab.page.keyboard.press("Space")
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.page.click("text=Copy Markdown")
    tab.page.wait_for_selector("button:has-text('Copied')")
    lines = tab.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "| surface | Ra | λmax | mask | plane | note |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- |"
    assert lines[2].startswith("| holes | 0.1 | — |")
    assert lines[2].endswith(r"| a\|b\* |")
    assert lines[3].startswith(r"| everything | 0.5 \[0.4 to 0.6\] | 40 |")


@pytest.mark.parametrize("view", ["3d", "contour", "heatmap"])
def test_phone_shows_everything_in_its_width(tab: Tab, view: str) -> None:
    tab.page.set_viewport_size(PHONE)
    tab.visit(f"#view={view}&pick=0.2,0.2")
    tab.page.evaluate("document.getElementById('cuts').scrollIntoView({ behavior: 'instant' })")
    tab.page.evaluate(
        """async () => {
          const frame = () => new Promise(requestAnimationFrame);
          while (!(document.querySelector("#cut-1 .main-svg")?.clientWidth <= 390)) await frame();
        }"""
    )
    tab.settle()
    tab.page.click(".downloads > button")
    assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= 390
    outside = tab.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, .plot, .cut, .main-svg, .menu")]
          .filter((node) => !node.closest(".scroll, .spare"))
          .filter((node) => node.getBoundingClientRect().left < 0 || node.getBoundingClientRect().right > 390)
          .map((node) => node.outerHTML.slice(0, 200))"""
    )
    assert outside == []
    smallest = tab.page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("button, input, select, .key, .readout, text")]
          .filter((node) => node.textContent.trim() && node.checkVisibility())
          .map((node) => parseFloat(getComputedStyle(node).fontSize)))"""
    )
    assert smallest >= 11
