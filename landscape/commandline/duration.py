"""Durations as people write them: 45m, 2h, 90s, 1h30m."""

from __future__ import annotations

import re

from landscape.errors import UserError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration like ``45m``, ``2h``, ``90s`` or ``1h30m``.

    >>> parse_duration("1h30m")
    5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UserError(f"time budget {text!r}: expected a duration like 45m, 2h, 90s or 1h30m")
    return seconds
