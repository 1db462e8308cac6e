"""Commands with --device cuda on a pretended GPU: files hold the CPU's numbers, and are gone on with."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGpu, pretended_gpu
from torch import nn

from landscape.surface import load_surface

TOLD = ["--model", "test_commands_on_gpu:tiny", "--data", "npz:images.npz", "--examples", "20"]


def tiny() -> nn.Module:
    """For ``--model test_commands_on_gpu:tiny``."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints and images."""
    folder, generator = tmp_path_factory.mktemp("gpu"), np.random.default_rng(0)
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        torch.save(tiny().state_dict(), folder / f"{name}.pt")
    parts = {}
    for part in ("train", "test"):
        parts[f"{part}_x"] = generator.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
        parts[f"{part}_y"] = np.arange(30) % 3
    np.savez(folder / "images.npz", **parts)
    return folder


def run(module: str, device: str, folder: Path, *words: str) -> str:
    """What the command prints, in this process."""
    out, code = io.StringIO(), 0
    said = [*words, *TOLD, "--device", device, "--threads", "1"]
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            importlib.import_module(f"{module}.__main__").main(said)
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == 0, out.getvalue()
    return out.getvalue()


@contextlib.contextmanager
def guarded() -> Iterator[PretendedGpu]:
    """A GPU on which no product runs outside of the precision context."""
    with pretended_gpu() as gpu:
        yield gpu
    assert not gpu.unguarded


def numbers(value: Any) -> list[float]:
    """All numbers of a JSON text, in order, but for times and the sizes of batches."""
    if isinstance(value, dict):
        left = [one for key, one in value.items() if "seconds" not in key and key != "batch_size"]
        return [x for one in left for x in numbers(one)]
    if isinstance(value, list):
        return [x for one in value for x in numbers(one)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_surface_and_its_curvature(folder: Path) -> None:
    words = ["one.pt", "--points", "3", "--exact", "--no-page", "--no-plot"]
    map_of = ["--max-points", "2", "--no-page", "--no-plot"]
    with guarded() as gpu:
        run("landscape.surface", "cuda", folder, *words, "--output", "gpu.surface.h5")
        assert gpu.captures == 1
        again = run("landscape.surface", "cuda:0", folder, *words, "--output", "gpu.surface.h5")
        assert "other settings" not in again
        assert gpu.captures == 2  # looked at again, not computed
        run("analysis.curvature", "cuda", folder, "gpu.surface.h5", "one.pt", *map_of)
    run("landscape.surface", "cpu", folder, *words, "--output", "cpu.surface.h5")
    run("analysis.curvature", "cpu", folder, "cpu.surface.h5", "one.pt", *map_of)
    mine, cpus = (load_surface(folder / f"{name}.surface.h5") for name in ("gpu", "cpu"))
    assert mine.about["engine"]["cuda_graph"] is True
    assert mine.settings["engine"]["device"] == "cuda"
    for one, other in zip(mine.planes, cpus.planes, strict=True):
        for split, found in one.splits.items():
            for name in found.metrics:
                expected = other.splits[split].metrics[name].values
                np.testing.assert_allclose(found.metrics[name].values, expected, rtol=2e-2, err_msg=name)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("analysis.hessian", ["one.pt", "--top", "1", "--density-probes", "1", "--max-probes", "8"]),
        ("analysis.sharpness", ["one.pt", "--measures", "asam", "gaussian"]),
        ("analysis.connectivity", ["one.pt", "two.pt", "--steps", "2", "--points", "3"]),
    ],
)
def test_numbers_of_other_commands(module: str, words: list[str], folder: Path) -> None:
    found = []
    for device in ("cuda", "cpu"):
        place = f"{module}-{device}"
        told = [*words, "--output", place, "--json", f"{place}.json"]
        if device == "cpu":
            run(module, device, folder, *told)
        else:
            with guarded():
                run(module, device, folder, *told)
        found.append(numbers(json.loads((folder / f"{place}.json").read_text())))
    assert len(found[1]) > 3
    assert found[0] == pytest.approx(found[1], rel=2e-2, abs=1e-4)
