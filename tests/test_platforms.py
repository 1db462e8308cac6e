"""Everything is imported on systems that lack what only some have (Windows: fcntl, SIGHUP, …)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("landscape", "training", "analysis", "figures")

WITHOUT = """
import builtins, os, signal, sys
import torch, matplotlib, h5py, cyclopts, subprocess, multiprocessing, torch.distributed  # may need them

ONLY_SOME = {"fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog", "msvcrt", "winreg"}
original, ours = builtins.__import__, {"landscape", "training", "analysis", "figures", "sharpscape"}

def hidden(name, globals=None, *rest):
    caller = str((globals or {}).get("__name__", "")).partition(".")[0]
    if name.partition(".")[0] in ONLY_SOME and caller in ours:
        raise ImportError(f"no module {name} on this system, which {globals['__name__']} imports")
    return original(name, globals, *rest)

builtins.__import__ = hidden
for name in ONLY_SOME:
    sys.modules[name] = None  # for importlib
SIGNALS = ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGQUIT", "SIGPROF", "setitimer")
CALLS = ("fork", "killpg", "getpgid", "setsid", "sched_getaffinity", "getuid", "sysconf")
for module, names in ((signal, SIGNALS), (os, CALLS)):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""

IMPORTS = """
import importlib, pkgutil
seen = 0
for package in sys.argv[1:]:
    found = importlib.import_module(package)
    for one in pkgutil.walk_packages(found.__path__, f"{package}."):
        source = one.module_finder.find_spec(one.name).loader.get_source(one.name)
        if not one.name.endswith("__main__") or '__name__ == "__main__"' in source:
            importlib.import_module(one.name)
            seen += 1
print(seen)
"""


def run_without(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_imported() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert 100 < int(run_without(IMPORTS, *PACKAGES)) < len(files)


LOCKED = """
import types
calls = []
fake = types.ModuleType("msvcrt")
fake.LK_NBLCK = 2
def locking(descriptor, mode, count):
    calls.append((mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)))
    if len(calls) > 1:
        raise PermissionError(13, "Permission denied")
fake.locking = locking
if sys.argv[2] == "msvcrt":
    sys.modules["msvcrt"] = fake
from pathlib import Path
from landscape.commandline.claims import INHERITED, claim
from landscape.commandline.jobs import start
root = Path(sys.argv[1])
assert not INHERITED
first, second = claim(root / "run.log"), claim(root / "run.log")
if sys.argv[2] == "msvcrt":
    assert second is None and calls == [(2, 1, 1 << 30)] * 2, calls
else:
    os.close(second)
command = [sys.executable, "-c", "import sys; sys.exit('no')"]
process = start(None, root / "run.log", first, command, 0.0)
assert process.held == first
while not process.ended():
    pass
assert process.held is None and process.failure() == "no", process.failure()
try:
    os.fstat(first)
except OSError:
    print("closed")
"""


@pytest.mark.parametrize("system", ["msvcrt", "nothing"])
def test_a_claim_without_fcntl(tmp_path: Path, system: str) -> None:
    """Windows' locks by a module of the same calls; or none at all."""
    assert run_without(LOCKED, str(tmp_path), system).split()[-1] == "closed"


def test_signals_that_a_system_has() -> None:
    code = "from landscape.keeping.signals import ENDING; print(*[one.name for one in ENDING])"
    assert run_without(code).split() == ["SIGINT", "SIGTERM"]
    assert "SIGHUP" in signal.Signals.__members__
