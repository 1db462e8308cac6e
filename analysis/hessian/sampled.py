"""How much curvature depends on which examples were drawn.

An eigenvalue's residual says how well it is that of these examples' Hessian; other examples have another.
To first order leaving examples out changes an eigenvalue by the change of ``vᵀ H v``, and the trace by that
of the quadratic forms that estimate it, so a jackknife over blocks of examples needs one more pass and no
other spectrum.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from analysis.hessian.krylov import FloatArray
from analysis.hessian.trace import Estimate

BLOCKS = 20
CONFIDENCE = 0.95


def spread_over_examples(forms: FloatArray, counts: npt.NDArray[np.int64]) -> list[Estimate]:
    """Means over all examples with the half-widths of 95 % intervals over the examples.

    Parameters
    ----------
    forms
        Mean quadratic forms of batches of examples, ``[batches, k]``.
    counts
        Examples in each, ``[batches]``.

    Returns
    -------
    list
        k estimates; errors are NaN for a single batch.
    """
    means, sizes = _blocks(forms, counts)
    total, number = sizes.sum(), len(sizes)
    whole = sizes @ means / total
    if number < 2:
        return [Estimate(float(one), math.nan, math.nan) for one in whole]
    left = (whole * total - sizes[:, None] * means) / (total - sizes)[:, None]
    shares = total / sizes  # delete-m jackknife for unequal blocks (Busing et al. 1999)
    pseudo = shares[:, None] * whole - (shares - 1)[:, None] * left
    variance = np.mean((pseudo - pseudo.mean(0)) ** 2 / (shares - 1)[:, None], axis=0)
    factor = float(stdtrit(number - 1, (1 + CONFIDENCE) / 2))
    return [
        Estimate(float(one), float(error), factor * float(error))
        for one, error in zip(whole, np.sqrt(variance), strict=True)
    ]


def _blocks(forms: FloatArray, counts: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """At most `BLOCKS` contiguous near-equal groups of batches: means ``[K, k]`` and sizes ``[K]``."""
    number = min(BLOCKS, len(counts))
    starts = np.arange(number) * len(counts) // number
    sizes = np.add.reduceat(counts, starts).astype(np.float64)
    return np.add.reduceat(forms * counts[:, None], starts, axis=0) / sizes[:, None], sizes
