"""Maps of the Hessian's extreme eigenvalues over loss surfaces.

As a command: ``python -m analysis.curvature net.surface.h5 net.pt``. Names are imported when they are first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.curvature.extremes import Extremes
    from analysis.curvature.map import curvature_map
    from analysis.curvature.plan import Plan

_HOME = {"Extremes": "extremes", "Plan": "plan", "curvature_map": "map"}

__all__ = ["Extremes", "Plan", "curvature_map"]

__getattr__ = sharpscape.exports(__name__, _HOME)
