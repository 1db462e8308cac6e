"""Errors and tests of numbers from several surfaces and runs. Needs neither torch nor scipy.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.statistics.correlation import rank_correlation
    from analysis.statistics.directed import directed_test, holm
    from analysis.statistics.paired import PairedTest, permutation_test
    from analysis.statistics.uncertainty import Estimate

_HOME = {
    "Estimate": "uncertainty",
    "PairedTest": "paired",
    "directed_test": "directed",
    "holm": "directed",
    "permutation_test": "paired",
    "rank_correlation": "correlation",
}

__all__ = ["Estimate", "PairedTest", "directed_test", "holm", "permutation_test", "rank_correlation"]

__getattr__ = sharpscape.exports(__name__, _HOME)
