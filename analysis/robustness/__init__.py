"""Accuracy under the corruptions of Hendrycks and Dietterich (ICLR 2019).

Names are imported when they are first used: reading results needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sharpscape

if TYPE_CHECKING:
    from analysis.robustness.cifar_files import CifarFiles
    from analysis.robustness.corruption_names import BENCHMARK, CORRUPTIONS, EXTRA
    from analysis.robustness.generated import corrupt
    from analysis.robustness.imagenet_files import ImageNetFiles
    from analysis.robustness.measuring import robustness
    from analysis.robustness.reference_errors import ALEXNET, UNNORMALIZED, Reference
    from analysis.robustness.result import Robustness, difference
    from analysis.robustness.robustness_file import read
    from analysis.robustness.table5 import Row, rows
    from analysis.robustness.versions import GeneratedImages, Versions

_HOME = {
    "ALEXNET": "reference_errors",
    "BENCHMARK": "corruption_names",
    "CORRUPTIONS": "corruption_names",
    "CifarFiles": "cifar_files",
    "EXTRA": "corruption_names",
    "GeneratedImages": "versions",
    "ImageNetFiles": "imagenet_files",
    "Reference": "reference_errors",
    "Robustness": "result",
    "Row": "table5",
    "UNNORMALIZED": "reference_errors",
    "Versions": "versions",
    "corrupt": "generated",
    "difference": "result",
    "read": "robustness_file",
    "robustness": "measuring",
    "rows": "table5",
}

__all__ = [
    "ALEXNET",
    "BENCHMARK",
    "CORRUPTIONS",
    "EXTRA",
    "UNNORMALIZED",
    "CifarFiles",
    "GeneratedImages",
    "ImageNetFiles",
    "Reference",
    "Robustness",
    "Row",
    "Versions",
    "corrupt",
    "difference",
    "read",
    "robustness",
    "rows",
]

__getattr__ = sharpscape.exports(__name__, _HOME)
