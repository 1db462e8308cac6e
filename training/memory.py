"""How the C library holds the memory of activations, which decides a third of a training step on a CPU."""

from __future__ import annotations

import os
import platform
import sys

_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def restart_with_large_pages(module: str) -> None:
    """Start this process's Python again as ``python -m module`` with glibc told to keep large blocks.

    glibc gives blocks of megabytes back to the system when they are freed, and the next activation then
    costs a page fault per 4 KiB. Kept, and on pages of 2 MiB, a step of ResNet-20 takes about 0.6 of the
    time (``tests/benchmarks/bench_training.py``). glibc reads these settings only as it starts, hence the
    restart, which keeps the process number and costs some 20 ms, as torch isn't loaded yet. Nothing happens
    with another C library, or when any of the settings is there already.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SETTINGS):
        return
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], os.environ | _SETTINGS)
