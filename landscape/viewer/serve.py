"""A page and a stream of its changes, for browsers of this machine's user: GET only, 127.0.0.1 only.

Everything lies below a path that can't be guessed, because other users of a cluster's login node reach
127.0.0.1 too. They can still connect: connections that haven't named the path are few and short, so that
nobody can use up the descriptors of the process that computes. The host name in a request must be this
machine's own: a foreign name that was made to point here (DNS rebinding) is refused. Answers carry headers
that keep other sites from framing or embedding them.
"""

from __future__ import annotations

import os
import re
import secrets
import socketserver
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from threading import Condition, Lock, Thread
from time import monotonic, sleep
from typing import Any

PORT = 8642  # taken where it is free, so that a tunnel serves the next run too
KEEP_ALIVE_SECONDS = 15.0  # a comment this often shows whether the reader is still there
PATIENCE_SECONDS = 5.0  # for pages to get the last state
ADDRESS = "127.0.0.1"
HEAD_SECONDS = 5.0  # for a request to come in full
MOST_STRANGERS = 16  # connections that haven't named the path; one more closes the oldest
MOST_READERS = 32
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
    request_queue_size = 128  # with socketserver's 5, whoever comes after a crowd waits for seconds

    def __init__(self, feed: Feed, page: Callable[[], str], port: int = PORT) -> None:
        self.feed, self.page = feed, page
        share = _descriptors() // 8
        self._most_strangers, self._most_readers = min(MOST_STRANGERS, share), min(MOST_READERS, share)
        self._doors = Lock()
        self._strangers: dict[Any, float] = {}  # connections, and when they came
        self._readers: set[Any] = set()
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

    def get_request(self) -> tuple[Any, Any]:
        """Accept; where the process has no descriptors left, wait instead of trying without pause."""
        try:
            return super().get_request()
        except OSError:
            sleep(0.2)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a stranger in, and the one that has waited longest out, if they are too many."""
        with self._doors:
            self._strangers[request] = monotonic()
            surplus = list(self._strangers)[: max(len(self._strangers) - self._most_strangers, 0)]
        _hang_up(surplus)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called a few times a second: whoever hasn't asked for anything in time has to go."""
        super().service_actions()
        since = monotonic() - HEAD_SECONDS
        with self._doors:
            late = [one for one, came in self._strangers.items() if came < since]
        _hang_up(late)

    def admit(self, request: Any) -> bool:
        """Whether a connection that has named the path may stay: there is room for it."""
        with self._doors:
            self._strangers.pop(request, None)
            if len(self._readers) >= self._most_readers:
                return False
            self._readers.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._doors:
            self._strangers.pop(request, None)
            self._readers.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers close connections as they like; that is no news for the terminal."""


def _hang_up(connections: Iterable[Any]) -> None:
    """End connections, so that the threads which read from them end."""
    for one in connections:
        with suppress(OSError):
            one.shutdown(SHUT_RDWR)


def _descriptors() -> int:
    """How many files this process may open; many, where the system doesn't say."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft, 16) if soft != resource.RLIM_INFINITY else 512


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    server_version, sys_version = "sharpscape", ""
    timeout = 60.0  # seconds for an answer to be taken; then the thread ends

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not OWN_NAME.fullmatch(self.headers.get("Host", "")):
            self._answer(403, "text/plain", "Ask for 127.0.0.1 or localhost.")
        elif not path.startswith(self.server.path):
            self._answer(404, "text/plain", "There is nothing here.")
        elif not self.server.admit(self.connection):
            self._answer(503, "text/plain", "Too many pages are open; close one.")
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
