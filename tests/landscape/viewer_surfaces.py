"""Synthetic surfaces for the viewer's tests: bowls with ripples, holes, lines, several planes and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from landscape.surface import FloatArray, Metric, Path2D, Plane, Split, Surface


def bowl(
    *,
    label: str = "ResNet-20, 90 % sparse",
    points: int | tuple[int, int] = 25,
    ripple: float = 0.15,
    depth: float = 0.3,
    splits: Sequence[str] = ("test",),
    seeds: Sequence[int] = (0,),
    interpolate: bool = False,
    nan: bool = False,
    inf: bool = False,
) -> Surface:
    """A quadratic bowl with ripples; accuracy falls as loss rises. One point along beta makes a line."""
    shape = (points, points) if isinstance(points, int) else points
    alpha = np.linspace(-1, 1, shape[0])
    beta = np.linspace(-1, 1, shape[1]) if shape[1] > 1 else np.zeros(1)
    planes = []
    for seed in seeds:
        metrics = {
            name: _metrics(alpha, beta, ripple, depth + 0.05 * k, seed) for k, name in enumerate(splits)
        }
        for values in metrics.values():
            _punch(values["loss"], alpha, beta, nan=nan, inf=inf)
        i, j = np.indices(shape)
        computed = (i % 3 == 0) & (j % 3 == 0) if interpolate else np.ones(shape, bool)
        error = 0.012 if interpolate else 0.0
        planes.append(
            Plane(
                about={
                    "kind": "random",
                    "seed": seed,
                    "normalize": "filter",
                    "mask": "checkpoint",
                    "density": 0.1,
                },
                computed=computed & ~np.isnan(next(iter(metrics.values()))["loss"]),
                splits={
                    name: Split(
                        examples=1000,
                        metrics={
                            key: Metric(array, 0.04 + 0.02 * np.abs(np.nan_to_num(array, posinf=1.0)), error)
                            for key, array in values.items()
                        },
                    )
                    for name, values in metrics.items()
                },
            )
        )
    about = {"label": label, "architecture": {"name": "resnet20", "width": 16}, "data": {"name": "cifar10"}}
    return Surface(
        alpha, beta, tuple(planes), {"examples": 1000, "dtype": "float32"}, about, complete=not nan
    )


def with_path(
    surface: Surface,
    alpha: Sequence[float],
    beta: Sequence[float],
    labels: Sequence[str],
    parts: Sequence[tuple[str, int]] = (),
) -> Surface:
    """The surface with a path on each of its planes; `parts` as in `Path2D`."""
    path = Path2D(np.array(alpha, float), np.array(beta, float), tuple(labels), tuple(parts))
    return replace(surface, planes=tuple(replace(plane, path=path) for plane in surface.planes))


def with_curvature(surface: Surface, every: int = 2) -> Surface:
    """The surface with maps of eigenvalues, computed at each `every`-th coordinate; λmin is negative."""
    a, b = np.meshgrid(surface.alpha, surface.beta, indexing="ij")
    largest, smallest = 40 + 30 * a**2 + 10 * b, -3 - 2 * b**2
    i, j = np.indices(surface.shape)
    computed = (i % every == 0) & (j % every == 0)
    unknown = np.full(surface.shape, np.nan)
    maps = {"lambda_max": largest, "lambda_min": smallest, "lambda_ratio": abs(smallest / largest)}
    added = {name: Metric(values, unknown, 0.2, computed=computed) for name, values in maps.items()}
    planes = []
    for plane in surface.planes:
        splits = {
            name: replace(split, metrics={**split.metrics, **added}) for name, split in plane.splits.items()
        }
        planes.append(replace(plane, splits=splits))
    return replace(surface, planes=tuple(planes))


def _metrics(
    alpha: FloatArray, beta: FloatArray, ripple: float, depth: float, seed: int
) -> dict[str, FloatArray]:
    a, b = np.meshgrid(alpha, beta, indexing="ij")
    bend = 0.5 + 0.3 * seed
    loss = (
        depth + 2.2 * (a**2 + bend * b**2 + 0.4 * a * b) + ripple * (2 - np.cos(9 * a + seed) - np.cos(8 * b))
    )
    return {"loss": loss, "accuracy": 0.1 + 0.82 * np.exp(-0.7 * (loss - depth))}


def _punch(loss: FloatArray, alpha: FloatArray, beta: FloatArray, *, nan: bool, inf: bool) -> None:
    a, b = np.meshgrid(alpha, beta, indexing="ij")
    if inf:
        loss[a + b > 1.3] = np.inf
    if nan:
        loss[a < -0.8] = np.nan
