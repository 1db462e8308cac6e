"""How the C library holds the memory of activations, which decides a third of a training step on a CPU."""

from __future__ import annotations

import os
import platform
import signal
import sys

import sharpscape
from landscape.keeping.signals import listened_to

_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def restart_with_large_pages(module: str) -> None:
    """Start ``python -m module`` again with glibc told to keep large blocks.

    glibc gives blocks of megabytes back to the system when they are freed, and the next activation then
    costs a page fault per 4 KiB. Kept, and on pages of 2 MiB, a step of ResNet-20 takes 0.6 to 0.85 of the
    time (``tests/benchmarks/bench_training.py``). glibc reads these settings only as it starts, hence the
    restart, which keeps the process number and costs the start of an interpreter. Nothing happens with
    another C library, when any of the settings is there already, or when this process is something else
    that runs the module, a debugger say.
    """
    options = sys.orig_argv[1:]
    ours = "-m" in options and options[options.index("-m") + 1 :][:1] == [module]
    ours = ours or sharpscape.program(module) != f"python -m {module}"  # started by the front door
    known = bool(sys.executable) and platform.libc_ver()[0] == "glibc"
    if ours and known and not any(name in os.environ for name in _SETTINGS):
        signal.pthread_sigmask(signal.SIG_BLOCK, listened_to())  # until there are handlers again
        os.execve(sys.executable, [sys.executable, *options], os.environ | _SETTINGS)
