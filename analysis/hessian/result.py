"""`Spectrum`: what was found out about a Hessian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.hessian.density import SpectralDensity
from analysis.hessian.trace import Estimate
from landscape.escaping import plain

FloatArray = npt.NDArray[np.float64]
Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Eigenvalues at one end of the spectrum, the outermost first.

    Attributes
    ----------
    values, residuals, converged
        ``[k]``; see `analysis.hessian.lanczos.Eigenpairs`.
    directions
        The unit eigenvectors as tensors by parameter name, exactly zero where pruned; none where a file was
        read that doesn't keep them.
    over_examples
        Half-width of a 95 % interval over the examples, ``[k]``: how far another draw of as many examples may
        lead; see `analysis.hessian.sampled`. NaN where unknown, empty in older files.
    """

    values: FloatArray
    residuals: FloatArray
    converged: npt.NDArray[np.bool_]
    directions: tuple[Mapping[str, Tensor], ...] = ()
    over_examples: FloatArray = field(default_factory=lambda: np.zeros(0))

    def errors(self) -> FloatArray:
        """The larger of residual and interval over the examples, ``[k]``."""
        known = self.over_examples if len(self.over_examples) else np.full(len(self.values), np.nan)
        return np.fmax(self.residuals, known)


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    """What is known about the spectrum of a Hessian.

    Attributes
    ----------
    top, bottom
        The largest and the smallest eigenvalues, algebraically.
    trace, frobenius
        With their errors, of the probes.
    trace_over_examples
        Half-width of a 95 % interval of the trace over the examples; NaN where unknown.
    effective_rank
        See `SpectralDensity.effective_rank`; None without a density.
    density
        Of all eigenvalues, or None.
    n, full_size
        Coordinates of the space, and of the network without a mask.
    examples
        How many the loss is averaged over.
    loss, gradient_norm
        At the weights; nats per example for the default loss.
    products
        Hessian-vector products that were needed, over all sessions.
    seconds
        That they took, the first pass over the examples included.
    settings
        Everything that determines the numbers; a run resumes only from equal ones.
    about
        Provenance; JSON types only.
    """

    top: Pairs
    bottom: Pairs
    trace: Estimate
    frobenius: Estimate
    effective_rank: Estimate | None
    density: SpectralDensity | None
    n: int
    full_size: int
    examples: int
    loss: float
    gradient_norm: float
    products: int
    seconds: float
    settings: Json = field(default_factory=dict)
    about: Json = field(default_factory=dict)
    trace_over_examples: float = math.nan

    def __repr__(self) -> str:
        """One line: eigenvalues, trace, and of what."""
        top, bottom = (
            ", ".join(
                f"{value:.4g} ± {error:.2g}" for value, error in zip(one.values, one.errors(), strict=True)
            )
            for one in (self.top, self.bottom)
        )
        return (
            f"Spectrum of {plain(self.label)!r}, {self.n:,} weights, {self.examples} examples: "
            f"largest {top or 'not asked for'}; smallest {bottom or 'not asked for'}; trace {self.trace}"
        )

    @property
    def label(self) -> str:
        """Short name for legends and tables."""
        return str(self.about.get("label") or "network")

    @property
    def largest(self) -> float:
        """The largest absolute eigenvalue among those found."""
        return float(np.abs(np.concatenate([self.top.values, self.bottom.values])).max())

    @property
    def stable_rank(self) -> Estimate:
        """``‖H‖_F² / λ²`` with λ the largest in size: how many such eigenvalues make the norm.

        Called numerical rank by Rudelson and Vershynin, "Sampling from large matrices", 2007.
        """
        if not self.largest:
            return Estimate(0.0)
        ratio = self.frobenius.value / self.largest
        return Estimate(
            ratio**2,
            2 * ratio * self.frobenius.stderr / self.largest,
            2 * ratio * self.frobenius.error / self.largest,
        )

    @property
    def converged(self) -> bool:
        """Whether all eigenvalues that were asked for are within the tolerance."""
        return bool(self.top.converged.all() and self.bottom.converged.all())
