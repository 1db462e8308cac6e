"""Mode connectivity: the loss on a straight line and on a trained curve between two networks.

As a command: ``python -m analysis.connectivity a.pt b.pt``. Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.connectivity.barriers import Barrier, barrier
    from analysis.connectivity.connection import Connection, connect
    from analysis.connectivity.recipe import Training

_HOME = {
    "Barrier": "barriers",
    "Connection": "connection",
    "Training": "recipe",
    "barrier": "barriers",
    "connect": "connection",
}

__all__ = ["Barrier", "Connection", "Training", "barrier", "connect"]

__getattr__ = sharpscape.exports(__name__, _HOME)
