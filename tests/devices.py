"""The devices that this machine has, for tests that run once on each."""

from __future__ import annotations

from functools import cache

import torch


@cache
def devices() -> list[str]:
    """["cpu"], or ["cpu", "cuda"] with a usable GPU."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
