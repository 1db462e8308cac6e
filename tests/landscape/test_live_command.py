"""``python -m landscape.surface --live``: the command does what it does without, and a page may watch."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from command import save_images, save_network, start, surface
from live_pages import Stream

from landscape.errors import UserError
from landscape.surface import load_surface
from landscape.surface.surface_options import SurfaceOptions, SurfaceOutput

TINY = ["net.pt", "--data", "npz:images.npz", "--examples", "10", "--threads", "1", "--no-plot"]
QUICK = [*TINY, "--points", "3"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a network and images."""
    save_network(tmp_path / "net.pt")
    save_images(tmp_path / "images.npz")
    return tmp_path


def test_nobody_watches_and_nothing_changes(place: Path) -> None:
    outcome = surface(*QUICK, "--live", folder=place)
    assert outcome.code == 0
    assert re.search(r"^live page: http://127\.0\.0\.1:\d+/[\w-]{12}/$", outcome.err, re.MULTILINE)
    live = load_surface(place / "surfaces" / "net.surface.h5")
    assert (place / "surfaces" / "net.html").exists()
    assert surface(*QUICK, "-o", "without", folder=place).code == 0
    without = load_surface(place / "without" / "net.surface.h5")
    assert (live.loss == without.loss).all()
    assert live.settings == without.settings


def test_a_way_through_ssh_is_named_where_one_is_needed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    outcome = surface(*QUICK, "--live", folder=place)
    port = re.search(r"127\.0\.0\.1:(\d+)/", outcome.err)
    assert port
    assert f"from elsewhere, first: ssh -L {port[1]}:127.0.0.1:{port[1]} " in outcome.err
    monkeypatch.delenv("SLURM_JOB_ID")
    assert "ssh" not in surface(*QUICK, "--live", folder=place).err


def test_open_shows_the_live_page_or_the_finished_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("landscape.viewer.serve.PATIENCE_SECONDS", 0.1)  # this browser never comes
    outcome = surface(*QUICK, "--live", "--open", folder=place)
    assert outcome.code == 0
    assert [f"live page: {address}" in outcome.err for address in opened] == [True]
    assert surface(*QUICK, "--open", folder=place).code == 0
    assert opened[1] == (place / "surfaces" / "net.html").as_uri()


def test_open_without_a_page_is_refused() -> None:
    with pytest.raises(UserError, match="--open shows the page that --no-page leaves out"):
        SurfaceOptions(output=SurfaceOutput(open=True, page=False)).check()
    SurfaceOptions(output=SurfaceOutput(open=True, page=False, live=True)).check()


@pytest.mark.slow
def test_ctrl_c_is_told_to_the_page_and_the_same_command_goes_on(place: Path) -> None:
    arguments = [*TINY, "--points", "101", "--exact", "--no-page", "--live"]
    with start(*arguments, folder=place) as child:
        try:
            assert child.stderr is not None
            found = next(said for line in child.stderr if (said := re.search(r"live page: (\S+)", line)))
            stream = Stream(found[1])
            while "surface-0" not in stream.known:
                assert stream.next()
            child.send_signal(signal.SIGINT)
            stream.until("stopped")
            assert stream.next() is None
            err = child.communicate(timeout=60)[1]
        finally:
            child.kill()
    assert child.returncode == 130
    assert err.splitlines()[-1].endswith("give the same command to go on")
    kept = int(load_surface(place / "surfaces" / "net.surface.h5").planes[0].computed.sum())
    with start(*arguments, folder=place) as child:
        try:
            assert child.stderr is not None
            found = next(said for line in child.stderr if (said := re.search(r"live page: (\S+)", line)))
            first = Stream(found[1])
            while "surface-0" not in first.known:  # what the earlier run left, before any new point
                assert first.next()
            assert first.known["surface-0"]["planes"][0]["computed"].count("1") >= kept
        finally:
            child.kill()
