"""The report's registered numbers computed anew from the files, with nothing of this project imported.

``python tests/figures/recompute_report.py RESULTS`` reads the surfaces with h5py, integrates them by its own
rule (midpoints of a fine division of every grid cell into triangles), flips signs by its own loops, and
prints effect and corrected p-value of the three claims of docs/preregistration.md. With ``--report FILE``
it fails when an effect or a p-value isn't the report's.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import re
import sys
from pathlib import Path

import h5py
import numpy as np

NETWORK = "resnet20-cifar10"
FIGURE1 = [("grasp", s) for s in (0.8, 0.9, 0.95, 0.98)], [("mest_em", s) for s in (0.8, 0.9, 0.95, 0.98)]
FIGURE3 = [(m, s) for m in ("snip", "grasp", "mest_em") for s in (0.9, 0.95, 0.98)]
SPAN, FINE = 0.25, 24
MATTERS = {"F1": math.log(1.1), "F3": math.log(0.95), "T1": 0.2}
SIGN = {"F1": 1, "F3": -1, "T1": 1}


def mean_absolute_deviation(alpha: np.ndarray, beta: np.ndarray, z: np.ndarray) -> float:
    """Of the surface that is linear on the four triangles between a cell's corners and its centre."""
    mids = (np.arange(FINE) + 0.5) / FINE
    u, v = np.meshgrid(mids, mids, indexing="ij")
    a, b, c, d = z[:-1, :-1], z[1:, :-1], z[1:, 1:], z[:-1, 1:]  # round the cell
    centre = (a + b + c + d) / 4
    samples = np.empty((*a.shape, FINE, FINE))
    for i in range(FINE):
        for j in range(FINE):
            x, y = u[i, j], v[i, j]
            # Which triangle, and its two corners with the point's coordinates in it.
            if y <= min(x, 1 - x):
                first, second, depth, along = a, b, y, x
            elif y >= max(x, 1 - x):
                first, second, depth, along = d, c, 1 - y, x
            elif x <= 0.5:
                first, second, depth, along = a, d, x, y
            else:
                first, second, depth, along = b, c, 1 - x, y
            share = 2 * depth  # of the centre
            where = (along - depth) / (1 - share) if share < 1 else 0.5
            samples[..., i, j] = share * centre + (1 - share) * (first + (second - first) * where)
    area = np.outer(np.diff(alpha), np.diff(beta))
    area = area / area.sum()
    per_cell = samples.mean(axis=(2, 3))
    mean = (area * per_cell).sum()
    return float((area * np.abs(samples - mean).mean(axis=(2, 3))).sum())


def network_value(path: Path) -> float:
    """Mean over planes of log Ra of log loss within the span, first split."""
    values = []
    with h5py.File(path, "r") as file:
        alpha, beta = file["alpha"][()], file["beta"][()]
        rows, columns = np.abs(alpha) <= SPAN * (1 + 1e-9), np.abs(beta) <= SPAN * (1 + 1e-9)
        for number in sorted(file["planes"], key=int):
            plane = file["planes"][number]
            split = re.findall(r'"([^"]+)"', str(plane.attrs["splits"]))[0]
            loss = plane["splits"][split]["loss"][()][rows][:, columns]
            if np.isinf(loss).any():
                return math.inf
            values.append(math.log(mean_absolute_deviation(alpha[rows], beta[columns], np.log(loss))))
    return float(np.mean(values))


def per_seed(root: Path) -> tuple[dict[str, dict[int, float]], bool]:
    """The three numbers of every complete seed, and whether none was begun and isn't complete."""
    names = [path.name.removesuffix(".surface.h5") for path in (root / "surfaces").glob(f"{NETWORK}-*.h5")]
    value = {name: network_value(root / "surfaces" / f"{name}.surface.h5") for name in names}
    accuracy = {}
    with (root / "runs" / "results.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("test_accuracy"):
                accuracy[row["run"]] = 100 * float(row["test_accuracy"])
    seeds = sorted({int(name.rpartition("seed")[2]) for name in {*names, *accuracy}})

    def name_of(method: str, sparsity: float, optimizer: str, seed: int) -> str:
        return f"{NETWORK}-{method}-{sparsity:g}-{optimizer}-seed{seed}"

    found: dict[str, dict[int, float]] = {"F1": {}, "F3": {}, "T1": {}}
    needed = {"F1": (value, [(*one, "sgd") for row in FIGURE1 for one in row])}
    needed |= {key: (table, [(*one, o) for one in FIGURE3 for o in ("sgd", "s2sam")])
               for key, table in (("F3", value), ("T1", accuracy))}  # fmt: skip
    for seed in seeds:
        slopes = []
        for row in FIGURE1:
            levels = [value.get(name_of(m, s, "sgd", seed), math.nan) for m, s in row]
            finite = all(map(math.isfinite, levels))
            slopes.append(np.polyfit(range(4), levels, 1)[0] if finite else math.nan)
        found["F1"][seed] = 3 * float(np.mean(slopes))
        for key, table in (("F3", value), ("T1", accuracy)):
            changes = [
                table.get(name_of(m, s, "s2sam", seed), math.nan)
                - table.get(name_of(m, s, "sgd", seed), math.nan)
                for m, s in FIGURE3
            ]
            found[key][seed] = float(np.mean(changes))
    there = {
        key: {seed for seed in seeds if all(name_of(*one, seed) in table for one in networks)}
        for key, (table, networks) in needed.items()
    }
    complete = {key: {s: v for s, v in one.items() if s in there[key]} for key, one in found.items()}
    return complete, all(there[key] == set(seeds) for key in found)


def one_sided(values: list[float], sign: int) -> float:
    """Share of all changes of sign whose mean is at least as far in that direction."""
    observed = sign * sum(values)
    slack = 1e-12 * sum(map(abs, values))
    flips = list(itertools.product((1, -1), repeat=len(values)))
    return sum(
        sign * sum(f * v for f, v in zip(flip, values, strict=True)) >= observed - slack for flip in flips
    ) / len(flips)


def corrected(p_values: dict[str, float]) -> dict[str, float]:
    """Holm."""
    found, largest = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        found[key] = largest
    return found


def main() -> None:
    """Print, and compare with a report where one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    numbers, whole = per_seed(options.results)
    tested = whole and all(len(one) >= 6 for one in numbers.values())
    p_values = {
        key: one_sided(list(one.values()), SIGN[key]) if all(map(math.isfinite, one.values())) else 1.0
        for key, one in numbers.items()
        if one
    }
    holm = corrected(p_values) if tested else {}
    wrong = []
    text = options.report.read_text(encoding="utf-8") if options.report else ""
    for key, one in numbers.items():
        if not one:
            print(f"{key}: no complete seed")
            continue
        mean = float(np.mean(list(one.values())))
        shown = f"× {np.exp(mean):.3f}" if key != "T1" else f"{mean:+.2f} points".replace("-", "−")
        shown = shown if math.isfinite(mean) else "not finite"
        p = f", p {holm[key]:.2g}" if holm else ", not tested"
        print(f"{key}: {shown} over {len(one)} seeds{p}")
        row = next((line for line in text.splitlines() if line.startswith(f"| {key} |")), "")
        if options.report and (shown not in row or (holm and f"| {holm[key]:.2g} |" not in row)):
            wrong.append(f"{key}: the report has {row or 'no such row'}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
