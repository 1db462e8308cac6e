"""Where a command meets the world: outputs that end, names that can't be, text that isn't harmless."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape.commandline.console import guarded_command, note, out, terminal
from landscape.errors import UserError
from landscape.escaping import latex, markdown, plain, spreadsheet
from landscape.files import atomic_path, check_target
from landscape.plot import plot_surfaces
from landscape.surface import Metric, Plane, Split, Surface
from landscape.viewer.serve import MOST_STRANGERS, Feed, LocalServer

HOSTILE = "a\x1b]0;title\x07\x9b2J\u202etxt.exe\u2066\nb\r\u2028c\x00"
FULL = Path("/dev/full")


def surface_called(name: str) -> Surface:
    loss = Metric(np.arange(1.0, 26).reshape(5, 5), np.zeros((5, 5)), 0.0)
    plane = Plane({"seed": 0, "label": name}, np.ones((5, 5), bool), {"test": Split(4, {"loss": loss})})
    axis = np.linspace(-1, 1, 5)
    return Surface(axis, axis, (plane,), {}, {"label": name, "units": {"loss": name}})


@given(st.text() | st.just(HOSTILE))
def test_shown_text_has_nothing_hidden(text: str) -> None:
    kinds = {unicodedata.category(one) for one in plain(text) if one not in "\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert plain(plain(text)) == plain(text)


def test_bytes_of_a_name_are_shown() -> None:
    assert plain(os.fsdecode(b"b\xff.pt")) == "b\\xff.pt"


@pytest.mark.parametrize("print_it", [out, note, lambda text: terminal().print(text, markup=False)])
def test_nothing_hidden_reaches_the_terminal(print_it: object, capfd: pytest.CaptureFixture[str]) -> None:
    print_it(HOSTILE)  # type: ignore[operator]
    shown = "".join(capfd.readouterr())
    assert "title" in shown
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u2028", "\x00"} & set(shown)


def test_errors_are_one_harmless_line() -> None:
    assert not {"\x1b", "\n", "\u202e"} & set(str(UserError(HOSTILE)))


@pytest.mark.parametrize("value", ["-0.5", "+1", "1e-3", "-inf", "nan", -0.5, 3, "", "net"])
def test_numbers_stay_numbers(value: object) -> None:
    assert spreadsheet(value) == value


@pytest.mark.parametrize("kind", ["formulas", "others"])
def test_the_page_has_the_same_rule(kind: str) -> None:
    cases = Path(__file__).parents[1] / "page" / "spreadsheet.json"  # read by csv.test.js, too
    for text in json.loads(cases.read_text(encoding="utf-8"))[kind]:
        assert str(spreadsheet(text)).startswith("'") == (kind == "formulas"), text


def test_markup_is_escaped() -> None:
    assert markdown("|<b>[x](y)`") == r"\|\<b\>\[x\](y)\`"
    assert [latex(one) for one in (" [9cm]net", "*star", "a[1]*")] == ["{}[9cm]net", "{}*star", "a[1]*"]
    assert latex("\\input{x}%$") == r"\textbackslash{}input\{x\}\%\$"


@pytest.mark.parametrize("name", ["a$_{$.pt", "$x$", HOSTILE, os.fsdecode(b"\xff")])
def test_a_picture_has_any_name(name: str, tmp_path: Path) -> None:
    for kind in ("both", "contour"):
        plot_surfaces([surface_called(name)], kind=kind, metrics=[{}], path=tmp_path / "x.png")  # type: ignore[arg-type]


def run(code: str, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


PRINTS = """
from landscape.commandline.console import guarded_command, out, terminal
with guarded_command():
    for number in range(5000):
        out(f"line {number}")
        terminal().print("table", style="red")
    open(%r, "w").close()
"""


def test_a_closed_pipe_is_no_fault(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = run(PRINTS % str(tmp_path / "done"), writing)
    os.close(writing)
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed otherwise")
@pytest.mark.parametrize(("closed", "code"), [([1], 0), ([2], 0), ([0, 1, 2], 0), ([0, 1, 2], 2)], ids=str)
def test_outputs_that_are_closed_from_the_start_are_no_fault(
    tmp_path: Path, closed: list[int], code: int
) -> None:
    """The file that is written meanwhile must not get a standard descriptor either."""
    script = (
        "import os, sys\n"
        "from landscape.commandline.console import guarded_command, note, out\n"
        "from landscape.errors import UserError\n"
        "with guarded_command():\n"
        f"    with open({str(tmp_path / 'data')!r}, 'w') as file:\n"
        "        assert file.fileno() > 2\n"
        "        out('a result'); note('a line'); os.write(1, b'raw')\n"
        f"    if {code}: raise UserError('bad')\n"
    )
    ends = " ".join(f"{one}>&-" if one else "0<&-" for one in closed)
    found = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {ends}', sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == code
    assert found.stdout == ("" if 1 in closed else "a result\nraw") or found.stdout == "rawa result\n"
    assert found.stderr == ("" if 2 in closed else "a line\n")
    assert (tmp_path / "data").read_bytes() == b""


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        found = run(PRINTS % str(tmp_path / "done"), full.fileno())
    assert found.returncode == 2
    assert found.stderr == "error: cannot write to standard output: No space left on device\n"
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "error", [OSError(36, "File name too long", "x"), OverflowError("int"), UserError("x")]
)
def test_failures_of_the_world_are_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, guarded_command():
        raise error
    shown = capsys.readouterr().err
    assert left.value.code == 2
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1


def test_no_columns_is_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert terminal().width >= 80


@pytest.mark.parametrize("name", ["x" * 300, "😀" * 70, "x" * 250])
def test_names_that_are_too_long_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="too long"):
        check_target(tmp_path / name, ".partial")
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_that_fits_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120)
    with atomic_path(path) as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    served = LocalServer(Feed(), lambda: "page", 0)
    served.start()
    yield served
    served.close()


def test_idle_connections_are_few_and_the_page_is_still_there(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(125)]
        with socket.create_connection(("127.0.0.1", server.port)) as own:
            own.sendall(f"GET {server.path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            own.settimeout(30)
            answer = b""
            while piece := own.recv(4096):
                answer += piece
        assert answer.startswith(b"HTTP/1.0 200")
        assert answer.endswith(b"page")
        assert len(server._strangers) <= MOST_STRANGERS
        monkeypatch.setattr("landscape.viewer.serve.HEAD_SECONDS", 0.2)
        idle[0].settimeout(30)
        assert idle[0].recv(1) == b""  # hung up on


def test_a_request_that_drips_is_cut(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.viewer.serve.HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /")
        slow.settimeout(30)
        assert slow.recv(1) == b""


def test_foreign_paths_are_not_admitted(server: LocalServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(b"GET /events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        other.settimeout(30)
        assert other.recv(12) == b"HTTP/1.0 404"
