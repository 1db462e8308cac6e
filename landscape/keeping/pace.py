"""How often to save: little of the time goes into it, and little is lost when a process is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_SECONDS = 2.0
SHARE = 0.05  # of the time that saving may take, where it is slow …
LONGEST_SECONDS = 30.0  # … but no more than this is ever lost, or as much as one saving takes


class Pace:
    """When the next save is due: seldom enough that saving costs little, at least every half minute."""

    def __init__(self) -> None:
        self._due = time.monotonic() + EVERY_SECONDS

    @property
    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() >= self._due

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around a save, which is timed."""
        began = time.monotonic()
        yield
        now = time.monotonic()
        took = now - began
        self._due = now + min(max(EVERY_SECONDS, took / SHARE), max(LONGEST_SECONDS, took))
