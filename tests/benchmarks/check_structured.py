"""Claim: networks that lost channels are faster on a CPU as they are, without kernels of ours.

Trains the sweep (or finds it trained, or goes on; ``--as-far`` takes what is there), measures each smaller
network in turns with the same one that still has all channels, batch by batch in one process, and computes
their surfaces beside the dense ones'. Leaves ``structured.csv``, ``structured.md`` and ``surfaces/`` in the
folder ``structured`` of the results. Seconds are the processor's own, since others may use the machine; the
speed-up is the median of the ratios turn by turn, its interval the one of order statistics that covers the
median with 95 %.

    python tests/benchmarks/check_structured.py --data npz:cifar10.npz
    python tests/benchmarks/check_structured.py structured-cpu --data sample --examples 40 --turns 6
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from check_files import command, write

from analysis.statistics.median import median_interval
from landscape.checkpoint import load_checkpoint
from landscape.files.runs_table import Row, read_runs
from training.models import ARCHITECTURES
from training.sweep.plan import Overrides, load_plan

HEADS = (
    *("run", "test accuracy %", "FLOPs of dense", "computed FLOPs", "parameters", "channels"),
    *(
        "ms, all channels",
        "ms",
        "faster",
        "ms at batch 1, all channels",
        "ms at batch 1",
        "faster at batch 1",
    ),
)


def network(path: Path) -> nn.Module:
    """A run's network, as PyTorch is fastest with it."""
    model = load_checkpoint(path, architectures=ARCHITECTURES).model
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def in_turn(models: Sequence[nn.Module], images: Tensor, turns: int) -> list[np.ndarray]:
    """Processor seconds of a forward pass of each, one after the other; the first turn is for warming up."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(turns + 1):
        for model, found in zip(models, times, strict=True):
            began = time.process_time()
            model(images)
            found.append(time.process_time() - began)
    return [np.array(found[1:]) for found in times]


def speed(dense: nn.Module, small: nn.Module, batch: int, turns: int) -> list[str]:
    """Milliseconds of both, and how many times as fast the smaller one is."""
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        slow, fast = in_turn((dense, small), images, turns)
    ratio, low, high = median_interval(list(slow / fast))
    return [*(f"{1e3 * np.median(one):.3g}" for one in (slow, fast)), f"{ratio:.2f} [{low:.2f}, {high:.2f}]"]


def measured(root: Path, row: Row, options: argparse.Namespace) -> list[str]:
    """A line of the table."""
    accuracy = f"{100 * float(row['test_accuracy']):.2f} ± {100 * float(row['test_accuracy_error']):.2f}"
    line = [row["run"], accuracy, f"{float(row['flops_share']):.3f}"]
    whole, small = (root / row["run"] / name for name in ("final.pt", "shrunk.pt"))
    if not small.exists():
        return [*line, "1", str(sum(one.numel() for one in network(whole).parameters())), "1", *[""] * 6]
    line += [f"{float(row[key]):.3f}" for key in ("shrunk_flops_share", "channels_share")]
    line.insert(4, row["shrunk_parameters"])
    for batch in (options.batch_size, 1):
        line += speed(network(whole), network(small), batch, options.turns)
    return line


def main() -> None:
    """Train, measure, compute surfaces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("spec", nargs="?", default="structured-cpu")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, default=Path("results/structured"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--as-far", action="store_true", help="train nothing, and leave out what isn't there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=60, help="six at least, for an interval")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--examples", type=int, default=1000, help="of the surfaces")
    parser.add_argument("--points", type=int, help="of the surfaces, by side; adaptive by default")
    options = parser.parse_args()
    if options.turns < 6:
        parser.error(f"--turns {options.turns}: an interval for the median needs 6")
    torch.set_num_threads(options.threads)
    root = options.output / "runs"
    if not options.as_far:
        command(
            "training.sweep", options.spec, "--data", options.data, "--output", root, "--jobs", options.jobs
        )
    rows = read_runs(root / "results.csv", "run this script again")
    names = [run.name for run in load_plan(options.spec, Overrides(data=options.data)).runs]
    done = {name for name, row in rows.items() if row["state"] == "finished"}
    planned = [rows[name] for name in names if name in done or not options.as_far]
    missing = [row["run"] for row in planned if not (root / row["run"] / "final.pt").exists()]
    if missing:
        parser.error(f"{missing[0]}: its weights aren't here; without --as-far it is trained anew")
    lines = [HEADS, *(measured(root, row, options) for row in planned)]
    folder = options.output / "structured"
    print(write(folder, "structured", lines))
    chosen = [row for row in planned if row["method"] in ("dense", "chex")]
    for row in chosen:
        kind = "final.pt" if row["method"] == "dense" else "shrunk.pt"
        place = folder / "surfaces" / row["run"]
        points = [] if options.points is None else ["--points", options.points]
        rest = ["--data", options.data, "--examples", options.examples, "--output", place, *points]
        command("landscape.surface", root / row["run"] / kind, *rest)
    files = [next((folder / "surfaces" / row["run"]).glob("*.surface.h5")) for row in chosen]
    command("landscape.viewer", *files, "--output", folder / "surfaces" / "structured.html")


if __name__ == "__main__":
    main()
