"""What a notebook or an interpreter shows of results: short lines, a table, a picture, a page once."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from math import inf, nan
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from viewer_surfaces import bowl

import landscape
from analysis.hessian import hessian_spectrum
from analysis.hessian.trace import Estimate as Sampled
from analysis.roughness import roughness
from analysis.sharpness import sharpness
from analysis.statistics.uncertainty import Estimate
from landscape.errors import UserError
from landscape.intervals import with_interval
from landscape.progress import Progress, watching
from landscape.surface import Surface

HOSTILE = "<script>alert(1)</script>\x1b[31m"
NET = torch.nn.Linear(4, 3)
DATA = (torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)


def test_a_surface_is_a_line() -> None:
    surface = bowl(label="net", points=(13, 9), seeds=(0, 1), splits=("test", "train"))
    assert repr(surface) == (
        f"Surface('net', 13×9 points, α, β from -1 to 1, 2 planes, loss {0.3:.4g} to "
        f"{max(surface.metric(plane=k).values.max() for k in (0, 1)):.4g} on test, complete)"
    )
    assert "α from -1 to 1, 1 plane" in repr(bowl(points=(5, 1)))
    assert repr(bowl(points=5, nan=True)).endswith("incomplete)")
    assert repr(Surface(np.zeros(1), np.zeros(1), ())).startswith("Surface('surface', 1 points")
    assert "\x1b" not in repr(bowl(label=HOSTILE, points=3))


def test_a_surface_is_a_small_table() -> None:
    text = bowl(label=HOSTILE, points=9, interpolate=True)._repr_html_()
    assert len(text) < 2000
    assert "<script" not in text
    assert "\x1b" not in text
    rows = dict(re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", text))
    assert rows["points"] == "9 computed, 72 interpolated"
    assert rows["accuracy at the centre"].startswith("92 [")
    assert {"Ra", "loss at the centre", "loss range", "plane", "examples", "stated error"} <= set(rows)
    assert "1 points" in Surface(np.zeros(1), np.zeros(1), ())._repr_html_()


@pytest.mark.parametrize(("label", "points"), [("plane", 7), ("line", (7, 1))])
def test_a_plot_shows_itself_where_nothing_knows_matplotlib(label: str, points: Any) -> None:
    picture = Image.open(io.BytesIO(bowl(label=label, points=points).plot()._repr_png_()))
    assert picture.format == "PNG"
    assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_a_page_is_kept_once() -> None:
    page = bowl(points=9, label="net").show()
    assert repr(page) == "Page(title='net')"
    assert len(page._repr_html_()) < 1.2 * len(page.html)


def test_other_results_are_lines_too() -> None:
    surface = bowl(points=9, label="net")
    found = roughness(surface)
    assert repr(found).startswith("Roughness of 'net', loss on test: ra ")
    assert str(found.ra) == f"{found.ra.value:.4g}"
    spectrum = hessian_spectrum(NET, DATA, top=2, density_probes=0)
    line = repr(spectrum)
    assert line.startswith("Spectrum of 'network', 15 weights, 40 examples: largest ")
    assert f"{spectrum.top.values[0]:.4g} ± " in line
    assert line.endswith(f"trace {spectrum.trace}")
    measured = sharpness(NET, DATA, measures=["sam"])["sam"]
    assert str(measured) == with_interval(measured.value, measured.low, measured.high)


@pytest.mark.parametrize(
    ("estimate", "line"),
    [
        (Estimate(0.03371, 0.0191, 0.0483), "0.034 [0.019, 0.048]"),
        (Estimate(1234.5, 1100.0, 1369.0), "1234 [1100, 1369]"),
        (Estimate(0.5), "0.5"),
        (Estimate(inf), "not finite"),
        (Estimate(nan), "not known"),
        (Estimate(2.0, 2.0, 2.0), "2"),
        (Sampled(3.2149, 0.05, 0.16), "3.21 [3.05, 3.37]"),
        (Sampled(3.2149), "3.215"),
    ],
)
def test_an_estimate_prints_its_interval(estimate: Estimate | Sampled, line: str) -> None:
    assert str(estimate) == line


def test_an_estimate_typed_says_what_it_is_made_of() -> None:
    found = repr(Estimate(0.034, 0.019, 0.048, stderr_examples=0.0061, error_interpolation=0.0))
    assert found == "Estimate(0.034 [0.019, 0.048]; examples ± 0.0061, interpolation 0)"
    assert repr(Estimate(0.5)) == "Estimate(0.5)"


# ------------------------------------------------------------------------------------------ progress


def compute(**options: Any) -> Surface:
    return landscape.compute_surface(NET, DATA, dim=1, points=5, exact_grid=True, **options)


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kernel of Jupyter's, as far as we ask for it; what its display holds, in turn."""
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)

    def display(first: str, *, display_id: bool) -> Any:
        assert display_id
        shown.append(first)
        return handle

    shell = SimpleNamespace(config={"IPKernelApp": {}})
    module = ModuleType("IPython.display")
    module.HTML, module.display = str, display  # type: ignore[attr-defined]
    package = ModuleType("IPython")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_shows_a_bar_that_goes_away(notebook: list[str]) -> None:
    compute(label=HOSTILE)
    assert notebook[0] == notebook[-1] == ""
    assert len(notebook) >= 3
    assert '<progress value="1" max="5"></progress>' in notebook[1]
    assert "1/5 points" in notebook[1]
    assert "<script" not in notebook[1]
    notebook.clear()
    hessian_spectrum(NET, DATA, top=1, density_probes=0)
    assert "products" in notebook[1]
    notebook.clear()
    sharpness(NET, DATA, measures=["sam"])
    assert "passes" in notebook[1]


def test_a_terminal_shows_a_bar_and_a_log_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compute()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    compute(label="a network")
    assert "a network" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    compute(progress=None)
    assert sys.stderr.getvalue() == ""


def test_a_listener_hears_every_point(notebook: list[str]) -> None:
    heard: list[Progress] = []
    compute(progress=heard.append)
    assert [one.done for one in heard] == [1, 2, 3, 4, 5]
    assert notebook == []
    with pytest.raises(UserError, match="expected 'auto', None or a function"):
        compute(progress="yes")


def test_an_interpreter_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("IPython")
    package.get_ipython = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    with watching("auto", "net") as listener:
        assert listener is None


def test_typing_a_surface_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np, landscape.surface as s\n"
        "repr(s.Surface(np.zeros(1), np.zeros(1), ()))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
