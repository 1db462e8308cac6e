"""How long runs take, judged by those that are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any


def duration(seconds: float) -> str:
    """A duration to read.

    >>> duration(5400), duration(95), duration(3)
    ('1 h 30 min', '2 min', '3 s')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 90 else f"{minutes} min"


@dataclass(frozen=True)
class _Pace:
    settings: dict[str, Any]
    seconds: float
    here: bool


class Estimator:
    """Seconds that a run needs, from the pace of the runs that are most like it.

    Runs of this process count before earlier ones, which may have had another machine; then those with the
    same model and data count before the rest, the same optimizer before another (SAM takes two passes a
    step), the same method before another.
    """

    def __init__(self) -> None:
        self._paces: list[_Pace] = []

    def learn(self, settings: dict[str, Any], seconds: float, epochs: int, here: bool) -> None:
        """Take in that `epochs` of a run took so many seconds, in this process (`here`) or before."""
        if seconds > 0 and epochs > 0:
            self._paces.append(_Pace(settings, seconds / epochs, here))

    def seconds(self, settings: dict[str, Any], epochs: int) -> float | None:
        """Expected time of `epochs` of a run; None when nothing is known yet."""
        here = [pace for pace in self._paces if pace.here] or self._paces
        if not here:
            return None
        closest = max(_likeness(pace.settings, settings) for pace in here)
        return epochs * fmean(pace.seconds for pace in _alike(here, settings, closest))


def _alike(paces: Sequence[_Pace], settings: dict[str, Any], closest: int) -> list[_Pace]:
    return [pace for pace in paces if _likeness(pace.settings, settings) == closest]


def _likeness(one: dict[str, Any], other: dict[str, Any]) -> int:
    same_net = all(one[key] == other[key] for key in ("model", "data"))
    same_optimizer = one["optimizer"]["name"] == other["optimizer"]["name"]
    same_method = one["method"]["name"] == other["method"]["name"]
    return 4 * int(same_net) + 2 * int(same_optimizer) + int(same_method)
