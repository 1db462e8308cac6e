"""A live page's server as browsers see it, without a browser."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit


class Stream:
    """The news of a page, as a browser reads them."""

    def __init__(self, address: str, **headers: str) -> None:
        url = urlsplit(address)
        self.connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=30)
        self.connection.request("GET", f"{url.path}events?after=0", headers=headers)
        self.answer = self.connection.getresponse()
        self.known: dict[str, Any] = {}

    def next(self) -> dict[str, Any] | None:
        """The next event; None where the stream has ended."""
        while line := self.answer.readline():
            if line.startswith(b"data: "):
                news: dict[str, Any] = json.loads(line[len(b"data: ") :])
                self.known |= news
                return news
        return None

    def until(self, state: str) -> dict[str, Any]:
        """Read on until the computation is in that state; all that is known then."""
        while self.known.get("progress", {}).get("state") != state:
            assert self.next() is not None, f"the stream ended before {state!r}"
        return self.known


def ask(address: str, method: str = "GET", host: str | None = None) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of an answer."""
    url = urlsplit(address)
    with closing(http.client.HTTPConnection(str(url.hostname), url.port, timeout=30)) as connection:
        connection.request(method, url.path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
