"""For all tests: the same cases every time, however slow the machine, and only for devices that are here."""

import os
import random
import signal
import sys

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job, and nohup, ignore these, and every command that the tests start would, too.
for one, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, one) and signal.getsignal(getattr(signal, one)) is signal.SIG_IGN:
        signal.signal(getattr(signal, one), usual)

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def the_same_draws() -> None:
    """Draws of the global generators are those of the test, not of what ran before it in the same process."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_report_header() -> str:
    """What a green run says nothing about."""
    from devices import devices  # imports torch

    untested = "" if "cuda" in devices() else "; no CUDA here, so GPU paths are not tested"
    return f"devices under test: {', '.join(devices())}{untested}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow files first, so that no worker ends long after the others; GPU tests where there is a GPU.

    Without one, tests marked `gpu` are no tests of this machine's.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from devices import devices

    if "cuda" not in devices():
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
