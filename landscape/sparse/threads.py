"""Threads beside the calling one; they only wait for code that LLVM made."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any


@cache
def pool() -> ThreadPoolExecutor:
    """As many as are asked for at a time."""
    return ThreadPoolExecutor(max_workers=256, thread_name_prefix="sparse")


@cache
def give_way() -> int:
    """Address of the C library's function that offers the processor to others."""
    if sys.platform == "win32":
        function: Callable[..., Any] = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
