"""Memory of a process over thousands of points, products or steps: bytes a unit, with a 95 % interval."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

Told = Callable[[int], None]
SAMPLES = 200
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Slope:
    """Resident bytes a unit by least squares over all but the first fifth, and half its 95 % interval."""

    bytes: float
    error: float
    units: int

    def __str__(self) -> str:
        return f"{self.bytes:+.0f} ± {self.error:.0f} bytes each over {self.units:,}"


def slope(work: Callable[[int, Told], object], units: int) -> Slope:
    """Of `work`, which is told how many units it is to do, and tells how many it has done."""
    seen: list[tuple[int, int]] = []

    def told(done: int) -> None:
        if done % max(units // SAMPLES, 1) == 0:
            seen.append((done, resident()))

    work(units, told)
    done, held = np.array([one for one in seen if one[0] > units // 5], dtype=float).T
    centred = done - done.mean()
    rise = float(centred @ held / (centred @ centred))
    left = held - held.mean() - rise * centred
    error = float(np.sqrt(left @ left / (len(done) - 2) / (centred @ centred)))
    return Slope(rise, 1.96 * error, units)


def resident() -> int:
    """Bytes of this process in memory, without those of files: the system drops and reads them anew."""
    _, held, of_files = Path("/proc/self/statm").read_text().split()[:3]
    return (int(held) - int(of_files)) * PAGE


def network() -> nn.Module:
    """With weights of 100 KB, so that a copy that is kept for each unit can't be overlooked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.Tanh(), nn.Linear(128, 4))


def examples(count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % 4


def surface(units: int, told: Told) -> None:
    """Every point of a grid of about so many, with its file."""
    from landscape.compute import compute_surface
    from landscape.keeping import pace

    side = int(np.ceil(units**0.5))
    with (
        tempfile.TemporaryDirectory() as folder,
        # What the first save of a part loads and needs belongs to the first fifth.
        mock.patch.object(pace, "EVERY_SECONDS", 0.3),
    ):
        compute_surface(
            network(),
            examples(),
            points=side,
            exact_grid=True,
            path=Path(folder) / "x.surface.h5",
            progress=lambda now: told(now.done),
        )


def hessian(units: int, told: Told) -> None:
    """Products: so many probes of the trace, which never gets as exact as is asked."""
    from analysis.hessian import hessian_spectrum

    with tempfile.TemporaryDirectory() as folder:
        hessian_spectrum(
            network(),
            examples(),
            top=1,
            max_products=12,  # their basis grows, as it must
            bottom=0,
            density_probes=0,
            trace_tolerance=1e-9,
            max_probes=units,
            path=Path(folder) / "x.hessian.h5",
            progress=lambda now: told(now.done),
        )


def training(units: int, told: Told) -> None:
    """Steps of four images, ResNet-20 of the narrowest kind, 500 an epoch."""
    from loop_helpers import Silent, fit

    from training.config import RunConfig
    from training.data import load_splits

    class Telling(Silent):
        def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            told((epoch - 1) * steps + step)

        def epoch(self, record: object) -> None:
            pass

        def saved(self, epochs: int, step: int) -> None:
            pass

    each = min(500, units)
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        pixels = draw.integers(0, 256, (4 * each, 8, 8, 3), np.uint8)
        labels = np.arange(4 * each) % 4
        np.savez(path, train_x=pixels, train_y=labels, test_x=pixels[:8], test_y=labels[:8])
        config = RunConfig(widths=(2, 2, 2), epochs=units // each, batch_size=4, validation=0.0)
        data = load_splits(f"npz:{path}", config.validation, config.seed, torch.device("cpu"))
        fit(config, data, Path(folder) / "run", Telling())


WORKS: dict[str, Callable[[int, Told], object]] = {
    "surface": surface,
    "hessian": hessian,
    "training": training,
}
