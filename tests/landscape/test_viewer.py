"""The page's data, files and command, without a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viewer_surfaces import bowl, with_curvature, with_path

from landscape.errors import UserError
from landscape.surface import Metric, Plane, Split, Surface
from landscape.viewer import told_apart, view
from landscape.viewer.__main__ import main
from landscape.viewer.page_data import payload

HOSTILE = "</script><script>alert(1)</script><!--\"'&\u2028\u2029🦊" + "x" * 300


def block(page: str, name: str) -> str:
    """Content of one of the page's script elements."""
    found = re.search(rf'<script[^>]*id="{name}"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found
    return found[1]


class Title(HTMLParser):
    """What a browser reads between <title> and </title>."""

    text = ""
    inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def one_metric(values: Any, **about: Any) -> Surface:
    """A surface with just these losses."""
    array = np.asarray(values, np.float64)
    metric = Metric(array, np.full(array.shape, np.nan), 0.0)
    plane = Plane(about, np.isfinite(array), {"all": Split(5, {"loss": metric})})
    return Surface(np.arange(array.shape[0]) - 1.0, np.arange(array.shape[1]) - 1.0, (plane,))


def test_payload_keeps_every_value() -> None:
    surface = bowl(points=(7, 5), splits=("test", "train"), seeds=(3, 4), interpolate=True)
    data = payload([surface], [{}])["surfaces"][0]
    assert (data["label"], data["dim"], data["center"], data["complete"]) == (surface.label, 2, (3, 2), True)
    for k, plane in enumerate(surface.planes):
        assert data["planes"][k]["name"] == f"direction seed {3 + k}"
        assert [bit == "1" for bit in data["planes"][k]["computed"]] == plane.computed.ravel().tolist()
        for shown, (name, split) in zip(data["planes"][k]["splits"], plane.splits.items(), strict=True):
            assert (shown["name"], shown["examples"]) == (name, 1000)
            for entry, (key, metric) in zip(shown["metrics"], split.metrics.items(), strict=True):
                assert entry["name"] == key
                np.testing.assert_allclose(entry["values"], metric.values.ravel(), rtol=5e-6)
                np.testing.assert_allclose(entry["stderr"], metric.stderr.ravel(), rtol=5e-3)
                assert entry["error"] == metric.error


def test_unknown_and_diverged_stay_distinct() -> None:
    entry = payload([one_metric([[1.0, np.nan], [np.inf, -np.inf]])], [{}])["surfaces"][0]["planes"][0]
    metric = entry["splits"][0]["metrics"][0]
    assert metric["values"] == [1.0, None, None, None]
    assert metric["diverged"] == [2, 3]
    assert metric["stderr"] is None
    assert metric["unit"] == ""  # nothing says that this loss is in nats


def test_equal_file_names_are_told_apart_by_folder(tmp_path: Path) -> None:
    files = [tmp_path / run / "out" / "final.surface.h5" for run in ("sgd", "s2sam")]
    for file in files:
        file.parent.mkdir(parents=True)
    surfaces = [bowl(label="final", points=3), bowl(label="final", points=3)]
    assert [one.label for one in told_apart(files, surfaces)] == ["sgd/out/final", "s2sam/out/final"]
    other = told_apart([*files, tmp_path / "x" / "final.surface.h5"], [*surfaces, bowl(label="x", points=3)])
    assert [one.label for one in other] == ["sgd/out/final", "s2sam/out/final", "x"]
    again = told_apart([files[0], files[0]], surfaces)  # numbered by the page
    assert [one.label for one in again] == ["final", "final"]


def test_equal_labels_are_told_apart(tmp_path: Path) -> None:
    shown = payload([bowl(label=name, points=3) for name in ("a", "b", "a")], [{}] * 3)["surfaces"]
    assert [one["label"] for one in shown] == ["a (1)", "b", "a (2)"]
    files = [str(bowl(label="final", points=3).save(tmp_path / f"run{k}.surface.h5")) for k in range(2)]
    main([*files, "-o", str(tmp_path / "page.html")])
    data = json.loads(block((tmp_path / "page.html").read_text(encoding="utf-8"), "payload"))
    assert [one["label"] for one in data["surfaces"]] == ["run0", "run1"]


def test_path_and_own_computed_points_are_carried() -> None:
    surface = with_curvature(with_path(bowl(points=5), [0.9, 0.1], [-2.0, 0.0], ["start", HOSTILE]))
    plane = payload([surface], [{}])["surfaces"][0]["planes"][0]
    places = {"alpha": [0.9, 0.1], "beta": [-2.0, 0.0]}
    assert plane["path"] == {**places, "labels": ["start", HOSTILE], "parts": [["", 2]]}
    assert plane["computed"] == "1" * 25
    computed = {one["name"]: one["computed"] for one in plane["splits"][0]["metrics"]}
    rows = ("10101", "00000", "10101", "00000", "10101")
    curvature = dict.fromkeys(("lambda_max", "lambda_min", "lambda_ratio"), "".join(rows))
    assert computed == {"loss": None, "accuracy": None} | curvature
    assert payload([bowl(points=3)], [{}])["surfaces"][0]["planes"][0]["path"] is None


def test_conditions_are_stated() -> None:
    shown = payload([bowl()], [{}])["surfaces"][0]["planes"][0]
    assert shown["notes"] == [
        "mask from the checkpoint, 90 % sparse",
        "filter-normalized",
        "direction seed 0",
    ]
    assert shown["axes"] == ["α (filter-normalized)", "β (filter-normalized)"]
    between = one_metric(
        [[1.0, 2.0]], kind="between", alpha_to="SWA", normalize="none (β: filter)", mask="none"
    )
    shown = payload([between], [{}])["surfaces"][0]["planes"][0]
    assert shown["axes"] == ["α (1 = SWA)", "β (filter-normalized)"]
    assert shown["notes"][0] == "no mask"
    assert shown["name"] == "towards SWA"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_rounding_is_small(values: list[float]) -> None:
    shown = payload([one_metric([values])], [{}])["surfaces"][0]["planes"][0]["splits"][0]["metrics"][0]
    np.testing.assert_allclose(shown["values"], values, rtol=5e-6)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1) | st.just(HOSTILE))
def test_no_name_leaves_its_place(name: str) -> None:
    page = view([bowl(label=name, points=3)], metrics=[{name: name}], title=name).html
    text = block(page, "payload")
    assert not set(text) & set("<>&\u2028\u2029")
    data = json.loads(text)
    assert data["surfaces"][0]["label"] == name
    assert data["columns"][0] == name
    title = Title()
    title.feed(page[: page.index("<style>")])
    assert title.text == name


def test_cells_of_the_metrics_table() -> None:
    row = {
        "plain": np.float32(0.5),
        "count": 3,
        "interval": (1.0, 0.5, 2.0),
        "open interval": (1.0, float("nan"), 2.0),
        "diverged": float("inf"),
        "absent": None,
        "word": "erk",
        "flag": True,
    }
    cells = payload([bowl(points=3)], [row])["surfaces"][0]["metrics"]
    assert cells == [
        {"name": "plain", "value": 0.5},
        {"name": "count", "value": 3.0},
        {"name": "interval", "value": 1.0, "low": 0.5, "high": 2.0},
        {"name": "open interval", "value": 1.0},
        {"name": "diverged", "text": "not finite"},
        {"name": "absent", "text": "—"},
        {"name": "word", "text": "erk"},
        {"name": "flag", "text": "yes"},
        {"name": "mask", "text": "mask from the checkpoint"},
        {"name": "plane", "text": "direction seed 0, filter-normalized"},
    ]


@pytest.mark.parametrize(
    ("seeds", "said"),
    [((3, 4), "3, 4"), ((0, 1, 2, 3), "0 to 3"), ((0, 1, 3), "0, 1, 3"), ((2, 1, 0), "2, 1, 0")],
)
def test_planes_by_their_seeds_in_a_few_words(seeds: tuple[int, ...], said: str) -> None:
    found = payload([bowl(points=3, seeds=seeds)], [{"Ra": 1.0}])["surfaces"][0]["metrics"]
    assert found[-1] == {"name": "plane", "text": f"direction seeds {said}, filter-normalized"}


def test_default_metrics_come_from_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = SimpleNamespace(metrics=lambda surface: {"Ra": 0.25})
    monkeypatch.setitem(sys.modules, "landscape.surface.summary", summary)
    assert json.loads(block(view([bowl(points=3)]).html, "payload"))["columns"] == ["Ra", "mask", "plane"]


def test_a_grid_without_roughness_is_shown() -> None:
    page = view([bowl(points=(1, 5), label="one row")])
    data = json.loads(block(page.html, "payload"))
    assert "Ra" not in data["columns"]
    assert "lowest loss" in data["columns"]
    assert data["surfaces"][0]["dim"] == 2


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="at least one"):
        view([])
    with pytest.raises(UserError, match="2 rows of metrics for 1 surfaces"):
        view([bowl(points=3)], metrics=[{}, {}])


def test_only_known_scripts_may_run() -> None:
    page = view([bowl(points=3)], metrics=[{}]).html
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    plotly = gzip.decompress(base64.b64decode(block(page, "plotly")))
    assert plotly.startswith(b"/**\n* plotly.js v")
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    for source in (plotly, script.encode()):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(source).digest()).decode()}'" in policy[1]


def test_four_large_surfaces_stay_below_six_megabytes() -> None:
    page = view([bowl(points=51, splits=("test", "train"))] * 4, metrics=[{}] * 4)
    assert len(page.html.encode()) < 6e6


def test_page_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = view([bowl(points=3)], metrics=[{}])
    path = page.save(tmp_path / "new" / "page.html")
    assert path.read_text(encoding="utf-8") == page.html
    monkeypatch.setattr("landscape.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match="unchanged"):
        view([bowl(points=5)], metrics=[{}]).save(path)
    assert path.read_text(encoding="utf-8") == page.html
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]


def test_notebooks_get_a_sandboxed_frame() -> None:
    page = view([bowl(points=3)], metrics=[{}], title=HOSTILE)
    frame = re.fullmatch(
        r'<iframe title="([^"]*)" srcdoc="([^"]*)" sandbox="([^"]*)" [^<>]*></iframe>', page._repr_html_()
    )
    assert frame
    assert html.unescape(frame[2]) == page.html
    assert frame[3] == "allow-scripts allow-downloads"


def test_opening_shows_a_saved_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("landscape.viewer.webbrowser.open", opened.append)
    monkeypatch.setattr("landscape.viewer.mkdtemp", lambda prefix: str(tmp_path))
    path = view([bowl(points=3)], metrics=[{}]).open()
    assert opened == [path.as_uri()]
    assert path.is_file()


def test_import_needs_neither_torch_nor_plotly() -> None:
    code = "import sys, landscape.viewer; sys.exit(bool({'torch', 'plotly', 'cyclopts'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's page without the analysis that the default metrics need."""
    monkeypatch.setitem(sys.modules, "landscape.surface.summary", SimpleNamespace(metrics=lambda surface: {}))


@pytest.mark.usefixtures("no_summary")
def test_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(bowl(label=name, points=3).save(tmp_path / f"{name}.surface.h5")) for name in "ab"]
    main(files)
    assert "2 surfaces" in capsys.readouterr().out
    page = (tmp_path / "a.surface.html").read_text(encoding="utf-8")
    assert [one["label"] for one in json.loads(block(page, "payload"))["surfaces"]] == ["a", "b"]
    main([files[1], "-o", str(tmp_path / "x.html"), "--title", "Chosen"])
    assert "<title>Chosen</title>" in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_summary")
def test_command_refuses_bad_input_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(bowl(points=3).save(tmp_path / "good.surface.h5"))
    damaged = tmp_path / "damaged.surface.h5"
    damaged.write_bytes(Path(good).read_bytes()[:500])
    before = Path(good).read_bytes()
    for arguments, says in (
        ([], "no surface file"),
        ([str(tmp_path / "missing.h5")], "no such file"),
        ([str(damaged)], "not a readable surface file"),
        ([good, "-o", good], "ends in .html"),
        ([good, "--colour", "red"], "--colour"),
        ([good, "-o", "/proc/no/page.html"], "cannot write"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert says in message
        assert message.count("\n") == 1
    assert Path(good).read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["damaged.surface.h5", "good.surface.h5"]
