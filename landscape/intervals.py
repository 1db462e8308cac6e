"""Numbers with their intervals, and lists of numbers, as text. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite, isnan, log10


def interval_parts(value: float, low: float, high: float) -> tuple[str, str]:
    """The number and its interval, to the second digit of the interval's half-width.

    Where there is no interval, its text is "" and the number has four digits.

    >>> interval_parts(0.0337, 0.0191, 0.0483)
    ('0.034', '[0.019, 0.048]')
    >>> interval_parts(0.0337, float("nan"), float("nan"))
    ('0.0337', '')
    """
    if not isfinite(value):
        return ("not known" if isnan(value) else "not finite"), ""
    half = (high - low) / 2
    if not isfinite(half) or half <= 0:
        return f"{value:.4g}", ""
    decimals = 1 - floor(log10(half))
    style = f".{decimals}f" if 0 <= decimals <= 9 else ".4g"
    return f"{value:{style}}", f"[{low:{style}}, {high:{style}}]"


def with_interval(value: float, low: float, high: float) -> str:
    """As people write it.

    >>> with_interval(0.0337, 0.0191, 0.0483)
    '0.034 [0.019, 0.048]'
    """
    return " ".join(filter(None, interval_parts(value, low, high)))


def listed(numbers: Sequence[object]) -> str:
    """As people write a list: three or more that follow each other by their ends.

    >>> listed([0, 1, 2, 3]), listed([3, 4]), listed([0, 2, 5])
    ('0 to 3', '3, 4', '0, 2, 5')
    """
    first = numbers[0] if numbers else None
    if len(numbers) > 2 and isinstance(first, int) and [*numbers] == [*range(first, first + len(numbers))]:
        return f"{first} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
