"""The live page's server: what it hands out, to whom, and that nobody waits for nothing."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_pages import Stream, ask
from viewer_surfaces import bowl

from landscape.progress import Progress
from landscape.surface import Surface, load_surface
from landscape.viewer import live as module
from landscape.viewer import serve, view, watched
from landscape.viewer.__main__ import main
from landscape.viewer.live import LivePage
from landscape.viewer.serve import Feed, LocalServer

HALF = replace(bowl(label="net", points=5, interpolate=True), complete=False)
WHOLE = bowl(label="net", points=5)
OTHER = bowl(label="other", points=(7, 1))


def payload_of(page: str) -> dict[str, Any]:
    """The numbers on a page."""
    found = re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files often, and don't wait long for pages that never read on."""
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(module, "SHARE", 1.0)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server of one page with nothing on it."""
    found = LocalServer(Feed(), lambda: "<p>the page</p>", 0)
    found.start()
    yield found
    found.close()


def test_hands_out_the_page_and_nothing_else(server: LocalServer) -> None:
    status, text, headers = ask(server.address)
    assert (status, text) == (200, "<p>the page</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("Access-Control")]
    root, secret = f"http://127.0.0.1:{server.port}", server.path.strip("/")
    assert len(secret) >= 12
    within = [f"/{secret}", f"/{secret}/x", f"/{secret}/../{secret}/", f"/{secret}/%2e%2e/"]
    for path in ["/", "//", "/events", "/etc/passwd", *within]:
        assert ask(root + path)[0] == 404, path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT"])
def test_answers_only_get(server: LocalServer, method: str) -> None:
    assert ask(server.address, method)[0] == 501


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9000", 200),  # through a tunnel from another port
        ("127.0.0.1", 200),
        ("LOCALHOST:1", 200),
        ("evil.example", 403),  # a name that was made to point here
        ("evil.example:8642", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("evil.example@localhost", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_host_names_other_than_this_machines_are_refused(server: LocalServer, host: str, status: int) -> None:
    assert ask(server.address, host=host)[0] == status
    if status == 403:
        assert ask(f"{server.address}events", host=host)[0] == 403


def test_only_this_machine_is_served_and_a_taken_port_is_left_alone(server: LocalServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    other = LocalServer(Feed(), lambda: "other", server.port)
    try:
        assert other.port != server.port
        assert ask(server.address)[1] == "<p>the page</p>"
    finally:
        other.server_close()
    server_port = server.port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert taken.getsockname()[1] != server_port


_PUTS = st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])), max_size=8)


@given(puts=_PUTS, reads=st.sets(st.integers(0, 7)))
def test_news_add_up_to_what_is_known(puts: list[dict[str, str]], reads: set[int]) -> None:
    feed, version = Feed(), 0
    known: dict[str, str] = {}
    whole: dict[str, str] = {}
    for number, texts in enumerate(puts):
        feed.put(texts)
        whole |= texts
        if number in reads:
            version, news, _ = feed.wait(version, 0)
            assert not {name for name, text in news.items() if known.get(name) == text and len(reads) == 8}
            known |= news
            assert known == whole
    assert feed.wait(version, 0)[1] == {} or known != whole or len(puts) > len(reads)
    known |= feed.wait(version, 0)[1]
    assert known == whole


def test_the_same_text_again_is_no_news() -> None:
    feed = Feed()
    feed.put({"a": "1"})
    version = feed.version
    feed.put({"a": "1"})
    assert feed.wait(version, 0) == (version, {}, False)


def test_page_and_news_say_what_the_static_page_says(tmp_path: Path) -> None:
    paths = [tmp_path / "net.surface.h5", tmp_path / "other.surface.h5"]
    with LivePage(paths, port=0) as live:
        assert "Waiting for the first points" in ask(live.address)[1]
        OTHER.save(paths[1])  # the second first
        first = payload_of(ask(live.address)[1])
        assert first["live"]["slots"] == [1]
        assert [one["label"] for one in first["surfaces"]] == ["other"]
        stream = Stream(live.address)
        HALF.save(paths[0])
        while "surface-0" not in stream.known:
            assert stream.next()
        assert stream.known["surface-0"]["complete"] is False
        WHOLE.save(paths[0])
        while not stream.known["surface-0"]["complete"]:
            assert stream.next()
        static = payload_of(view([load_surface(path) for path in paths]).html)
        assert static_parts(stream.known) == static_parts(static)
        assert stream.known["title"] == "net · other"
        page = payload_of(ask(live.address)[1])
        assert page.pop("live")["slots"] == [0, 1]
        assert page == static
        live.finish([WHOLE, OTHER], tmp_path / "comparison.html")
    assert stream.until("finished")["progress"]["page"] == str(tmp_path / "comparison.html")
    assert stream.next() is None
    assert static_parts(stream.known) == static_parts(payload_of(view([WHOLE, OTHER]).html))


def static_parts(known: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Surfaces and columns, of a whole payload or of news."""
    names = sorted(name for name in known if name.startswith("surface-"))
    return known.get("surfaces") or [known[name] for name in names], known["columns"]


def test_the_last_state_reaches_a_page_that_reads_nothing_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "net.surface.h5"
    HALF.save(path)
    with LivePage([path], port=0) as live:
        stream = Stream(live.address)
        WHOLE.save(path)
        live.finish([WHOLE])
    known = stream.until("finished")
    assert known["surface-0"] == payload_of(view([WHOLE]).html)["surfaces"][0]


def test_ends_at_once_where_no_page_is_open_and_waits_for_one_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 60.0)
    with LivePage([tmp_path / "net.surface.h5"], port=0) as live:
        feed = live._feed
        began = monotonic()
    assert monotonic() - began < 30
    WHOLE.save(tmp_path / "net.surface.h5")
    with LivePage([tmp_path / "net.surface.h5"], port=0) as live:
        ask(live.address)  # the page is there and will read the news in a moment
        later = threading.Timer(0.2, lambda: streams.append(Stream(address)))
        address, streams = live.address, list[Stream]()
        later.start()
        live.finish()
    later.join()
    assert not feed.wanted
    assert streams[0].until("finished")


def test_a_page_asked_for_at_the_very_end_hears_of_it(tmp_path: Path) -> None:
    path = tmp_path / "net.surface.h5"
    WHOLE.save(path)
    with LivePage([path], port=0) as live:
        live.finish([WHOLE])  # nobody looks
        page = payload_of(ask(live.address)[1])
        assert page["live"]["progress"]["state"] == "finished"
        assert page["surfaces"][0]["complete"] is True
        stream = Stream(live.address)
    assert stream.until("finished")


def test_a_computation_that_ends_unfinished_says_so(tmp_path: Path) -> None:
    WHOLE.save(tmp_path / "net.surface.h5")
    page = LivePage([tmp_path / "net.surface.h5"], port=0)
    with page:
        stream = Stream(page.address)
        assert stream.next()
    assert stream.until("stopped")
    assert stream.next() is None


def test_files_about_to_be_overwritten_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "net.surface.h5"
    WHOLE.save(path)
    with LivePage([path], anew=True, port=0) as live:
        assert "Waiting" in ask(live.address)[1]
        HALF.save(path)
        assert payload_of(ask(live.address)[1])["surfaces"][0]["complete"] is False
    with LivePage([path], anew=True, port=0) as live:
        live._feed.expect_reader()
        live.finish([WHOLE])  # the command found the file complete and left it alone
        assert payload_of(ask(live.address)[1])["surfaces"][0]["label"] == "net"
        Stream(live.address)


def test_progress_is_told_in_numbers_that_json_knows(tmp_path: Path) -> None:
    WHOLE.save(tmp_path / "b.surface.h5")
    with LivePage([tmp_path / "a.surface.h5", tmp_path / "b.surface.h5"], port=0) as live:
        stream = Stream(live.address)
        told = live.listener(1)
        told(Progress(done=30, expected=90, plane=1, planes=3, error=float("nan"), seconds_per_point=0.5))
        while "expected" not in stream.known.get("progress", {}):
            assert stream.next()
        assert stream.known["progress"] == {
            "state": "computing",
            "name": "b",
            "number": 2,
            "of": 2,
            "done": 30,
            "expected": 90,
            "plane": 1,
            "planes": 3,
            "error": None,
            "left": 30.0,
        }


def test_equal_labels_are_told_apart_as_on_the_static_page(tmp_path: Path) -> None:
    paths = [tmp_path / "run0.surface.h5", tmp_path / "run1.surface.h5"]
    final = replace(WHOLE, about={**WHOLE.about, "label": "final"})
    with LivePage(paths, port=0) as live:
        final.save(paths[0])
        assert [one["label"] for one in payload_of(ask(live.address)[1])["surfaces"]] == ["final"]
        stream = Stream(live.address)
        final.save(paths[1])
        while "surface-1" not in stream.known:
            assert stream.next()
        main([*map(str, paths), "-o", str(tmp_path / "static.html")])
        static = payload_of((tmp_path / "static.html").read_text(encoding="utf-8"))
        assert [one["label"] for one in static["surfaces"]] == ["run0", "run1"]
        assert static_parts(stream.known) == static_parts(static)
        assert stream.known["title"] == "run0 · run1"
        page = payload_of(ask(live.address)[1])
        assert page.pop("live")["title"] == "run0 · run1"
        assert page == static
        live.finish()
    stream.until("finished")


def test_unreadable_files_are_left_out_until_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.surface.h5"
    path.write_bytes(b"half")
    with LivePage([path], port=0) as live:
        assert "Waiting" in ask(live.address)[1]
        WHOLE.save(path)
        assert payload_of(ask(live.address)[1])["surfaces"]


def test_following_others_files_ends_with_the_static_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.surface.h5", tmp_path / "b.surface.h5"]
    OTHER.save(paths[0])

    def job(address: str) -> None:
        stream = Stream(address)
        HALF.save(paths[1])
        while "surface-1" not in stream.known:
            assert stream.next()
        assert stream.known["progress"]["name"] == "1 of 2 files complete"
        WHOLE.save(paths[1])
        streams.append(stream)
        stream.until("finished")

    streams: list[Stream] = []
    opened = threading.Thread(target=lambda: job(addresses[0]))
    addresses: list[str] = []

    def browser(address: str) -> None:
        addresses.append(address)
        opened.start()

    monkeypatch.setattr(module.webbrowser, "open", browser)
    main([*map(str, paths), "--live", "--open"])
    opened.join()
    static = view([load_surface(path) for path in paths]).html
    assert (tmp_path / "a.surface.html").read_text(encoding="utf-8") == static
    assert streams[0].known["progress"] == {"state": "finished", "page": str(tmp_path / "a.surface.html")}
    assert f"live page: {addresses[0]}\n" in capsys.readouterr().err


def test_following_what_is_no_surface_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.h5").write_text("no surface")
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "x.h5"), "--live"])
    assert stop.value.code == 2
    assert "not a readable surface file" in capsys.readouterr().err


def test_ctrl_c_ends_the_following(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "landscape.viewer", str(tmp_path / "later.surface.h5"), "--live"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith("live page: http://127.0.0.1:")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.splitlines()[-1]) == (
        130,
        "stopped by Ctrl-C; the files are as their writers left them",
    )


def test_files_are_read_only_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    load = watched.load_surface

    def counted(path: Path) -> Surface:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(watched, "load_surface", counted)
    path = tmp_path / "net.surface.h5"
    with LivePage([path], port=0) as live:
        for points in range(3, 8):
            bowl(points=points).save(path)
            live._ended.wait(0.03)
        assert reads == []
        ask(live.address)
        assert reads == [path]
        Stream(live.address).connection.close()


def test_slots_without_changes_are_not_sent_again(tmp_path: Path) -> None:
    paths = [tmp_path / "a.surface.h5", tmp_path / "b.surface.h5"]
    for path in paths:
        WHOLE.save(path)
    with LivePage(paths, port=0) as live:
        ask(live.address)
        stream = Stream(live.address)
        assert {"surface-0", "surface-1"} <= set(stream.next() or {})
        replace(WHOLE, alpha=WHOLE.alpha * np.float64(2)).save(paths[1])
        news = stream.next() or {}
        assert "surface-1" in news
        assert "surface-0" not in news
