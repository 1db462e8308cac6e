"""`make gpu-check` without a GPU: every step runs without parser and Plotly, and its verdict is true."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_gpu import pretended_gpu

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "gpu_check.py"
MISSING = ("cyclopts", "plotly", "rich", "matplotlib", "h5py")
WITHOUT = f"""
import runpy, sys
for name in {MISSING!r}:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_on_the_cpu_where_parser_and_pictures_are_missing(tmp_path: Path) -> None:
    told = ["--device", "cpu", "--tiny", "--output", str(tmp_path / "found.md")]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(SCRIPT), *told], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    page = (tmp_path / "found.md").read_text("utf-8")
    assert "Verdict: all right." in page
    assert page.count("| right |") == ran.stdout.count("right  ") >= 10
    assert "no GPU here" in page


def test_a_step_on_the_pretended_gpu(check: Any) -> None:
    with pretended_gpu() as gpu:
        its = check.Setting(torch.device("cuda"), check.TINY, time.monotonic() + 1000)
        lines = list(check.waiting(its))
    assert gpu.replays
    assert not gpu.unguarded
    assert check.verdict(lines, True) == ("all right", 0)
    assert [line.found for line in lines if line.what.startswith("graphs")] == ["True, True"]


def test_batches_fused_and_not_on_the_pretended_gpu(check: Any) -> None:
    its = check.Setting(torch.device("cuda"), check.TINY, time.monotonic() + 1000)
    with pretended_gpu() as gpu:
        points = list(islice(check.batches(its), 3 * 2))  # of one type
    assert not gpu.unguarded
    assert all("points/s; CUDA graph: True; L2 cache 50 MiB" in line.found for line in points)
    assert [", 0 conv" in line.what for line in points] == [False, True] * 3


def test_mistakes_failures_and_what_there_was_no_time_for(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(**made: Any) -> None:
        monkeypatch.setattr(check, "STEPS", made)

    def wrong(its: Any) -> Iterator[Any]:
        yield check.within("losses", 1e-3, check.SURFACE)

    def fails(its: Any) -> Iterator[Any]:
        yield check.equal("the same", True)
        raise RuntimeError("CUDA error: an illegal memory access\nmore")

    def right(its: Any) -> Iterator[Any]:
        yield check.equal("the same", True)

    its = check.Setting(torch.device("cpu"), check.TINY, time.monotonic() + 1000)
    steps(wrong=wrong, fails=fails, right=right)
    found = {name: check.looked_at(its, name) for name in check.STEPS}
    assert check.verdict([*found["wrong"], *found["right"]], True) == ("1 of 2 are wrong", 1)
    assert check.verdict(found["fails"], True)[1] == 1
    assert "illegal memory access" in check.page(its, "", found["fails"], 1.0, "")
    assert check.verdict(found["right"], False)[1] == 3
    its.until = time.monotonic() - 1
    assert check.verdict(check.looked_at(its, "right"), True)[1] == 3
