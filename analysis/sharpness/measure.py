"""What a sharpness measure is, what it gives, and how its spread over examples is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.sharpness.objective import Objective
from analysis.statistics.uncertainty import estimate
from landscape.checks.arguments import number, positive, whole
from landscape.engine.totals import Totals
from landscape.errors import UserError
from landscape.intervals import with_interval

FloatArray = npt.NDArray[np.float64]
Kind = Literal["estimate", "lower bound"]


@dataclass(frozen=True)
class Settings:
    """What determines the numbers; each measure names those that it uses.

    Attributes
    ----------
    rho
        Radius of SAM's ball, in units of the weights.
    adaptive_rho, eta
        Radius of ASAM's ball, relative to ``|w| + eta``, and that offset.
    epsilon
        Half-width of Keskar's box, relative to ``|w| + 1``.
    sigma
        Standard deviation of isotropic Gaussian perturbations, in units of the weights.
    relative_sigma
        The same relative to the weights, or to their filters' root mean square.
    draws
        Antithetic pairs of Gaussian perturbations.
    steps, starts
        Of projected ascent: steps from each start, and starts.
    seed
        Of perturbations and starts.
    """

    rho: float = 0.05
    adaptive_rho: float = 0.5
    eta: float = 0.01
    epsilon: float = 1e-3
    sigma: float = 0.01
    relative_sigma: float = 0.1
    draws: int = 20
    steps: int = 20
    starts: int = 3
    seed: int = 0

    def check(self, name: Callable[[str], str] = str) -> None:
        """Refuse what can't be measured.

        Parameters
        ----------
        name
            What a field is called where it is set.

        Raises
        ------
        UserError
            Naming the field, what came and what is expected.
        """
        for one in ("rho", "adaptive_rho", "epsilon", "sigma", "relative_sigma"):
            positive(name(one), getattr(self, one))
        if not 0 <= number(name("eta"), self.eta) < inf:
            raise UserError(f"{name('eta')} {self.eta}: expected a finite number, 0 or more")
        for one, least in (("draws", 2), ("steps", 1), ("starts", 1), ("seed", 0)):
            if whole(name(one), getattr(self, one), -(2**63)) < least:
                raise UserError(f"{name(one)} {getattr(self, one)}: expected at least {least}")


@dataclass(frozen=True)
class Sharpness:
    """A measured number.

    Attributes
    ----------
    value
        In the measure's unit; inf where the loss isn't finite at the perturbed weights.
    low, high
        95 % interval over the examples and, where there are any, the random draws; for a maximum, of the loss
        rise at the perturbation that was found, not of the true maximum. NaN where unknown.
    stderr_examples
        From the jackknife over blocks of examples.
    stderr_draws
        Standard error over random perturbations; NaN for measures without.
    kind
        "lower bound" where the definition takes a maximum that is only searched for.
    details
        More numbers: the settings used, what each start found, residuals. JSON types only.
    """

    value: float
    low: float = nan
    high: float = nan
    stderr_examples: float = nan
    stderr_draws: float = nan
    kind: Kind = "estimate"
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The number and its interval, such as "0.034 [0.019, 0.048]"."""
        return with_interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class Measure:
    """A measure and what is known about it.

    Attributes
    ----------
    compute
        From objective and settings to the number.
    title, unit, source
        For tables: a short name, what it is measured in, and the paper.
    uses
        The settings that it depends on.
    passes
        About how many forward passes over the examples it takes.
    """

    compute: Callable[[Objective, Settings], Sharpness]
    title: str
    unit: str
    source: str
    uses: tuple[str, ...]
    passes: Callable[[Settings], int]


def rise_between(center: float, moved: float) -> float:
    """Loss rise; inf where the moved loss isn't finite."""
    return moved - center if isfinite(moved) else inf


def from_totals(
    center: Totals,
    moved: Totals,
    function: Callable[[float, float], float] = rise_between,
    *,
    kind: Kind = "estimate",
    details: Mapping[str, Any] | None = None,
    signed: bool = True,
) -> Sharpness:
    """A function of two mean losses over the same examples, with its jackknife interval.

    The perturbation is held fixed while blocks of examples are left out. Both losses lose the same block, so
    that what they have in common doesn't count as noise.
    """
    return from_many(center, [moved], function, kind=kind, details=details, signed=signed)


def from_many(
    center: Totals,
    moved: list[Totals],
    function: Callable[[float, float], float] = rise_between,
    *,
    kind: Kind = "estimate",
    details: Mapping[str, Any] | None = None,
    signed: bool = True,
) -> Sharpness:
    """As `from_totals`, the mean over independent draws, whose spread enters the interval."""
    values = np.array([function(center.mean("loss"), one.mean("loss")) for one in moved])
    facts = dict(details or {})
    if not np.isfinite(values).all():
        return Sharpness(inf, kind=kind, details=facts | {"diverged": int((~np.isfinite(values)).sum())})
    base = left_out_means(center)
    replicates = np.array([list(map(function, base, left_out_means(one))) for one in moved])
    found = estimate(values, replicates.reshape(len(moved), -1), center.counts, signed=signed)
    return Sharpness(
        found.value, found.low, found.high, found.stderr_examples, found.stderr_planes, kind, facts
    )


def left_out_means(totals: Totals) -> FloatArray:
    """Mean with one block of examples left out, ``[K]``; empty for a single block."""
    sums, counts = totals.sums["loss"], totals.counts
    if len(counts) < 2:
        return np.zeros(0)
    result: FloatArray = (sums.sum() - sums) / (counts.sum() - counts)
    return result
