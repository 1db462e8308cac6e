"""Claim: at default settings fewer than 300 evaluated points carry a 51×51 surface and its valley.

    python tests/benchmarks/bench_adaptive.py                  # the exact surfaces of three real networks
    python tests/benchmarks/bench_adaptive.py --tiny 20 --first 5000
    OMP_NUM_THREADS=2 python tests/benchmarks/bench_adaptive.py --time       # the sampler's own

The sampler is replayed on surfaces of which every point is known: those of the tests (two shipped ResNet-20
and a wide ResNet-32, 256 examples), or with ``--tiny`` those of so many tiny trained networks, numbered
from ``--first`` on; name numbers by which nothing was chosen. Printed, for limits of points and at default
settings: points, the largest difference anywhere as a share of the loss range and that of log loss, each
beside the stated one, and how far Ra is off, of all and of log loss within ±0.25.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from landscape.sampling import Index, adaptive
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import FloatArray

TESTS = Path(__file__).resolve().parents[1] / "landscape"
LIMITS = (60, 100, 200, None)


@dataclass
class Replay:
    """What came of one surface; errors as shares, of log loss absolute."""

    points: float
    error: float
    stated: float
    log_error: float
    log_stated: float
    ra: float
    valley_ra: float


def replay(axis: FloatArray, loss: FloatArray, limit: int | None) -> Replay:
    """The sampler on known values."""
    sampler = adaptive(axis, axis, 0.005, limit)
    computed = np.zeros(loss.shape, dtype=bool)

    def losses(indices: Sequence[Index]) -> FloatArray:
        return np.array([loss[index] for index in indices])

    for batch in sampler.batches(losses):
        for index in batch:
            computed[index] = True
    filled = interpolate_grid(axis, axis, computed, loss)
    near = np.ix_(*(2 * [np.abs(axis) <= 0.25]))
    return Replay(
        int(computed.sum()),
        float(np.abs(filled - loss).max() / np.ptp(loss)),
        sampler.relative_error,
        float(np.abs(np.log(filled) - np.log(loss)).max()),
        sampler.log_error,
        ra(filled) / ra(loss) - 1,
        ra(np.log(filled[near])) / ra(np.log(loss[near])) - 1,
    )


def ra(values: FloatArray) -> float:
    """Arithmetic mean deviation by the trapezoid rule."""
    weights = [np.r_[0.5, np.ones(count - 2), 0.5] / (count - 1) for count in values.shape]
    area = np.outer(*weights)
    return float((area * np.abs(values - (area * values).sum())).sum())


def line(name: str, one: Replay) -> str:
    """One row."""
    return (
        f"{name:15} {one.points:4.0f} points: off by {100 * one.error:.2f} % "
        f"(stated {100 * one.stated:.2f}), log loss by {one.log_error:.3f} "
        f"(stated {one.log_stated:.3f}), Ra by {100 * one.ra:+.2f} %, "
        f"of log loss within ±0.25 by {100 * one.valley_ra:+.2f} %"
    )


def real() -> None:
    """The three exact surfaces of the tests."""
    with np.load(TESTS / "exact_surfaces.npz") as file:
        surfaces = {name: file[name] for name in file.files}
    for name, loss in surfaces.items():
        for limit in LIMITS:
            print(line(name, replay(np.linspace(-1, 1, len(loss)), loss.astype(float), limit)), flush=True)


def tiny(count: int, first: int) -> None:
    """Medians and the worst over many surfaces."""
    sys.path.append(str(TESTS))
    from network_surfaces import network_surface

    axis = np.linspace(-1, 1, 51)
    surfaces = [network_surface(first + number, 51) for number in range(count)]
    for limit in LIMITS:
        found = np.abs([astuple(replay(axis, loss, limit)) for loss in surfaces])
        print(line("median", Replay(*np.median(found, axis=0))))
        print(line("worst", Replay(*found.max(axis=0))))
        covered = [int((found[:, at + 1] >= found[:, at]).sum()) for at in (1, 3)]
        print(f"{'':28} the stated errors cover the true ones in {covered[0]} and {covered[1]} of {count}")


def time_a_point() -> None:
    """Medians over batches of points, at 180 to 220 points, of CPU and on the clock."""
    with np.load(TESTS / "exact_surfaces.npz") as file:
        surfaces = {name: file[name].astype(float) for name in file.files}
    for name, loss in surfaces.items():
        axis = np.linspace(-1, 1, len(loss))
        known, marks = 0, list[tuple[int, float, float]]()

        def losses(indices: Sequence[Index], loss: FloatArray = loss) -> FloatArray:
            return np.array([loss[index] for index in indices])

        for batch in adaptive(axis, axis, 0.005, None).batches(losses):
            known += len(batch)
            marks.append((known, time.process_time(), time.perf_counter()))
        spent = np.array([np.subtract(two, one) for one, two in pairwise(marks) if 180 <= two[0] <= 220])
        cpu, clock = 1000 * np.median(spent[:, 1:] / spent[:, :1], axis=0)
        print(f"{name:15} {cpu:.2f} ms of CPU a point, {clock:.2f} ms on the clock", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", type=int, default=0)
    parser.add_argument("--first", type=int, default=5000)
    parser.add_argument("--time", action="store_true")
    options = parser.parse_args()
    if options.time:
        time_a_point()
    elif options.tiny:
        tiny(options.tiny, options.first)
    else:
        real()


if __name__ == "__main__":
    main()
