"""The terminal's bar, and the plain lines where there is no terminal."""

from __future__ import annotations

import time

import pytest

from landscape.progress import Progress, passed, terminal_bar


def states(count: int, planes: int = 1, error: float = float("nan")) -> list[Progress]:
    return [Progress(done, 40, 1, planes, error, 2.0) for done in range(1, count + 1)]


def test_a_log_gets_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with terminal_bar("net") as show:
        for state in states(20, planes=3, error=0.0125):
            now[0] += 4.0
            show(state)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "net: 8/40 points plane 1/3 error 1.25 %, ETA 64 s"


def test_a_terminal_gets_a_bar_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # takes anything for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with terminal_bar("net") as show:
        for state in states(5):
            show(state)
        time.sleep(0.15)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/40" in captured.err
    assert "ETA" in captured.err
    assert "nan" not in captured.err


@pytest.mark.parametrize("elsewhere", [False, True])
def test_examples_are_counted_where_they_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], elsewhere: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with terminal_bar("net") as show:
        passed(900)  # a look at the network itself, before anything is begun
        for state in states(16):
            now[0] += 4.0
            if not elsewhere:
                passed(100)
            show(state)
    lines = capsys.readouterr().err.splitlines()
    if elsewhere:
        assert lines == ["net: 8/40 points, ETA 64 s", "net: 16/40 points, ETA 48 s"]
    else:
        assert lines == [
            "net: 7/40 points, ETA 66 s, 1,700 examples",
            "net: 15/40 points, ETA 50 s, 2,500 examples",
        ]
