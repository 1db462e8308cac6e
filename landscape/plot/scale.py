"""The value scale of a figure: limits, linear or logarithmic, round levels and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from landscape.errors import UserError
from landscape.surface import FloatArray

LOG_WORTHWHILE = 30.0  # ratio of largest to smallest loss from which a linear scale hides the bottom
_STEPS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


@dataclass(frozen=True)
class Scale:
    """Where values stand on an axis.

    Attributes
    ----------
    log
        Positions are decimal logarithms of the values.
    low, high
        Positions of the ends.
    clip
        Values above it are drawn at it; inf = none.
    """

    log: bool
    low: float
    high: float
    clip: float = float("inf")

    def positions(self, values: FloatArray) -> FloatArray:
        """Positions of values; NaN where a value is missing or infinite."""
        shown = np.where(np.isfinite(values), np.minimum(values, self.clip), np.nan)
        return np.log10(shown) if self.log else shown

    def levels(self, wanted: int) -> tuple[FloatArray, list[str]]:
        """About that many round positions between the ends, and the values there as text."""
        positions = self._decades(wanted) if self.log else None
        if positions is None:
            positions = self._even(wanted)
        positions = positions[(positions >= self.low) & (positions <= self.high)]
        values = 10**positions if self.log else positions
        return positions, [number(value) for value in values]

    def _decades(self, wanted: int) -> FloatArray | None:
        """The coarsest that gives enough levels: every nth power of ten, all of them, 1-3-10, 1-2-5 …"""
        first, last = int(np.floor(self.low)), int(np.ceil(self.high))
        most = 1 + (last - first) // (wanted + 1)
        ways = [(stride, (1,)) for stride in range(most, 1, -1)] + [(1, steps) for steps in _STEPS]
        for stride, steps in ways:
            found = np.log10([step * 10.0**k for k in range(first, last + 1, stride) for step in steps])
            if ((found >= self.low) & (found <= self.high)).sum() >= max(3, wanted / 2):
                return np.asarray(found)
        return None

    def _even(self, wanted: int) -> FloatArray:
        if not self.log:
            return np.asarray(MaxNLocator(wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high))
        ticks = np.asarray(
            MaxNLocator(wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(10**self.low, 10**self.high)
        )
        return np.asarray(np.log10(ticks[ticks > 0]))


def scale_of(grids: Sequence[FloatArray], *, log: bool | None, clip: float | None) -> Scale:
    """The scale on which all finite values of `grids` fit.

    ``log=None`` takes logarithms where the values span a factor of `LOG_WORTHWHILE`.

    Raises
    ------
    UserError
        When nothing is finite, `clip` is below everything, or ``log=True`` and a value isn't positive.
    """
    values = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    if not values.size:
        raise UserError("nothing to draw: no finite value on the surface; compute it first")
    low, high = float(values.min()), float(values.max())
    if clip is not None:
        if not clip > low:
            raise UserError(f"clip {clip:g} lies below every value; expected more than {low:g}")
        high = min(high, clip)
    if log and low <= 0:
        raise UserError(f"a logarithmic scale needs positive values, the smallest is {low:g}; use log=False")
    if log is None:
        log = low > 0 and high > LOG_WORTHWHILE * low
    ends = (np.log10(low), np.log10(high)) if log else (low, high)
    margin = 0.0 if ends[1] > ends[0] else 0.5 * max(abs(ends[0]), 1e-3)  # a flat surface needs some axis
    limit = float("inf") if clip is None else clip
    return Scale(bool(log), float(ends[0] - margin), float(ends[1] + margin), limit)


def number(value: float) -> str:
    """Short text of a round value: 0.05, 20, 3e5."""
    mantissa, _, exponent = f"{float(f'{value:.3g}'):g}".partition("e")
    text = f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return text.replace("-", "−")
