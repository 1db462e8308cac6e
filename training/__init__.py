"""Training of dense and sparse image classifiers; the command is ``python -m training``.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape  # where a folder's own package of our names must not hide ours

if TYPE_CHECKING:
    from training.config import Recipe, RunConfig
    from training.optimizers import S2SAM, SAM

_HOME = {"Recipe": "config", "RunConfig": "config", "S2SAM": "optimizers", "SAM": "optimizers"}

__all__ = ["S2SAM", "SAM", "Recipe", "RunConfig"]

__getattr__ = sharpscape.exports(__name__, _HOME)
