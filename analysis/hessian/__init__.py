"""Hessians of trained networks: products, eigenvalues, trace, spectral density.

As a command: ``python -m analysis.hessian net.pt``. Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.hessian.density import SpectralDensity, spectral_density
    from analysis.hessian.lanczos import Eigenpairs, eigenpairs
    from analysis.hessian.operator import HessianOperator
    from analysis.hessian.planes import eigenvector_plane
    from analysis.hessian.result import Spectrum
    from analysis.hessian.spectrum import hessian_spectrum
    from analysis.hessian.spectrum_file import load_spectrum
    from analysis.hessian.trace import Estimate, hutchpp

_HOME = {
    "Eigenpairs": "lanczos",
    "Estimate": "trace",
    "HessianOperator": "operator",
    "SpectralDensity": "density",
    "Spectrum": "result",
    "eigenpairs": "lanczos",
    "eigenvector_plane": "planes",
    "hessian_spectrum": "spectrum",
    "hutchpp": "trace",
    "load_spectrum": "spectrum_file",
    "spectral_density": "density",
}

__all__ = [
    "Eigenpairs",
    "Estimate",
    "HessianOperator",
    "SpectralDensity",
    "Spectrum",
    "eigenpairs",
    "eigenvector_plane",
    "hessian_spectrum",
    "hutchpp",
    "load_spectrum",
    "spectral_density",
]

__getattr__ = sharpscape.exports(__name__, _HOME)
