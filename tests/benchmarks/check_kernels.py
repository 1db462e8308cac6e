"""Claim: training with sparse kernels and with dense ones differs by no more than two seeds do.

Trains one cell with kernels that compute with kept weights only, over some seeds, and its first seed with
PyTorch's own as well (or finds them trained, or goes on); computes surfaces and largest eigenvalues as the
scale does; and leaves ``kernels.csv`` and ``kernels.md`` in the results' folder. Rounding differs from the
first step on, so the two networks of one seed are different ones in the end.

    python tests/benchmarks/check_kernels.py --data npz:cifar10.npz --jobs 2
    python tests/benchmarks/check_kernels.py --data npz:cifar10.npz --cell mest_em-0.95-s2sam --seeds 4
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import fmean, stdev

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from check_files import command, write

from analysis.roughness import roughness
from figures.measures import measures_of
from figures.registered import SPAN
from figures.reproduce.plan import Job, Options, jobs
from figures.reproduce.scale import load_scale
from landscape.surface import load_surface
from training.checkpoint import load_dict
from training.sweep.plan import Overrides, load_plan

SPEC, SCALE = "figures-cpu", "cpu"


@dataclass(frozen=True)
class Network:
    """What was measured of one; the logarithm of Ra of log loss is the mean over planes."""

    run: str
    kernels: str
    accuracy: float
    log_ra: float
    largest: float

    @property
    def values(self) -> list[float]:
        """Those that are compared: points of accuracy, and logarithms of the rest."""
        return [100 * self.accuracy, self.log_ra, log(self.largest)]


def run(job: Job) -> None:
    """A surface or a spectrum, unless it is there."""
    if not job.done and (code := subprocess.run(job.on("cpu"), check=False).returncode):
        raise SystemExit(code)


def measured(root: Path, name: str) -> Network:
    """Read a network's files."""
    checkpoint = load_dict(root / "runs" / name / "final.pt")
    surface = load_surface(root / "surfaces" / f"{name}.surface.h5")
    planes = [replace(surface, planes=(plane,)) for plane in surface.planes]
    return Network(
        name,
        str(checkpoint["environment"]["kernels"]).partition(",")[0].partition(":")[0],
        float(checkpoint["metrics"]["test_accuracy"]),
        fmean(log(roughness(plane, log=True, span=SPAN).ra.value) for plane in planes),
        measures_of(root, name)["lambda_max"].value,
    )


def table(sparse: Sequence[Network], dense: Network) -> list[list[str]]:
    """All networks, the spread over seeds, and how far the two of the first seed are apart."""
    heads = ["run", "kernels", "test accuracy %", "Ra of log loss", "λmax"]
    lines = [
        [one.run, one.kernels, f"{100 * one.accuracy:.2f}", f"{exp(one.log_ra):.4f}", f"{one.largest:.3f}"]
        for one in [*sparse, dense]
    ]
    columns = list(zip(*(one.values for one in sparse), strict=True))
    spread = [stdev(column) for column in columns]
    apart = [b - a for a, b in zip(sparse[0].values, dense.values, strict=True)]
    far = [max(column) - min(column) for column in columns]

    def row(what: str, found: Sequence[float]) -> list[str]:
        points, *factors = found
        return [what, "", f"{points:+.2f} points", *(f"× {exp(factor):.3f}" for factor in factors)]

    ratios = [f"{abs(a) / s:.2f}" for a, s in zip(apart, spread, strict=True)]
    within = ["yes" if abs(a) <= f else "no" for a, f in zip(apart, far, strict=True)]
    return [
        heads,
        *lines,
        row(f"standard deviation over {len(sparse)} seeds", spread),
        row("dense against sparse, first seed", apart),
        ["that, in standard deviations", "", *ratios],
        ["closer than the two seeds that are farthest apart", "", *within],
    ]


def main() -> None:
    """Train, compute, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, default=Path("results/kernels"))
    parser.add_argument("--cell", default="grasp-0.98-sgd", help="of the spec figures-cpu")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}: a spread needs 2")
    torch.set_num_threads(1)
    planned = load_plan(SPEC, Overrides(seeds=range(options.seeds), data=options.data)).runs
    names = [one.name for one in planned if f"-{options.cell}-seed" in one.name]
    if not names:
        parser.error(f"--cell {options.cell}: none of {SPEC}, as {planned[0].name}")
    first = next(one for one in planned if one.name == names[0])
    sparse, dense = options.output / "sparse", options.output / "dense"
    trainings = [
        ["training", *one.arguments, "--sparse=on", f"--output={sparse / 'runs' / one.name}"]
        for one in planned
        if one.name in names
    ]
    trainings.insert(
        0, ["training", *first.arguments, "--sparse=off", f"--output={dense / 'runs' / first.name}"]
    )
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda words: command(*words, "--threads=1", "--device=cpu"), trainings))
        found = [
            job
            for root in (dense, sparse)
            for job in jobs(load_scale(SCALE), root, Options(options.data, None, "cpu", options.jobs))
            if job.kind in ("surface", "hessian")
        ]
        list(pool.map(run, found))
    lines = table([measured(sparse, name) for name in names], measured(dense, first.name))
    print(write(options.output, "kernels", lines))


if __name__ == "__main__":
    main()
