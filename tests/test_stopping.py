"""Every command, stopped while it is still loading modules, by whichever signal: one line, its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Python runs this before anything else. The signal comes at the import of a module that all commands need.
AT_AN_IMPORT = """
import os, sys
class Hit:
    def find_spec(name, path=None, target=None):
        if name in ("cyclopts", "rich"):
            sys.meta_path.remove(Hit)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Hit)
"""

# And this when the training starts itself anew, when there is no handler of ours yet.
AT_THE_SECOND_START = """
import os
if "MALLOC_TRIM_THRESHOLD_" in os.environ:
    os.kill(os.getpid(), {number})
"""


def stopped(code: str, folder: Path, *command: str) -> tuple[int, str]:
    (folder / "sitecustomize.py").write_text(code)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["-m", "landscape.surface", "x.pt"], signal.SIGINT),
        (["-m", "landscape.surface", "x.pt"], signal.SIGHUP),
        (["-m", "landscape.viewer", "x.h5"], signal.SIGTERM),
        (["-m", "analysis.hessian", "x.pt"], signal.SIGTERM),
        (["-m", "analysis.roughness", "x.h5"], signal.SIGTERM),
        (["-m", "training"], signal.SIGTERM),
        (["-m", "training.sweep", "figure3-mini"], signal.SIGTERM),
        (["-m", "figures.reproduce"], signal.SIGTERM),
        (["-m", "sharpscape", "sharpness", "x.pt"], signal.SIGTERM),
    ],
    ids=lambda value: value[-2] if isinstance(value, list) else value.name,
)
def test_while_modules_are_loaded(command: list[str], number: signal.Signals, tmp_path: Path) -> None:
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    code, said = stopped(AT_AN_IMPORT.format(number=int(number)), tmp_path, *command)
    assert (code, said.strip()) == (128 + number, f"stopped by {name}; give the same command to go on")


@pytest.mark.skipif(sys.platform != "linux", reason="only there a training starts itself anew")
def test_while_a_training_starts_itself_anew(tmp_path: Path) -> None:
    code, said = stopped(AT_THE_SECOND_START.format(number=int(signal.SIGTERM)), tmp_path, "-m", "training")
    assert (code, said.strip()) == (143, "stopped by SIGTERM; give the same command to go on")
