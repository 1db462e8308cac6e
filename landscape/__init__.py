"""Loss landscapes of neural networks, sparse ones above all.

>>> import landscape
>>> landscape.load_surface  # doctest: +ELLIPSIS
<function load_surface at ...>

Names are imported when they are first used, so that opening a surface file doesn't load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sharpscape  # where a folder's own `training` must not hide ours

if TYPE_CHECKING:
    from landscape.checkpoint import load_checkpoint
    from landscape.compute import compute_surface
    from landscape.errors import UserError
    from landscape.losses import binary_classification, classification, regression
    from landscape.planes import BetweenPlane, GivenPlane, RandomPlane
    from landscape.planes.trajectory import trajectory_plane
    from landscape.plot import plot_surfaces
    from landscape.surface import Surface, load_surface
    from landscape.viewer import view

_HOME = {
    "BetweenPlane": "planes",
    "GivenPlane": "planes",
    "RandomPlane": "planes",
    "Surface": "surface",
    "UserError": "errors",
    "binary_classification": "losses",
    "classification": "losses",
    "compute_surface": "compute",
    "load_checkpoint": "checkpoint",
    "load_surface": "surface",
    "plot_surfaces": "plot",
    "regression": "losses",
    "trajectory_plane": "planes.trajectory",
    "view": "viewer",
}

__all__ = [
    "BetweenPlane",
    "GivenPlane",
    "RandomPlane",
    "Surface",
    "UserError",
    "binary_classification",
    "classification",
    "compute_surface",
    "load_checkpoint",
    "load_surface",
    "plot_surfaces",
    "regression",
    "trajectory_plane",
    "view",
]


_find = sharpscape.exports(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return sharpscape.version() if name == "__version__" else _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
