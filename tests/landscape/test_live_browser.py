"""The live page in a real browser: it refines itself, and whatever the user set stays."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import PATIENCE, Tab, chromium
from command import ROOT, gated_linear, save_images, start
from viewer_surfaces import bowl

from landscape.surface import Surface, load_surface
from landscape.viewer import live as module
from landscape.viewer import serve, view
from landscape.viewer.live import LivePage

pytestmark = pytest.mark.browser

_BOTH: dict[str, Any] = {"points": 9, "splits": ("test", "train"), "seeds": (0, 1)}
FIRST = bowl(label="first", **_BOTH)
SECOND = bowl(label="second", depth=0.8, **_BOTH)
LINE = bowl(label="line", points=(9, 1))
# Computed points in the figures: those that are marked while others are missing, or all.
SHOWN = """() => [...document.querySelectorAll(".plot")].reduce((sum, plot) => sum
  + (plot.data?.find((one) => one.name === "computed")?.x.length ?? 625 * Boolean(plot.data)), 0)"""
TEXTS = ["#title", "#summary", "#panels", "#cuts", "#metrics", "#controls"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser for all tests here."""
    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files often."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(module, "SHARE", 1.0)


def unfinished(surface: Surface, planes: int = 1) -> Surface:
    """The surface in the middle of its computation: every third point, the last planes not begun."""
    coarse = np.zeros(surface.planes[0].computed.shape, bool)
    coarse[::2, ::2] = True
    begun = [replace(plane, computed=coarse) for plane in surface.planes[:planes]]
    return replace(surface, planes=tuple(begun), complete=False)


def refreshes(tab: Tab) -> int:
    """How often the page was brought up to date."""
    return int(tab.page.evaluate("Number(document.documentElement.dataset.refreshed ?? 0)"))


def save(surface: Surface, path: Path, tab: Tab) -> None:
    """Write the file and wait until the page shows it."""
    before = refreshes(tab)
    surface.save(path)
    await_refresh(tab, before)


def await_refresh(tab: Tab, before: int) -> None:
    tab.page.wait_for_function(
        "before => Number(document.documentElement.dataset.refreshed ?? 0) > before",
        arg=before,
        timeout=PATIENCE,
    )
    tab.settle()


def await_state(tab: Tab, state: str, patience: int = PATIENCE) -> None:
    tab.page.wait_for_selector(f'html[data-live="{state}"]', timeout=patience)
    tab.settle()


@contextmanager
def following(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python -m landscape.viewer --live`` on a file, and the address of its page."""
    with subprocess.Popen(
        [sys.executable, "-m", "landscape.viewer", str(path), "--live"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # Where the tests run in a shell's background, Ctrl-C is ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        try:
            yield child, address_of(child)
        finally:
            child.kill()


def address_of(child: subprocess.Popen[str]) -> str:
    """The address that a command prints."""
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if found := re.search(r"live page: (\S+)", line):
            return found[1]
    raise AssertionError("".join(said))


def said(tab: Tab) -> dict[str, str]:
    """All that the page says, but how the computation goes."""
    tab.page.mouse.move(0, 0)
    found = {one: tab.page.inner_text(one) for one in TEXTS} | {"name": tab.page.title()}
    return found | {"provenance": tab.page.text_content("#provenance")}  # folded up


def test_grows_in_place_and_ends_as_the_static_page(browser: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.surface.h5" for name in ("first", "second", "line")]
    with LivePage(paths, port=0) as live:
        unfinished(SECOND).save(paths[1])
        tab = Tab(browser, live.address, "#view=heatmap")
        assert tab.text("#title") == "second"
        assert "1 incomplete" in tab.text("#summary")
        assert tab.page.query_selector("#control-plane") is None
        tab.choose("metric", "accuracy")
        tab.page.click("thead th:nth-child(1) button")
        tab.page.click("thead th:nth-child(1) button")
        tab.page.fill("#pick-0", "0.25")  # being typed
        tab.page.evaluate("scrollTo(0, 40)")
        node = tab.page.query_selector(".panel")

        save(unfinished(FIRST), paths[0], tab)  # comes later, but stands first
        assert tab.page.eval_on_selector_all("h2", "all => all.map((one) => one.textContent)")[:2] == [
            "first",
            "second",
        ]
        assert node.evaluate("(node) => node.isConnected && node.querySelector('.plot').data.length > 0")
        assert [tab.page.input_value("#pick-0"), tab.page.evaluate("document.activeElement.id")] == [
            "0.25",
            "pick-0",
        ]
        assert tab.page.get_attribute("thead th:nth-child(1)", "aria-sort") == "descending"
        assert tab.page.evaluate("scrollY") == 40
        save(LINE, paths[2], tab)
        save(SECOND, paths[1], tab)
        assert tab.page.is_visible("#control-plane")
        assert "direction seed 1" in tab.text("#control-plane")
        save(FIRST, paths[0], tab)
        assert tab.trace()["type"] == "heatmap"
        np.testing.assert_allclose(np.array(tab.trace()["z"]).T, FIRST.accuracy, rtol=1e-5)
        before = refreshes(tab)
        live.finish([FIRST, SECOND, LINE], tmp_path / "kept.html")
        await_state(tab, "finished")
        await_refresh(tab, before)
        assert "kept.html" in tab.text("#live")
    fragment = tab.page.evaluate("location.hash")
    assert "metric=accuracy" in fragment
    page = view([FIRST, SECOND, LINE]).save(tmp_path / "kept.html")
    static = Tab(browser, page, fragment)
    static.page.click("thead th:nth-child(1) button")
    static.page.click("thead th:nth-child(1) button")
    assert said(tab) == said(static)
    for index in range(3):
        assert tab.figure(index) == static.figure(index)
    assert tab.problems == static.problems == []


def test_a_surface_may_get_another_label(browser: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"run{k}.surface.h5" for k in (0, 1)]
    final = bowl(label="final", points=5)
    final.save(paths[0])
    with LivePage(paths, port=0) as live:
        tab = Tab(browser, live.address, "#view=heatmap")
        assert tab.text("h2") == "final"
        save(final, paths[1], tab)  # now it takes the files' names to tell them apart
        heads = tab.page.eval_on_selector_all("#panels h2", "all => all.map((one) => one.textContent)")
        assert heads == ["run0", "run1"]
        assert tab.page.get_attribute(".downloads > button", "aria-label") == "Download run0"
        live.finish()
        await_state(tab, "finished")
        assert tab.problems == []


def test_a_figure_that_is_being_dragged_is_left_alone(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "first.surface.h5"
    unfinished(FIRST).save(path)
    with LivePage([path], port=0) as live:
        tab = Tab(browser, live.address, "#view=contour")
        before = refreshes(tab)
        tab.page.mouse.move(*tab.point(-0.5, -0.5))
        tab.page.mouse.down()
        tab.page.mouse.move(*tab.point(0.5, 0.5))
        FIRST.save(path)
        tab.page.wait_for_function(
            "() => document.getElementById('live').textContent.includes('162 points')", timeout=PATIENCE
        )
        assert refreshes(tab) == before
        tab.page.mouse.up()
        await_refresh(tab, before)
        tab.page.wait_for_function("() => location.hash.includes('zoom')")
        zoom = tab.figure()["layout"]["xaxis"]["range"]
        np.testing.assert_allclose(zoom, [-0.5, 0.5], atol=0.02)
        live.finish([FIRST])
        await_state(tab, "finished")
        assert tab.figure()["layout"]["xaxis"]["range"] == zoom
        assert tab.problems == []


def test_scale_follows_the_values_until_the_user_chooses(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "walls.surface.h5"
    values = bowl(label="walls", points=9)
    steep = bowl(label="walls", points=9)
    steep.loss[:] = np.exp(4 * steep.loss)
    with LivePage([path], port=0) as live:
        values.save(path)
        tab = Tab(browser, live.address, "#view=heatmap")
        assert tab.page.is_checked("#scale-linear")
        save(steep, path, tab)
        assert tab.page.is_checked("#scale-log")
        assert "log scale" in tab.trace()["colorbar"]["title"]["text"]
        tab.choose("scale", "linear")
        save(values, path, tab)
        save(steep, path, tab)
        assert tab.page.is_checked("#scale-linear")
        assert tab.problems == []


def test_the_reference_stays_who_it_is_when_another_comes_before_it(browser: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.surface.h5" for name in "abc"]
    third = bowl(label="third", ripple=0.4, **_BOTH)
    SECOND.save(paths[1])
    third.save(paths[2])
    with LivePage(paths, port=0) as live:
        tab = Tab(browser, live.address, "#view=heatmap&reference=0")
        save(FIRST, paths[0], tab)
        assert tab.page.input_value("#reference") == "1"
        assert tab.page.eval_on_selector("#reference", "menu => menu.selectedOptions[0].text") == "second"
        expected = third.loss - SECOND.loss
        np.testing.assert_allclose(np.array(tab.trace(index=2)["z"]).T, expected, atol=1e-4)
        tab.page.wait_for_function("() => location.hash.includes('reference=1')", timeout=PATIENCE)
        live.finish([FIRST, SECOND, third])
        await_state(tab, "finished")
        assert tab.problems == []


def test_without_its_server_the_page_says_so_and_keeps_what_it_has(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "first.surface.h5"
    unfinished(FIRST).save(path)
    with following(path) as (child, address):
        tab = Tab(browser, address, "#view=heatmap")
        assert tab.problems == []
        child.kill()
        await_state(tab, "lost")
    assert "What is here stays" in tab.text("#live")
    assert tab.page.title() == "first"
    tab.choose("metric", "accuracy")
    np.testing.assert_allclose(np.array(tab.trace()["z"]).T, FIRST.accuracy, rtol=1e-5)
    assert all("ERR_" in problem for problem in tab.problems)  # of the connection, nothing else


@pytest.mark.slow
def test_the_commands_page_from_the_first_points_to_the_last(browser: Any, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save(gated_linear().state_dict(), tmp_path / name)
    save_images(tmp_path / "images.npz")
    arguments = [
        "a.pt",
        "b.pt",
        "--model",
        "command:gated_linear",
        "--data",
        "npz:images.npz",
        "--threads",
        "1",
    ]
    with start(*arguments, "--points", "25", "--exact", "--no-plot", "--live", folder=tmp_path) as child:
        try:
            tab = Tab(browser, address_of(child), "#view=3d&computed=1")
            assert tab.page.get_attribute("html", "data-live") == "computing"
            before = tab.page.evaluate(SHOWN)
            tab.drag()
            eye = tab.eye()
            (tmp_path / "go").touch()
            tab.page.wait_for_function(f"before => ({SHOWN})() > before", arg=before, timeout=PATIENCE)
            tab.settle()
            np.testing.assert_allclose(tab.eye(), eye, rtol=1e-9)  # a redraw may round anew
            await_state(tab, "finished", 5 * PATIENCE)  # it computes as long as it computes
            tab.page.wait_for_function(
                "() => !document.getElementById('summary').textContent.includes('incomplete')",
                timeout=PATIENCE,
            )
            tab.settle()
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0, err
    assert "wrote surfaces/comparison.html" in out
    for index in range(2):
        np.testing.assert_allclose(tab.eye(index), eye, atol=1e-3)
    static = Tab(browser, tmp_path / "surfaces" / "comparison.html", tab.page.evaluate("location.hash"))
    for index in range(2):
        live, kept = tab.figure(index), static.figure(index)
        assert live["data"] == kept["data"]
    assert said(tab) == said(static)
    assert load_surface(tmp_path / "surfaces" / "b.surface.h5").complete
    assert tab.problems == static.problems == []


def test_ctrl_c_leaves_the_page_as_it_is(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "first.surface.h5"
    unfinished(FIRST).save(path)
    with following(path) as (child, address):
        tab = Tab(browser, address, "#view=heatmap")
        child.send_signal(signal.SIGINT)
        await_state(tab, "stopped")
        assert child.wait(timeout=60) == 130
    assert "What is here stays" in tab.text("#live")
    assert tab.problems == []


def test_served_pages_are_patient_by_default() -> None:
    assert 2 <= serve.PATIENCE_SECONDS <= 10
