"""One command from an empty folder to the report, killed on the way and given again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from figures.reproduce.plan import Options, jobs
from figures.reproduce.scale import load_scale

PATIENCE = 400  # seconds


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "figures.reproduce", "--scale", "smoke", "--jobs", "2", f"--output={root}"]


def kill_when(there: Callable[[], bool], root: Path) -> None:
    """Start it, and end it and its children by force once that holds."""
    with subprocess.Popen(
        command(root), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + PATIENCE
            while not there():
                assert process.poll() is None, "it ended by itself"
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_from_nothing_to_the_report_with_two_kills(tmp_path: Path) -> None:
    root = tmp_path / "smoke"
    kill_when(lambda: any(root.glob("runs/*/last.pt")) or any(root.glob("runs/*/final.pt")), root)
    kill_when(lambda: any(root.glob("surfaces/*.surface.h5")), root)
    done = [job for job in jobs(load_scale("smoke"), root, Options(None, None, "auto", 2)) if job.done]
    kept = {
        path: path.stat().st_mtime_ns for path in [*root.glob("runs/*/final.pt"), *(j.product for j in done)]
    }
    assert len(list(root.glob("runs/*/final.pt"))) == 2
    ended = subprocess.run(command(root), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # what was done wasn't done again
    text = (root / "report.md").read_text(encoding="utf-8")
    assert "Nothing: all 2 runs have a surface." in text
    cells = text.split("## Cells")[1].split("## Table 1")[0]
    assert cells.count("not computed") == 2 * 3  # the three measures that this scale leaves out
    assert "they agree within the stated error" in text or "differ by more than stated" in text
    for name in ("figure1", "figure2", "figure3", "accuracy", "dependence"):
        assert (root / "figures" / f"{name}.pdf").stat().st_size > 1000
