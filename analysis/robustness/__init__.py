"""Accuracy under the corruptions of Hendrycks and Dietterich (ICLR 2019).

Names are imported when they are first used: reading results needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.robustness.corruption_names import BENCHMARK, CORRUPTIONS, EXTRA
    from analysis.robustness.reference_errors import ALEXNET, UNNORMALIZED, Reference
    from analysis.robustness.result import Robustness, difference
    from analysis.robustness.robustness_file import read
    from analysis.robustness.table5 import Row, rows

_HOME = {
    "ALEXNET": "reference_errors",
    "BENCHMARK": "corruption_names",
    "CORRUPTIONS": "corruption_names",
    "EXTRA": "corruption_names",
    "Reference": "reference_errors",
    "Robustness": "result",
    "Row": "table5",
    "UNNORMALIZED": "reference_errors",
    "difference": "result",
    "read": "robustness_file",
    "rows": "table5",
}

__all__ = [
    "ALEXNET",
    "BENCHMARK",
    "CORRUPTIONS",
    "EXTRA",
    "UNNORMALIZED",
    "Reference",
    "Robustness",
    "Row",
    "difference",
    "read",
    "rows",
]

__getattr__ = sharpscape.exports(__name__, _HOME)
