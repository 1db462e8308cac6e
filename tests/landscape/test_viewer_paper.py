"""The page on paper, and the table of few surfaces with many metrics."""

from __future__ import annotations

import io

import numpy as np
import pytest
from browser import Tab, Tabs
from PIL import Image
from viewer_surfaces import bowl, with_curvature

from landscape.surface.summary import metrics

pytestmark = pytest.mark.browser

SURFACES = [
    bowl(label="line", points=(9, 1)),
    *(with_curvature(bowl(label=f"network {k}", points=9, splits=("test", "train"))) for k in range(2)),
]
PAPER = {"width": 700, "height": 1000}  # A4 between its margins, in CSS pixels


@pytest.fixture
def tab(tabs: Tabs) -> Tab:
    """A line and two surfaces with eigenvalues on two splits: 16 columns."""
    rows = [metrics(surface) for surface in SURFACES]
    return tabs.get("paper", SURFACES, metrics=rows, fragment="#pick=0.25,0.25")


def test_panels_stand_in_the_order_given(tab: Tab) -> None:
    assert [one.inner_text() for one in tab.page.query_selector_all(".panel h2")] == [
        "line",
        "network 0",
        "network 1",
    ]


def test_a_table_of_many_columns_stands_upright_and_fits(tab: Tab) -> None:
    assert [one.inner_text() for one in tab.page.query_selector_all("thead th")][1:] == [
        "line",
        "network 0",
        "network 1",
    ]
    left, right = tab.page.eval_on_selector(".scroll", "box => [box.scrollWidth, box.clientWidth]")
    assert left <= right
    row = "tr:has(button:text-is('highest loss'))"
    order = "row => [...document.querySelectorAll('thead th')].slice(1).map((one) => one.textContent)"
    tab.page.focus(f"{row} button")
    tab.page.keyboard.press("Enter")
    rising = sorted(SURFACES, key=lambda one: one.loss.max())
    assert tab.page.evaluate(order) == [surface.label for surface in rising]
    assert tab.page.get_attribute(f"{row} th", "aria-sort") == "ascending"
    assert tab.page.evaluate("document.activeElement.textContent") == "highest loss"
    shown = [float(one.inner_text()) for one in tab.page.query_selector_all(f"{row} td")]
    np.testing.assert_allclose(shown, [surface.loss.max() for surface in rising], rtol=1e-3)
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate(order) == [surface.label for surface in rising[::-1]]


def test_accuracy_has_one_form(tab: Tab) -> None:
    accuracy = 100 * SURFACES[1].accuracy.max()
    cells = tab.page.query_selector_all("tr:has(button:text-is('accuracy (test)')) td")
    assert f"{accuracy:.1f} %" in [one.inner_text().split("\n")[0] for one in cells]
    assert "90 %" in tab.text("tr:has(button:text-is('sparsity')) td")


def test_on_paper_every_figure_is_a_picture_that_fits(tab: Tab) -> None:
    tab.page.set_viewport_size(PAPER)
    tab.settle()
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    stills = tab.page.query_selector_all(".still")
    assert len(stills) == 5  # three panels and two cuts
    for still in stills:
        box = still.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PAPER["width"]
        picture = Image.open(io.BytesIO(still.screenshot())).convert("RGB")
        colours = {tuple(color) for color in np.asarray(picture)[::3, ::3].reshape(-1, 3).tolist()}
        assert len(colours) > 12, "an empty figure"
    pictures = tab.page.query_selector_all(".still img")
    assert len(pictures) == 2  # of the 3D views
    assert not any(one.is_visible() for one in tab.page.query_selector_all(".plot, .controls, .downloads"))
    width = tab.page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= PAPER["width"]
    names = "all => all.map((one) => one.id)"
    copied = tab.page.eval_on_selector_all(".still [id]", names)
    assert copied
    assert not set(copied) & set(tab.page.eval_on_selector_all(":not(.still *)[id]", names))
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.page.emulate_media(media="screen")
    tab.settle()
    assert tab.page.query_selector(".still") is None
    assert tab.page.is_visible(".plot")
    assert tab.problems == []


def test_what_was_never_in_sight_is_printed_too(tabs: Tabs) -> None:
    surfaces = [bowl(label=f"network {k}", points=4) for k in range(24)]
    tab = tabs.get("much paper", surfaces, viewport={"width": 1000, "height": 500})
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert (
        tab.page.evaluate("document.querySelectorAll('.still .contour, .still .contourlayer').length") >= 24
    )
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
