"""Round ticks on log scales, whose own leave narrow ranges bare and print small superscripts."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter, NullLocator

STEPS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    tuple(np.arange(1, 10, 0.5)),
    tuple(np.arange(1, 10, 0.1)),
)


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Up to `most` round numbers in a range above zero, two at least where there are any.

    >>> log_ticks(0.13, 2.1)
    [0.2, 0.5, 1.0, 2.0]
    >>> log_ticks(0.9, 30000, 3)
    [1.0, 100.0, 10000.0]
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    found: list[float] = []
    for steps in STEPS:
        ticks = [float(f"{step * 10.0**decade:.3g}") for decade in decades for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > most and found:
            break
        found = inside[:: ceil(len(inside) / most)] if len(inside) > most else inside
        if len(found) >= 3:
            break
    return found


def set_log(axis: Any, low: float, high: float, most: int = 5) -> None:
    """Make an axis (``axes.xaxis``, ``axes.yaxis``) logarithmic from `low` to `high` with such ticks."""
    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("log")
    getattr(axis.axes, f"set_{name}lim")(low, high)
    ticks = log_ticks(low * 1.02, high / 1.02, most)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_ticks(ticks, labels=[label(tick) for tick in ticks])


def label(tick: float) -> str:
    """As short as it can be: what stands beside a vertical axis widens with it.

    >>> [label(tick) for tick in (0.1, 1000, 25000, 1e5, 5e-6)]
    ['0.1', '1000', '2.5e4', '1e5', '5e−6']
    """
    plain = f"{tick:g}"
    if "e" not in plain and len(plain.replace(".", "")) <= 4:
        return plain.replace("-", "−")
    mantissa, _, exponent = f"{tick:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
