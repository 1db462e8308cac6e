"""Folders of results without any training: surfaces of formulas, and the steps of a quadratic by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from landscape.surface import FloatArray, Metric, Plane, Split, Surface

NETWORK = "resnet20-cifar10"
RIDGE = {"grasp": 1.0, "mest_em": 0.7, "snip": 1.4}
X = np.linspace(-1, 1, 17)
COLUMNS = ("run", "state", "method", "sparsity_asked", "optimizer", "seed", "test_accuracy")


def run_name(method: str, sparsity: float, optimizer: str, seed: int = 0, network: str = NETWORK) -> str:
    return f"{network}-{method}-{sparsity:g}-{optimizer}-seed{seed}"


def all_runs(seeds: Iterable[int] = (0,)) -> list[tuple[str, float, str, int]]:
    """Everything that Figures 1 and 3 show."""
    return list(product(("snip", "grasp", "mest_em"), (0.8, 0.9, 0.95, 0.98), ("sgd", "s2sam"), seeds))


def surface_of(
    loss: FloatArray,
    *,
    label: str = "final",
    alpha: FloatArray = X,
    beta: FloatArray = X,
    settings: Mapping[str, Any] | None = None,
    classifier: bool = True,
    complete: bool = True,
) -> Surface:
    """As landscape.surface would have written it, with five blocks of examples."""
    blocks = loss[:, :, None] * (1 + 0.02 * np.array([-1.5, -0.5, 0.0, 0.7, 1.3]))
    metrics = {"loss": Metric(loss, np.full(loss.shape, 0.02), 0.0, blocks)}
    if classifier:
        metrics["accuracy"] = Metric(1 / (1 + loss), np.full(loss.shape, 0.01), 0.0)
    plane = Plane(
        {"kind": "random", "seed": 0, "normalize": "filter", "mask": "checkpoint", "density": 0.1},
        np.ones(loss.shape, bool),
        {"train": Split(1000, metrics, np.full(5, 200))},
    )
    about = {"label": label, "data": {"name": "cifar10"}, "checkpoint": {"file": "final.pt"}}
    made = {"examples": {"train": "5eed"}, "engine": {"batch_norm": "fixed"}, **(settings or {})}
    return Surface(alpha, beta, (plane,), made, about, complete)


def loss_of(method: str, sparsity: float, optimizer: str, seed: int = 0) -> FloatArray:
    """A bowl with ridges, steeper for sparser networks and flatter with S2-SAM."""
    a, b = X[:, None], X[None, :]
    steep = (
        2
        * RIDGE[method]
        * (1 + 3 * sparsity**6)
        * (0.75 if optimizer == "s2sam" else 1.0)
        * (1 + 0.05 * seed)
    )
    ripple = 1 + 0.25 * np.sin(5 * a + 2 * sparsity) * np.cos(4 * b)
    return np.asarray(0.3 + 0.4 * sparsity + steep * (a**2 + 0.6 * b**2 + 0.3 * a * b) * ripple)


def write_results(root: Path, runs: Iterable[tuple[str, float, str, int]], table: bool = True) -> Path:
    """RESULTS with those runs; the table has them all as finished."""
    rows = []
    for method, sparsity, optimizer, seed in runs:
        name = run_name(method, sparsity, optimizer, seed)
        surface_of(loss_of(method, sparsity, optimizer, seed)).save(root / "surfaces" / f"{name}.surface.h5")
        rows.append(
            {"run": name, "state": "finished", "method": method, "sparsity_asked": f"{sparsity:g}",
             "optimizer": optimizer, "seed": str(seed), "test_accuracy": "0.8125"}
        )  # fmt: skip
    if table:
        write_table(root, rows)
    return root


def write_table(root: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path = root / "runs" / "results.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


# L = (w1² + 4 w2²) / 2 from (1, 1): learning rate 0.1, rho 0.1, no momentum, no weight decay.
RATE, RHO, CURVATURE = 0.1, 0.1, np.array([1.0, 4.0])


def quadratic_steps() -> dict[str, Any]:
    """The second step of S2-SAM and of SAM, by their definitions."""
    start = np.array([1.0, 1.0])

    def up(weights: FloatArray, gradient: FloatArray) -> FloatArray:
        return np.asarray(weights + RHO * gradient / np.linalg.norm(gradient))

    def step(points: list[FloatArray], gradients: list[tuple[FloatArray, bool]]) -> dict[str, Any]:
        return {
            "surface": "slice.surface.h5",
            "axes": ["w₁", "w₂"],
            "points": dict(zip(("w_t-2", "w_t-1", "u_t", "w_t"), (p.tolist() for p in points), strict=True)),
            "gradients": [
                {"at": at.tolist(), "vector": (CURVATURE * at).tolist(), "reused": reused}
                for at, reused in gradients
            ],
            "off_plane": 0.0,
        }

    first = start - RATE * CURVATURE * start  # S2-SAM's first step isn't perturbed
    moved = up(first, CURVATURE * start)
    s2sam = step([start, first, moved, first - RATE * CURVATURE * moved], [(start, True), (moved, False)])
    first = start - RATE * CURVATURE * up(start, CURVATURE * start)
    moved = up(first, CURVATURE * first)
    sam = step([start, first, moved, first - RATE * CURVATURE * moved], [(first, False), (moved, False)])
    return {
        "format": "sharpscape.step",
        "version": 1,
        "what": "Second step on L = ½(w₁² + 4w₂²) from (1, 1).",
        "learning_rate": RATE,
        "rho": RHO,
        "steps": {"s2sam": s2sam, "sam": sam},
    }


def write_steps(root: Path, content: Mapping[str, Any] | None = None) -> Path:
    """RESULTS/figure2 with the quadratic's slice and steps."""
    axis = np.linspace(0.1, 1.2, 23)
    loss = np.asarray((axis[:, None] ** 2 + 4 * axis[None, :] ** 2) / 2)
    folder = root / "figure2"
    surface_of(loss, alpha=axis, beta=axis, classifier=False).save(folder / "slice.surface.h5")
    path = folder / "step.json"
    path.write_text(json.dumps(content or quadratic_steps()), encoding="utf-8")
    return path
