"""Claim: 51×51 within 0.5 % of the loss range, and Ra within 0.5 %, from at most 200 evaluated points.

    python tests/benchmarks/bench_adaptive.py [--examples 256] [--folder surfaces/adaptive] [CKPT …]

For each checkpoint: the exact surface (every point; kept in the folder and resumed, as it takes long), then
the adaptive one with at most 200 points, computed afresh. Printed: points, the largest difference anywhere on
the grid as a share of the loss range beside the stated error, the difference in Ra, and how the error falls
with the number of points when the sampler is replayed on the exact values. Without checkpoints: the two that
ship, and a wide ResNet-32 (32-64-128) trained for 8 epochs on the shipped sample, made on first use.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from analysis.roughness import roughness
from landscape.interpolate import interpolate_grid
from landscape.options import ComputationOptions, DataOptions, Options, OutputOptions, SamplingOptions
from landscape.sampling import Index, adaptive
from landscape.store import FloatArray, Surface
from landscape.surface import run

HERE = Path(__file__).resolve().parents[2]
SHIPPED = sorted((HERE / "examples" / "checkpoints").glob("*.pt"))


def wide_resnet32(folder: Path) -> Path:
    """A wide ResNet-32, 90 % sparse, trained on the shipped sample by our own command."""
    target = folder / "resnet32_wide" / "final.pt"
    if not target.exists():
        command = (
            "-m training --model resnet32_wide --data sample --method random --sparsity 0.9 "
            f"--epochs 8 --batch-size 50 --lr 0.05 --warmup 1 --seed 0 --output {target.parent}"
        )
        subprocess.run([sys.executable, *command.split()], check=True)
    return target


def surface(checkpoint: Path, target: Path, examples: int, sampling: SamplingOptions) -> Surface:
    """One surface by the command's own code."""
    options = Options(
        data=DataOptions(data="sample", examples=examples),
        sampling=sampling,
        computation=ComputationOptions(device="cpu"),
        output=OutputOptions(output=target, page=False, plot=False),
    )
    return run([checkpoint], options)[0].surface


def replay(surface: Surface, limit: int) -> tuple[int, float, float, float]:
    """The sampler on known values: points, true and stated error and Ra's, as shares."""
    sampler = adaptive(surface.alpha, surface.beta, 1e-12, limit)
    computed = np.zeros(surface.shape, dtype=bool)

    def losses(indices: list[Index]) -> FloatArray:
        return np.array([surface.loss[index] for index in indices])

    for batch in sampler.batches(losses):  # type: ignore[arg-type]
        for index in batch:
            computed[index] = True
    filled = interpolate_grid(surface.alpha, surface.beta, computed, surface.loss)
    worst = float(np.abs(filled - surface.loss).max() / np.ptp(surface.loss))
    return int(computed.sum()), worst, sampler.relative_error, _ra_error(filled, surface.loss)


def _ra_error(first: FloatArray, second: FloatArray) -> float:
    def ra(values: FloatArray) -> float:
        weights = [np.r_[0.5, np.ones(count - 2), 0.5] / (count - 1) for count in values.shape]
        area = np.outer(*weights)
        return float((area * np.abs(values - (area * values).sum())).sum())

    return abs(ra(first) / ra(second) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path("surfaces/adaptive"))
    options = parser.parse_args()
    for checkpoint in options.checkpoints or [*SHIPPED, wide_resnet32(options.folder)]:
        name = checkpoint.stem if checkpoint.stem != "final" else checkpoint.parent.name
        exact = surface(
            checkpoint, options.folder / f"{name}.exact.h5", options.examples, SamplingOptions(exact=True)
        )
        target = options.folder / f"{name}.adaptive.h5"
        target.unlink(missing_ok=True)
        sampled = surface(checkpoint, target, options.examples, SamplingOptions(max_points=200))
        width = float(np.ptp(exact.loss)) / 100
        worst = float(np.abs(sampled.loss - exact.loss).max()) / width
        stated = sampled.metric().error / width
        ra = roughness(sampled).ra.value / roughness(exact).ra.value - 1
        print(
            f"{name}: {int(sampled.planes[0].computed.sum())} points; largest error {worst:.3f} % "
            f"of the range (stated {stated:.3f} %); Ra off by {100 * ra:+.4f} %"
        )
        for limit in (50, 100, 150, 200):
            count, true, stated, off = replay(exact, limit)
            print(
                f"   replayed with {count:3d} points: largest error {100 * true:.3f} %, "
                f"stated {100 * stated:.3f} %, Ra off by {100 * off:.4f} %"
            )


if __name__ == "__main__":
    main()
