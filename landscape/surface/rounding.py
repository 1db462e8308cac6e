"""Numbers with few binary digits: the zeros behind them compress, so files are smaller."""

from __future__ import annotations

import numpy as np

from landscape.surface import FloatArray


def rounded(values: FloatArray | float, digits: int) -> FloatArray:
    """To so many binary digits behind the leading one, relative error 2^-(digits + 1).

    What isn't finite, or wouldn't be afterwards, stays as it is.

    >>> rounded(np.array([1 / 3, np.inf]), 3)
    array([0.34375,     inf])
    """
    drop = np.uint64(52 - digits)
    half, mask = np.uint64(1) << (drop - np.uint64(1)), ~((np.uint64(1) << drop) - np.uint64(1))
    whole = np.array(values, np.float64, order="C")
    short = ((whole.view(np.uint64) + half) & mask).view(np.float64)
    return np.where(np.isfinite(whole) & np.isfinite(short), short, whole)
