"""The system's Chromium, driven by Playwright, for tests of the viewer's page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landscape.surface import Surface
from landscape.viewer import view

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-first-run",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")
# The software renderer's own remark about its speed; pages can't avoid it.
DRIVER_REMARK = "GL Driver Message"
PATIENCE = 60_000  # milliseconds; a machine whose cores are busy draws slowly without a GPU

FIGURE = """index => {
  const plot = document.querySelectorAll(".plot")[index];
  const list = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
  return JSON.parse(JSON.stringify({ data: plot.data ?? [], layout: plot.layout ?? {} }, list));
}"""

# Resolves when the camera of a 3D figure has stood still for ten frames, or half a minute has passed.
# What is drawn and what the page keeps must both have come to rest: each lags behind the mouse.
STILL = """async index => {
  const frame = () => new Promise(requestAnimationFrame);
  const plot = document.querySelectorAll(".plot")[index];
  const panel = plot.parentElement.panel;
  const drawn = () => plot._fullLayout.scene._scene.getCamera().eye;
  const alike = (one, other) => ["x", "y", "z"].every((axis) => Math.abs(one[axis] - other[axis]) < 1e-8);
  const until = performance.now() + 30_000;
  let [same, last] = [0, drawn()];
  while (same < 10 && performance.now() < until) {
    await frame();
    const now = drawn();
    same = alike(now, last) && (!panel.camera || alike(now, panel.camera.eye)) ? same + 1 : 0;
    last = now;
  }
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; skips the test where there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """A page opened from disk or an address; remembers what the console said and what was requested."""

    def __init__(self, browser: Any, path: Path | str, fragment: str = "", **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._request)
        self.address = path if isinstance(path, str) else path.as_uri()
        self.page.goto(self.address + fragment)
        self.settle()

    def _console(self, message: Any) -> None:
        if DRIVER_REMARK not in message.text:
            self.problems.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:", "data:", "about:srcdoc")):
            self.problems.append(f"request: {request.url}")

    def settle(self) -> None:
        """Wait until everything in sight is drawn."""
        self.page.wait_for_selector("#status[hidden]", state="attached", timeout=PATIENCE)
        self.page.wait_for_selector('html[data-busy="0"]', timeout=PATIENCE)

    def visit(self, fragment: str) -> None:
        """Start from another view; what the fragment doesn't name goes back to its default."""
        # The page keeps its view in the address 200 ms late; a hash that is still equal changes nothing.
        self.page.evaluate(
            """async fragment => {
              await new Promise((done) => setTimeout(done, 250));
              location.hash = fragment;
            }""",
            fragment,
        )
        self.page.wait_for_timeout(50)
        self.settle()

    def click(self, selector: str) -> None:
        """Use a control as a mouse does, and wait for the drawing."""
        self.page.click(selector)
        self.settle()

    def choose(self, key: str, value: str) -> None:
        """Choose among radio buttons, or in the menu that stands for many of them."""
        if self.page.query_selector(f"select#{key}"):
            self.page.select_option(f"#{key}", value)
        else:
            self.page.check(f'input[name="{key}"][value="{value}"]')
        self.settle()

    def figure(self, index: int = 0) -> dict[str, Any]:
        """Plotly's traces and layout of one panel."""
        figure: dict[str, Any] = self.page.evaluate(FIGURE, index)
        return figure

    def trace(self, name: str = "surface", index: int = 0) -> dict[str, Any]:
        """The trace of that name in one panel."""
        return next(trace for trace in self.figure(index)["data"] if trace["name"] == name)

    def names(self, index: int = 0) -> list[str]:
        """Names of the traces in one panel."""
        return [trace["name"] for trace in self.figure(index)["data"]]

    def text(self, selector: str) -> str:
        """Text of the first element that matches."""
        return str(self.page.inner_text(selector))

    def point(self, alpha: float, beta: float, index: int = 0) -> tuple[float, float]:
        """Where on the screen a point of a flat figure is."""
        where: list[float] = self.page.evaluate(
            """([index, alpha, beta]) => {
              const plot = document.querySelectorAll(".plot")[index];
              const { xaxis, yaxis } = plot._fullLayout;
              const box = plot.getBoundingClientRect();
              return [box.x + xaxis._offset + xaxis.d2p(alpha), box.y + yaxis._offset + yaxis.d2p(beta)];
            }""",
            [index, alpha, beta],
        )
        return where[0], where[1]

    def drag(self, index: int = 0, by: tuple[int, int] = (60, 30)) -> None:
        """Turn a 3D figure with the mouse, as slowly as a hand: Plotly loses what happens within a frame."""
        box = self.page.query_selector_all(".plot")[index].bounding_box()
        x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for step in range(1, 9):
            self.page.mouse.move(x + by[0] * step / 8, y + by[1] * step / 8)
            self.page.wait_for_timeout(30)
        self.page.mouse.up()
        self.page.evaluate(STILL, index)  # drawing in software lags behind the mouse
        self.settle()

    def eye(self, index: int = 0) -> list[float]:
        """Where the camera of a 3D figure stands."""
        found: list[float] = self.page.evaluate(
            """index => {
              const { eye } = document.querySelectorAll(".plot")[index]._fullLayout.scene._scene.getCamera();
              return [eye.x, eye.y, eye.z];
            }""",
            index,
        )
        return found


class Tabs:
    """One browser and its tabs. A tab serves several tests: opening one costs seconds without a GPU."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.open: dict[str, Tab] = {}

    def get(self, name: str, surfaces: Sequence[Surface], **options: Any) -> Tab:
        """The tab of that name, opened on first use; `metrics` and `title` are `view`'s, the rest `Tab`'s."""
        if name not in self.open:
            words = {"metrics": [{} for _ in surfaces]} | {
                key: options.pop(key) for key in ("metrics", "title") if key in options
            }
            path = view(surfaces, **words).save(self.folder / f"{name}.html")
            self.open[name] = Tab(self.browser, path, **options)
        return self.open[name]


def grid(trace: dict[str, Any]) -> Any:
    """The values of a flat trace as ``[alpha, beta]``, NaN where there is none."""
    return np.array(trace["z"], dtype=float).T
