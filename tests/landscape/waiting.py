"""Waits for what other processes do, with patience: a busy machine takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 90.0  # seconds


def soon(true: Callable[[], Any]) -> Any:
    """What is true, now or before long; what is false in the end."""
    until = time.monotonic() + PATIENCE
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.02)
    return found
