"""Claim: points computed ahead keep more workers busy than the sampler does, and most are asked for later.

    python tests/benchmarks/bench_ahead.py                      # three real networks, 1 to 100 workers
    python tests/benchmarks/bench_ahead.py --batches 5 8 16 32  # asking for more at a time instead

Replayed on the exact surfaces of the tests (51×51, default settings), as if every point took the same time
and nothing else did: how many times faster than one worker, without points ahead and with them, and the share
of those that were asked for. With ``--batches``: the largest errors when the sampler asks for so many at a
time, on each surface, mirrored and transposed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from landscape.sampling import BATCH, Index, adaptive
from landscape.sampling.interpolate import interpolate_grid
from landscape.surface import FloatArray

EXACT = Path(__file__).resolve().parents[1] / "landscape" / "exact_surfaces.npz"
WORKERS = (1, 2, 4, 8, 16, 32, 100)


def surfaces() -> Iterator[tuple[str, FloatArray]]:
    with np.load(EXACT) as file:
        for name in file.files:
            yield name, file[name].astype(float)


def replay(loss: FloatArray, workers: int, ahead: bool, at_a_time: int) -> tuple[int, int, int, int]:
    """Time in points, points asked for, computed ahead, and of these asked for."""
    axis = np.linspace(-1, 1, len(loss))
    sampler = adaptive(axis, axis, 0.005, None, at_a_time=at_a_time)

    def losses(indices: Sequence[Index]) -> FloatArray:
        return np.array([loss[index] for index in indices])

    time, asked, begun, used = 0, 0, dict[Index, int](), 0
    for batch in sampler.batches(losses):
        asked += len(batch)
        used += sum(index in begun for index in batch)
        left = [index for index in batch if index not in begun]
        waiting = max([begun[index] for index in batch if index in begun], default=0)
        while left or time < waiting:
            running = sum(end > time for end in begun.values())
            here, left = left[: workers - running], left[workers - running :]
            free = workers - running - len(here)
            more = sampler.ahead(free) if ahead and free > 0 else []
            begun.update({index: time + 1 for index in more if index not in begun})
            begun.update(dict.fromkeys(here, time + 1))
            time += 1
            waiting = max(waiting, *(begun[index] for index in batch if index in begun))
        known = set(batch)
        begun = {index: end for index, end in begun.items() if index not in known}
    return time, asked, used + len(begun), used


def ahead() -> None:
    for name, loss in surfaces():
        print(name)
        for workers in WORKERS:
            without, points, _, _ = replay(loss, workers, False, BATCH)
            time, _, more, used = replay(loss, workers, True, BATCH)
            many, points_then, _, _ = replay(loss, workers, True, max(BATCH, workers))
            share = f", {100 * used / more:.0f} % of {more} ahead were asked for" if more else ""
            print(
                f"  {workers:3} workers: {points / without:5.1f} times as fast as one, "
                f"{points / time:5.1f} with points ahead{share}; with --at-a-time {max(BATCH, workers)} "
                f"{points_then / many:5.1f}",
                flush=True,
            )


def errors(batch: int) -> None:
    for name, loss in surfaces():
        found = []
        for values in (loss, loss[::-1], loss.T):
            axis = np.linspace(-1, 1, len(values))
            computed = np.zeros(values.shape, dtype=bool)
            for indices in adaptive(axis, axis, 0.005, None, at_a_time=batch).batches(
                lambda wanted, values=values: np.array([values[index] for index in wanted])
            ):
                computed[tuple(np.transpose(indices))] = True
            filled = interpolate_grid(axis, axis, computed, np.ascontiguousarray(values))
            off = np.abs(filled - values).max() / np.ptp(values)
            found.append((computed.sum(), 100 * off, np.abs(np.log(filled / values)).max()))
        text = "; ".join(f"{points} points, {off:.2f} %, log {log:.3f}" for points, off, log in found)
        print(f"{batch:3} at a time, {name}: {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+")
    options = parser.parse_args()
    for batch in options.batches or ():
        errors(batch)
    if not options.batches:
        ahead()


if __name__ == "__main__":
    main()
