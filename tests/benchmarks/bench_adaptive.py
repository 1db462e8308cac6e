"""Claim: 51×51 within 0.5 % of the loss range, and Ra within 0.5 %, from at most 200 evaluated points.

    python tests/benchmarks/bench_adaptive.py [--examples 256] [--folder surfaces/adaptive] [CKPT …]
    python tests/benchmarks/bench_adaptive.py --tiny 20

For each checkpoint: the exact surface (every point; kept in the folder and resumed, as it takes long), then
the adaptive one with at most 200 points, computed afresh. Printed: points, the largest difference anywhere on
the grid as a share of the loss range beside the stated error, the difference in Ra, and how the error falls
with the number of points when the sampler is replayed on the exact values. Without checkpoints: the two that
ship, and a wide ResNet-32 (32-64-128) trained for 8 epochs on the shipped sample, made on first use.

With --tiny, no checkpoints but so many surfaces of tiny trained networks, from seed 1000 on (no constant of
the sampler was chosen by them): median and worst error, and on how many the stated one covers the true one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.roughness import roughness
from landscape.sampling import Index, adaptive
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import FloatArray, Surface
from landscape.surface.__main__ import run
from landscape.surface.surface_options import (
    ComputationOptions,
    DataOptions,
    Options,
    OutputOptions,
    SamplingOptions,
)

COUNTS = (60, 80, 100, 150, 200)
HERE = Path(__file__).resolve().parents[2]
sys.path.append(str(HERE / "tests" / "landscape"))
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
    return _replay(surface.alpha, surface.beta, surface.loss, limit)


def _replay(
    alpha: FloatArray, beta: FloatArray, loss: FloatArray, limit: int
) -> tuple[int, float, float, float]:
    sampler = adaptive(alpha, beta, 1e-12, limit)
    computed = np.zeros(loss.shape, dtype=bool)

    def losses(indices: Sequence[Index]) -> FloatArray:
        return np.array([loss[index] for index in indices])

    for batch in sampler.batches(losses):
        for index in batch:
            computed[index] = True
    filled = interpolate_grid(alpha, beta, computed, loss)
    worst = float(np.abs(filled - loss).max() / np.ptp(loss))
    return int(computed.sum()), worst, sampler.relative_error, _ra_error(filled, loss)


def tiny_networks(count: int) -> None:
    """Print errors over many surfaces, per number of points."""
    from network_surfaces import network_surface

    axis = np.linspace(-1, 1, 51)
    surfaces = [network_surface(1000 + seed, 51) for seed in range(count)]
    for limit in COUNTS:
        errors = np.array([_replay(axis, axis, loss, limit)[1:] for loss in surfaces])
        true, stated, off = errors.T
        print(
            f"{limit:3d} points: largest error {100 * np.median(true):.3f} % (median), "
            f"{100 * true.max():.3f} % (worst); "
            f"covered by the stated one on {(stated >= true).sum()} of {count}, stated / true "
            f"{np.median(stated / true):.2f} (median), {(stated / true).min():.2f} (least); "
            f"Ra off by {100 * np.median(off):.3f} % (median)",
            flush=True,
        )


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
    parser.add_argument("--tiny", type=int, default=0)
    options = parser.parse_args()
    if options.tiny:
        tiny_networks(options.tiny)
        return
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
        for limit in COUNTS:
            count, true, stated, off = replay(exact, limit)
            print(
                f"   replayed with {count:3d} points: largest error {100 * true:.3f} %, "
                f"stated {100 * stated:.3f} %, Ra off by {100 * off:.4f} %"
            )


if __name__ == "__main__":
    main()
