"""Surface, Hessian and sharpness files for ``flip_bits.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from analysis.hessian.density import SpectralDensity
from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.spectrum_file import load_spectrum, save_spectrum
from analysis.hessian.trace import Estimate
from analysis.sharpness.measure import Sharpness
from analysis.sharpness.sharpness_file import Entry, load, save
from landscape.surface import Metric, Plane, Split, Surface, load_surface

Kind = tuple[Path, Callable[[Path], object]]


def surface(folder: Path) -> Kind:
    """Two planes of 9 × 7 points with blocks and directions."""
    draw = np.random.default_rng(0)
    counts = np.full(5, 4, np.int64)

    def metric(blocks: int | None = None) -> Metric:
        kept = None if blocks is None else draw.random((9, 7, blocks))
        return Metric(draw.random((9, 7)), draw.random((9, 7)), 0.1, kept)

    def plane(seed: int) -> Plane:
        split = Split(20, {"loss": metric(5), "accuracy": metric()}, counts)
        directions = ({"conv.weight": draw.random((4, 3))}, {"conv.weight": draw.random((4, 3))})
        return Plane({"seed": seed}, draw.random((9, 7)) > 0.5, {"test": split}, directions)

    made = Surface(
        np.linspace(-1, 1, 9), np.linspace(-1, 1, 7), (plane(0), plane(1)), {"points": 9}, {"label": "x"}
    )
    return made.save(folder / "net.surface.h5"), _surface_bytes


def hessian(folder: Path) -> Kind:
    """Eigenvalues at both ends and a density of two probes."""
    draw = np.random.default_rng(0)
    nodes = [draw.normal(size=20) for _ in range(2)]
    weights = [np.full(20, 0.05)] * 2
    known = np.array([3.0, 2.0, 1.0])
    pairs = Pairs(known, draw.random(3), np.ones(3, bool))
    made = Spectrum(
        pairs,
        Pairs(-known, draw.random(3), np.ones(3, bool)),
        Estimate(5.0, 0.5, 1.0),
        Estimate(6.0, 0.5, 1.0),
        None,
        SpectralDensity(50, known, nodes, weights),
        n=50,
        full_size=60,
        examples=20,
        loss=0.5,
        gradient_norm=0.1,
        products=40,
        seconds=1.0,
        settings={"examples": "0"},
        about={"label": "net"},
    )
    return save_spectrum(made, folder / "net.hessian.h5"), _spectrum_bytes


def sharpness(folder: Path) -> Kind:
    """One network with one measure."""
    found = Sharpness(1.0, 0.5, 1.5, 0.1, 0.0)
    path = folder / "sharpness.json"
    save([Entry("net", "net.pt", "0" * 64, "test", {"rho": 0.05}, {}, {"sam": found})], path)
    return path, load


def _surface_bytes(path: Path) -> object:
    found = load_surface(path)
    parts: list[object] = [
        found.settings,
        found.about,
        found.complete,
        found.alpha.tobytes(),
        found.beta.tobytes(),
    ]
    for plane in found.planes:
        parts += [plane.about, plane.computed.tobytes()]
        parts += [(name, one.tobytes()) for axis in plane.directions for name, one in axis.items()]
        for name, split in plane.splits.items():
            parts += [name, split.examples, split.block_counts.tobytes()]
            for key, metric in split.metrics.items():
                blocks = None if metric.blocks is None else metric.blocks.tobytes()
                parts += [key, metric.values.tobytes(), metric.stderr.tobytes(), metric.error, blocks]
    return parts


def _spectrum_bytes(path: Path) -> object:
    found = load_spectrum(path)
    pairs = [
        (one.values.tobytes(), one.residuals.tobytes(), one.converged.tobytes())
        for one in (found.top, found.bottom)
    ]
    density = found.density
    sampled = (
        []
        if density is None
        else [one.tobytes() for one in (density.known, *density.nodes, *density.weights)]
    )
    numbers = [
        found.n,
        found.full_size,
        found.examples,
        found.loss,
        found.gradient_norm,
        found.products,
        found.seconds,
    ]
    return [
        pairs,
        sampled,
        numbers,
        asdict(found.trace),
        asdict(found.frobenius),
        found.settings,
        found.about,
    ]


KINDS = {"surface": surface, "hessian": hessian, "sharpness": sharpness}
