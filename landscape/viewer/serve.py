"""A page and a stream of its changes, for browsers of this machine's user: GET only, 127.0.0.1 only.

Everything lies below a path that can't be guessed, because other users of a cluster's login node reach
127.0.0.1 too. The host name in a request must be this machine's own: a foreign name that was made to point
here (DNS rebinding) is refused. Answers carry headers that keep other sites from framing or embedding them.
"""

from __future__ import annotations

import os
import re
import secrets
import socketserver
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from time import monotonic
from typing import Any

PORT = 8642  # taken where it is free, so that a tunnel serves the next run too
KEEP_ALIVE_SECONDS = 15.0  # a comment this often shows whether the reader is still there
PATIENCE_SECONDS = 5.0  # for pages to get the last state
ADDRESS = "127.0.0.1"
OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)  # a tunnel may change the port
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Feed:
    """Named JSON texts that change, and threads that wait for news of them."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._changed: dict[str, int] = {}
        self._news = Condition()
        self._ended = False
        self._awaited = -PATIENCE_SECONDS
        self.version = 0
        self.readers = 0

    def put(self, texts: dict[str, str]) -> None:
        """Make texts known at once; those that are the same as before are no news."""
        with self._news:
            new = {name: text for name, text in texts.items() if self._texts.get(name) != text}
            if new:
                self.version += 1
                self._texts |= new
                self._changed |= dict.fromkeys(new, self.version)
                self._news.notify_all()

    def wait(self, version: int, seconds: float) -> tuple[int, dict[str, str], bool]:
        """The version now, the texts that changed since `version`, and whether there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self.version > version or self._ended, seconds)
            new = {name: self._texts[name] for name, when in self._changed.items() if when > version}
            return self.version, new, self._ended

    def text(self, name: str) -> str:
        """The text of that name, "null" before there is one."""
        with self._news:
            return self._texts.get(name, "null")

    def expect_reader(self) -> None:
        """A page is on its way: it will read soon."""
        with self._news:
            self._awaited = monotonic()

    def enter(self, by: int) -> None:
        """One more reader, or with -1 one less."""
        with self._news:
            self.readers += by
            self._awaited = -PATIENCE_SECONDS if by > 0 else self._awaited
            self._news.notify_all()

    @property
    def wanted(self) -> bool:
        """Whether anybody reads, or will soon."""
        return self.readers > 0 or monotonic() - self._awaited < PATIENCE_SECONDS

    def end(self) -> None:
        """No more news; returns when every reader has the last ones, or patience is at its end."""
        with self._news:
            self._ended = True
            self._news.notify_all()
            until = monotonic() + PATIENCE_SECONDS
            while self.wanted and (left := until - monotonic()) > 0:
                self._news.wait(min(left, 0.1))


class LocalServer(ThreadingHTTPServer):
    """Serves ``page()`` at `address` and the feed's news at ``events`` below it, until closed.

    Parameters
    ----------
    feed
        What changes. The text "progress" opens every stream.
    page
        The document; called in a thread of its own for every request.
    port
        Port to take if it is free; any other if not.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows this would share a port that is taken

    def __init__(self, feed: Feed, page: Callable[[], str], port: int = PORT) -> None:
        self.feed, self.page = feed, page
        self.path = f"/{secrets.token_urlsafe(9)}/"
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError:
            super().__init__((ADDRESS, 0), _Handler)
        self.port = int(self.server_address[1])
        self.address = f"http://{ADDRESS}:{self.port}{self.path}"

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's full name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def start(self) -> None:
        """Serve in threads that end with the process."""
        Thread(target=self.serve_forever, args=(0.1,), name="live page", daemon=True).start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers close connections as they like; that is no news for the terminal."""


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    server_version, sys_version = "sharpscape", ""
    timeout = 60.0  # seconds for a request to come, or for an answer to be taken; then the thread ends

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not OWN_NAME.fullmatch(self.headers.get("Host", "")):
            self._answer(403, "text/plain", "Ask for 127.0.0.1 or localhost.")
        elif path == self.server.path:
            self._answer(200, "text/html", self.server.page())
        elif path == f"{self.server.path}events":
            self._stream(query.removeprefix("after="))
        else:
            self._answer(404, "text/plain", "There is nothing here.")

    def _answer(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self._head(code, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _head(self, code: int, kind: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", **HEADERS}.items():
            self.send_header(name, value)

    def _stream(self, after: str) -> None:
        """Server-sent events; a browser that reconnects says itself what it had last."""
        known = self.headers.get("Last-Event-ID", after)
        version = int(known) if known.isdecimal() else 0
        self._head(200, "text/event-stream")
        self.end_headers()
        feed = self.server.feed
        feed.enter(1)
        try:
            first = {"progress": feed.text("progress")}
            ended = False
            while not ended:
                version, news, ended = feed.wait(version, 0.0 if first else KEEP_ALIVE_SECONDS)
                self._send(version, first | news)
                first = {}
        finally:
            feed.enter(-1)

    def _send(self, version: int, news: dict[str, str]) -> None:
        fields = ",".join(f'"{name}":{text}' for name, text in news.items())
        event = f"id: {version}\ndata: {{{fields}}}\n\n" if news else ":\n\n"
        self.wfile.write(event.encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()
