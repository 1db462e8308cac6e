"""The viewer's page of four 51×51 surfaces in Chromium without a GPU: size, start, time to switch controls.

Usage: ``python tests/benchmarks/bench_viewer.py [repeats]``. Times are from the event to the frame after the
redraw, measured in the page: of the figures in sight (two of the four), and of all. "Start" is from the
navigation to the figures in sight drawn and controls that answer. Printed are the best and the median of the
repeats, and the machine's load, which slows everything.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "landscape"))

from browser import Tab, chromium
from viewer_surfaces import bowl, with_curvature, with_path

from landscape.viewer import view

TARGETS = {"size": 6.0, "start": 3.0, "switch": 200.0}  # MB, s, ms
# Milliseconds to the frame after the figures in sight are redrawn, and to the one after all are.
SWITCH = """async ([selector, value]) => {
  const node = document.querySelector(selector);
  const frame = () => new Promise(requestAnimationFrame);
  const start = performance.now();
  if (value === null) node.click();
  else {
    node.value = value;
    for (const kind of ["input", "change"]) node.dispatchEvent(new Event(kind, { bubbles: true }));
  }
  const { dataset } = document.documentElement;
  do await frame(); while (dataset.sight !== "drawn");
  await frame();
  const sight = performance.now() - start;
  while (dataset.busy !== "0") await frame();
  await frame();
  return [sight, performance.now() - start];
}"""
PAIRS: list[tuple[str, list[tuple[str, str | None]]]] = [
    ("quantity", [("#metric", "accuracy"), ("#metric", "loss")]),
    ("scale", [("#scale-log", None), ("#scale-linear", None)]),
    ("examples", [("#split-train", None), ("#split-test", None)]),
    ("difference", [("#reference", "0"), ("#reference", "")]),
    ("value range", [("#limits-own", None), ("#limits-shared", None)]),
    ("clip", [("#clip", "0.7"), ("#clip", "1")]),
    ("read-out", [("#pick-0", "0.4"), ("#pick-0", "")]),
    ("computed points", [("#computed", None), ("#computed", None)]),
    ("path", [("#path", None), ("#path", None)]),
    ("theme", [("#theme-dark", None), ("#theme-light", None)]),
]
VIEWS = ("3d", "contour", "heatmap")


def page(folder: Path) -> Path:
    """Four surfaces with two splits, eigenvalue maps and a path, a tenth of the points computed."""
    surfaces = [
        with_path(
            with_curvature(
                bowl(
                    label=f"network {k}",
                    points=51,
                    depth=0.3 + 0.2 * k,
                    splits=("test", "train"),
                    interpolate=True,
                ),
                every=5,
            ),
            [0.9, 0.5, 0.2, 0.0],
            [-0.7, 0.1, 0.2, 0.0],
            [f"step {step}" for step in range(4)],
        )
        for k in range(4)
    ]
    return view(surfaces).save(folder / "four.html")


def start(browser: Any, path: Path) -> float:
    """Seconds from the navigation to the figures drawn, by the page's own clock."""
    tab = Tab(browser, path)
    mark = "performance.getEntriesByName('figures drawn')[0].startTime"
    seconds = float(tab.page.evaluate(mark)) / 1000
    tab.context.close()
    return seconds


def switches(tab: Tab, repeats: int) -> dict[tuple[str, str], list[list[float]]]:
    """Milliseconds for each control in each view."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(repeats):
        for view_name in VIEWS:
            if tab.page.is_checked(f"#view-{view_name}"):  # at first
                tab.page.evaluate(SWITCH, ["#view-heatmap", None])
            step = [f"#view-{view_name}", None]
            found.setdefault(("view", view_name), []).append(tab.page.evaluate(SWITCH, step))
            for name, steps in PAIRS:
                times = [tab.page.evaluate(SWITCH, list(step)) for step in steps]
                found.setdefault((name, view_name), []).extend(times)
    return found


def main() -> None:
    """Measure and print."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = page(Path(folder))
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"size: {path.stat().st_size / 1e6:.2f} MB (target {TARGETS['size']:.0f})")
        starts = [start(browser, path) for _ in range(repeats)]
        best, middle = min(starts), statistics.median(starts)
        print(f"start: best {best:.2f} s, median {middle:.2f} s (target {TARGETS['start']:.0f})")
        tab = Tab(browser, path)
        found = switches(tab, repeats)
        for which, title in enumerate(("in sight", "all four")):
            print(f"switching, {title}, ms: best / median of {2 * repeats} (target {TARGETS['switch']:.0f})")
            print(f"{'control':<16}" + "".join(f"{name:>14}" for name in VIEWS))
            for name in ["view", *(name for name, _ in PAIRS)]:
                cells = [[pair[which] for pair in found.get((name, one), [])] for one in VIEWS]
                shown = [f"{min(cell):>8.0f} /{statistics.median(cell):>4.0f}" for cell in cells]
                print(f"{name:<16}" + "".join(shown))
        print(f"load after: {os.getloadavg()[0]:.1f}; console and network: {tab.problems or 'silent'}")


if __name__ == "__main__":
    main()
