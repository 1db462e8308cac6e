"""The density of all eigenvalues by stochastic Lanczos quadrature, with its error over the probes.

Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue density",
2019, section 2: Lanczos from a random vector is a Gauss quadrature of the spectrum weighted by that vector,
and the mean over random vectors is the density. Eigenpairs that are known already are split off,
counted exactly, and avoided by the probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from analysis.hessian.krylov import FloatArray, Krylov, SymmetricOperator, random_unit
from analysis.hessian.trace import Estimate, mean_estimate
from landscape.errors import UserError

WIDTH = 0.01  # of the kernel, as a share of the spectrum's range


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """A discrete approximation of the spectrum of an ``n × n`` matrix.

    Attributes
    ----------
    size
        n.
    known
        Eigenvalues that were split off, ``[k]``.
    nodes, weights
        Per probe, the quadrature's nodes and its weights, which sum to 1.
    """

    size: int
    known: FloatArray
    nodes: Sequence[FloatArray]
    weights: Sequence[FloatArray]

    def integral(self, function: Callable[[FloatArray], FloatArray]) -> Estimate:
        """``(1/n) Σ function(λ)`` over all eigenvalues; exact for polynomials of degree ≤ 2·steps − 1 but
        for the choice of the probes.
        """
        samples = np.array([one @ function(at) for at, one in zip(self.nodes, self.weights, strict=True)])
        known = float(np.sum(function(self.known)))
        return mean_estimate(samples, known, self.size - len(self.known)).scaled(1 / self.size)

    def moment(self, power: int) -> Estimate:
        """``tr(H^power) / n``."""
        return self.integral(lambda values: values**power)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest node."""
        every = np.concatenate([self.known, *self.nodes])
        return float(every.min()), float(every.max())

    def smooth(
        self, grid: FloatArray | None = None, width: float | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The density smoothed by a Gaussian kernel.

        Parameters
        ----------
        grid
            Where, ``[points]``; by default 1,001 points over the range and three widths beyond.
        width
            Standard deviation of the kernel; by default a hundredth of the range.

        Returns
        -------
        grid, density, stderr
            The density integrates to 1; its standard error over the probes is NaN for fewer than two.
        """
        low, high = self.range
        width = width or WIDTH * (high - low) or max(abs(high), 1.0) * WIDTH
        if grid is None:
            grid = np.linspace(low - 3 * width, high + 3 * width, 1001)
        points = grid

        def kernel(values: FloatArray) -> FloatArray:
            scaled = (points[:, None] - values) / width
            found: FloatArray = np.exp(-np.square(scaled) / 2) / (width * np.sqrt(2 * np.pi))
            return found

        share = (self.size - len(self.known)) / self.size
        known = kernel(self.known).sum(1) / self.size
        if not self.nodes:  # all eigenvalues are known
            return points, known, np.zeros(len(points))
        samples = np.array([kernel(at) @ one for at, one in zip(self.nodes, self.weights, strict=True)])
        count = len(samples)
        stderr = samples.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full(len(points), np.nan)
        return points, known + share * samples.mean(0), share * stderr

    def effective_rank(self) -> Estimate:
        """Exponential of the entropy of ``|λ| / Σ|λ|`` (Roy and Vetterli, "The effective rank", 2007).

        Between 1 and n. Its error is jackknifed over the probes.
        """
        count = len(self.nodes)
        whole = self._effective_rank(range(count))
        if self.size == len(self.known):
            return Estimate(whole)
        if count < 2:
            return Estimate(whole, np.nan, np.nan)
        left = [self._effective_rank([one for one in range(count) if one != out]) for out in range(count)]
        pseudo = count * whole - (count - 1) * np.array(left)
        spread = mean_estimate(pseudo, 0.0, 1.0)
        return Estimate(whole, spread.stderr, spread.error)

    def _effective_rank(self, probes: Sequence[int]) -> float:
        chosen = SpectralDensity(
            self.size, self.known, [self.nodes[one] for one in probes], [self.weights[one] for one in probes]
        )
        total = self.size * chosen.integral(np.abs).value
        logs = self.size * chosen.integral(_log_weighted).value
        return float(np.exp(np.log(total) - logs / total)) if total > 0 else 0.0


def _log_weighted(values: FloatArray) -> FloatArray:
    sizes = np.abs(values)
    return np.where(sizes > 0, sizes * np.log(np.where(sizes > 0, sizes, 1.0)), 0.0)


def quadrature(krylov: Krylov) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights from the basis that began with the probe."""
    ritz = krylov.ritz()
    weights = np.square(ritz.vectors[0])
    return ritz.values, weights / weights.sum()


def finished(krylov: Krylov, steps: int) -> bool:
    """Whether the probe has its steps, or its quadrature is exact already."""
    return krylov.size >= steps or krylov.exhausted > 0 or krylov.next is None


def spectral_density(
    operator: SymmetricOperator,
    *,
    probes: int = 10,
    steps: int = 80,
    seed: int = 0,
    starts: Tensor | None = None,
) -> SpectralDensity:
    """The density of an operator's eigenvalues, by at most ``probes · steps`` products.

    Parameters
    ----------
    operator
        A `HessianOperator`, or anything symmetric that multiplies.
    probes, steps
        Random vectors, and Lanczos steps from each.
    seed
        Of the probes.
    starts
        Orthonormal probes of the caller's own as rows ``[p, n]``; n of them make every moment up to
        ``2·steps − 1`` exact.

    Raises
    ------
    UserError
        For less than one probe or step.
    """
    if probes < 1 or steps < 1:
        raise UserError(f"probes {probes} and steps {steps}: expected at least 1 of each")
    given = (
        [random_unit(operator, seed, 2, number) for number in range(probes)]
        if starts is None
        else list(starts.to(operator.torch_device, operator.torch_dtype))
    )
    nodes, weights = [], []
    for start in given:
        krylov = Krylov(start)
        while not finished(krylov, steps):
            krylov.extend(operator)
        found = quadrature(krylov)
        nodes.append(found[0])
        weights.append(found[1])
    return SpectralDensity(operator.size, np.zeros(0), nodes, weights)
