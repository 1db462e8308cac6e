"""Trace and Frobenius norm: exactly on a basis, by random probes on the rest.

Hutch++ (Meyer, Musco, Musco and Woodruff, "Hutch++: optimal stochastic trace estimation", 2021) splits off a
subspace that holds the large eigenvalues, takes its trace exactly and samples only what is left, whose
quadratic forms scatter far less. The subspace here is the basis that the search for eigenvalues leaves behind
(Chen and Hallman, "Krylov-aware stochastic trace estimation", 2023), so it costs no further product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from torch import Tensor

from analysis.hessian.krylov import FloatArray, Krylov, SymmetricOperator, random_unit
from landscape.errors import UserError
from landscape.intervals import with_interval

CONFIDENCE = 0.98  # samples are few and skewed: the interval then covers in 95 of 100 cases and more
FIRST_PROBES = 8  # decide how many are needed; with fewer, Student's t makes intervals wide


@dataclass(frozen=True)
class Estimate:
    """A number found by sampling.

    Attributes
    ----------
    value
        The estimate.
    stderr
        Its standard error; 0 where nothing was sampled, NaN where one sample tells nothing.
    error
        Half-width of the interval that is meant to cover in at least 95 of 100 cases (Student's t, 98 %).
    """

    value: float
    stderr: float = 0.0
    error: float = 0.0

    def __str__(self) -> str:
        """The number and its interval, such as "3.21 [3.05, 3.37]"."""
        return with_interval(self.value, self.value - self.error, self.value + self.error)

    def scaled(self, factor: float) -> Estimate:
        """The same in other units."""
        return Estimate(self.value * factor, self.stderr * abs(factor), self.error * abs(factor))


def mean_estimate(samples: FloatArray, known: float, factor: float, stage: int | None = None) -> Estimate:
    """``known + factor · E[sample]``.

    Parameters
    ----------
    samples
        Independent, ``[p]``.
    known, factor
        The part that isn't sampled, and what one unit of the samples' mean counts.
    stage
        How many of the samples decided how many there are; all by default. Only they tell the scatter, so
        that the interval keeps its coverage (Stein, "A two-sample test for a linear hypothesis whose power is
        independent of the variance", 1945).
    """
    if factor == 0:
        return Estimate(known)
    count = len(samples)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan)
    value = known + factor * float(np.mean(samples))
    first = samples[: stage or count]
    if len(first) < 2:
        return Estimate(value, math.nan, math.nan)
    stderr = abs(factor) * float(np.std(first, ddof=1)) / math.sqrt(count)
    return Estimate(value, stderr, float(stdtrit(len(first) - 1, (1 + CONFIDENCE) / 2)) * stderr)


@dataclass(frozen=True, eq=False)
class Samples:
    """What the probes gave on the complement of a basis.

    Attributes
    ----------
    quadratic
        ``uᵀ H u`` for unit vectors u drawn uniformly in the complement, ``[p]``.
    square
        ``‖(I − VᵀV) H u‖²``, ``[p]``.
    """

    quadratic: FloatArray
    square: FloatArray


def sample(krylov: Krylov, vector: Tensor, product: Tensor) -> tuple[float, float]:
    """One probe's two numbers from a vector and its product, whatever part of the vector lies in the basis.

    The product of the part outside follows from that of the whole and the decomposition. NaN where nothing
    lies outside.
    """
    inside = krylov.basis @ vector
    outside = vector - krylov.basis.T @ inside
    length = float(outside.double().norm())
    if krylov.next is None or not length:
        return math.nan, math.nan
    image = product - krylov.apply(inside.double().cpu().numpy())
    image = image - krylov.basis.T @ (krylov.basis @ image)
    quadratic = float(outside.double() @ image.double()) / length**2
    return quadratic, float(image.double().square().sum()) / length**2


def trace_estimate(krylov: Krylov, size: int, samples: Samples, stage: int | None = None) -> Estimate:
    """Trace of the matrix."""
    return mean_estimate(samples.quadratic, float(np.trace(krylov.projected)), size - krylov.size, stage)


def frobenius_estimate(krylov: Krylov, size: int, samples: Samples, stage: int | None = None) -> Estimate:
    """Frobenius norm: the square root of ``‖C‖² + 2‖b‖² + ‖rest‖²``, the error to first order."""
    known = float(np.square(krylov.projected).sum() + 2 * np.square(krylov.coupling).sum())
    squared = mean_estimate(samples.square, known, size - krylov.size, stage)
    norm = math.sqrt(max(squared.value, 0.0)) if math.isfinite(squared.value) else math.nan
    return Estimate(norm, squared.stderr / (2 * norm), squared.error / (2 * norm)) if norm else Estimate(norm)


def probes_needed(krylov: Krylov, size: int, first: Samples, tolerance: float, most: int) -> int:
    """How many probes bring the trace's standard error to `tolerance` times the trace."""
    so_far = len(first.quadratic)
    estimate = trace_estimate(krylov, size, first)
    target = tolerance * abs(estimate.value)
    if not estimate.stderr > target:
        return so_far
    if not target:
        return most
    return min(most, max(so_far, math.ceil(so_far * (estimate.stderr / target) ** 2)))


def hutchpp(
    operator: SymmetricOperator, *, basis: int = 20, probes: int = 10, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Trace and Frobenius norm by ``basis + probes`` products.

    Parameters
    ----------
    operator
        A `HessianOperator`, or anything symmetric that multiplies.
    basis
        Dimension of the subspace that is taken exactly.
    probes
        Random vectors for the rest, at least 2.
    seed
        Of both.

    Raises
    ------
    UserError
        For fewer probes than 2 or a negative basis.
    """
    if probes < 2 or basis < 0:
        raise UserError(f"basis {basis} and probes {probes}: expected at least 0 and 2")
    krylov = Krylov(random_unit(operator, seed, 0), (seed, 1))
    while krylov.size < basis and krylov.next is not None:
        krylov.extend(operator)
    found = []
    for number in range(probes if krylov.next is not None else 0):
        vector = random_unit(operator, seed, 2, number)
        found.append(sample(krylov, vector, operator.multiply(vector)))
    samples = Samples(*np.array(found, dtype=np.float64).reshape(-1, 2).T)
    return (
        trace_estimate(krylov, operator.size, samples),
        frobenius_estimate(krylov, operator.size, samples),
    )
