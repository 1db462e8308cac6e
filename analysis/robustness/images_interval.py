"""95 % intervals of accuracies: of one set of images, and of means over versions of the same images.

One set of images: Wilson's score interval (Wilson, "Probable inference, the law of succession, and
statistical inference", 1927). Means over corruptions and severities, and differences of networks: Student's t
over the images, each of which gives one number, its own mean. The versions of one image are answered alike,
so an interval that took every version for an image of its own would be too narrow.
"""

from __future__ import annotations

from math import nan, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from analysis.statistics.uncertainty import CONFIDENCE, Estimate, t_quantile

FloatArray = npt.NDArray[np.float64]


def wilson(correct: int, count: int) -> Estimate:
    """A share of `count` images, with Wilson's score interval; NaN where there are none.

    >>> print(wilson(90, 100))
    0.900 [0.826, 0.945]
    """
    if not count:
        return Estimate(nan)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Estimate(
        share, max(0.0, middle - half), min(1.0, middle + half), sqrt(share * (1 - share) / count)
    )


def over_images(values: FloatArray, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """The mean of a number per image, ``[N]``, with its t interval, cut to what the mean can be.

    >>> print(over_images(np.array([0.0, 1.0, 1.0, 1.0])))
    0.75 [-0.05, 1.55]
    """
    count = len(values)
    if not count:
        return Estimate(nan)
    mean = float(values.mean())
    if count < 2:
        return Estimate(mean)
    stderr = float(values.std(ddof=1)) / sqrt(count)
    half = t_quantile(count - 1) * stderr
    return Estimate(mean, max(low, mean - half), min(high, mean + half), stderr)
