"""The spectral density as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.hessian.result import Spectrum
from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = 0.1  # of what a single eigenvalue makes; below is the tail of a kernel


def plot_densities(spectra: Sequence[Spectrum]) -> Figure:
    """One panel per spectrum, over its own range: density with standard error, and the eigenvalues found.

    Raises
    ------
    UserError
        When a spectrum has no density.
    """
    figure = Picture(figsize=(6.0, 0.8 + 2.2 * len(spectra)), layout="constrained")
    panels = figure.subplots(len(spectra), 1, squeeze=False)[:, 0]
    for panel, spectrum in zip(panels, spectra, strict=True):
        _draw(panel, spectrum)
    panels[-1].set_xlabel("eigenvalue of the Hessian")
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write PNG, PDF or SVG, by the name's ending, in one step."""
    from landscape.plot.text import literal

    literal(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".").lower(), dpi=200)


def _draw(panel: Axes, spectrum: Spectrum) -> None:
    density = spectrum.density
    if density is None:
        raise UserError(f"{spectrum.label}: no density was sampled; compute it with --density-probes 4")
    grid, values, stderr = density.smooth()
    low, high = density.range
    floor = _FLOOR / (spectrum.n * max(grid[1] - grid[0], 1e-300) * 10)
    panel.fill_between(
        grid,
        np.maximum(values - np.nan_to_num(stderr), floor),
        np.maximum(values + np.nan_to_num(stderr), floor),
        alpha=0.35,
        linewidth=0,
    )
    panel.plot(grid, np.maximum(values, floor), linewidth=1.0)
    found = np.concatenate([spectrum.top.values, spectrum.bottom.values])
    level, place = np.full(len(found), 0.03), panel.get_xaxis_transform()
    panel.plot(found, level, "|", color="black", markersize=8, transform=place)
    panel.set_yscale("log")
    panel.set_ylim(bottom=floor)
    panel.set_ylabel("density")
    panel.set_title(
        f"{spectrum.label}: {low:.3g} to {high:.3g}, trace {spectrum.trace.value:.3g}", fontsize=9
    )
