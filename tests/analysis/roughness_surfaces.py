"""Synthetic surfaces with per-example noise for the tests of analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from landscape.surface import BoolArray, FloatArray, Metric, Plane, Split, Surface


def axis(points: int, span: float = 1.0) -> FloatArray:
    """Symmetric, even."""
    return np.linspace(-span, span, points)


def surface_of(
    values: FloatArray,
    *,
    alpha: FloatArray | None = None,
    beta: FloatArray | None = None,
    blocks: FloatArray | None = None,
    counts: npt.ArrayLike = (),
    computed: BoolArray | None = None,
    error: float = 0.0,
    label: str = "synthetic",
    split: str = "test",
    **about: Any,
) -> Surface:
    """One plane holding `values[alpha, beta]`, or several from ``[plane, alpha, beta]``."""
    layers = values if values.ndim == 3 else values[None]
    alpha = axis(layers.shape[1]) if alpha is None else alpha
    if beta is None:
        beta = np.zeros(1) if layers.shape[2] == 1 else axis(layers.shape[2])
    grids = None if blocks is None else (blocks if blocks.ndim == 4 else blocks[None])
    known = np.ones(layers.shape[1:], bool) if computed is None else computed
    block_counts = np.asarray(counts, np.int64)
    examples = int(block_counts.sum()) or 100
    planes = []
    for index, layer in enumerate(layers):
        metric = Metric(layer, np.full_like(layer, np.nan), error, None if grids is None else grids[index])
        facts = {"kind": "random", "seed": index, "normalize": "filter", "mask": "zeros", **about}
        planes.append(Plane(facts, known, {split: Split(examples, {"loss": metric}, block_counts)}))
    settings = {"examples": {split: "5eed"}, "loss": "classification"}
    return Surface(alpha, beta, tuple(planes), settings, {"label": label, "data": "made up"})


def noisy_surface(
    rng: np.random.Generator, base: FloatArray, counts: npt.NDArray[np.int64], noise: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Mean and block means of examples whose own surfaces scatter around `base` (positive, skewed)."""
    n = int(counts.sum())
    x = axis(base.shape[0])[:, None] * np.ones(base.shape)
    terms = np.stack([base, x**2, x * x.T if base.shape[1] == base.shape[0] else x, np.ones_like(base)])
    factors = noise * np.array([0.4, 0.3, 0.2, 0.2]) * (rng.exponential(size=(n, 4)) - 1)
    factors[:, 0] += 1
    owners = np.repeat(np.arange(len(counts)), counts)
    means = np.stack([factors[owners == block].mean(axis=0) for block in range(len(counts))])
    blocks = np.einsum("kt,tab->abk", means, terms)
    return np.average(blocks, axis=-1, weights=counts), blocks
