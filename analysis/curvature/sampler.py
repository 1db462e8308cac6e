"""At which grid points eigenvalues are computed: adaptively, or evenly where that can't be."""

from __future__ import annotations

from collections.abc import Iterator

from landscape.sampling import SMALL_GRID, START_PER_AXIS, Index, Losses, Sampler, adaptive, exact
from landscape.surface import FloatArray

START = START_PER_AXIS**2 + 1  # an adaptive run's first points; with fewer it would see a part of the plane


def choose_points(alpha: FloatArray, beta: FloatArray, tolerance: float, limit: int) -> Sampler:
    """At most `limit` points: adaptively on planes, evenly on lines and with few points.

    Parameters
    ----------
    alpha, beta
        The grid.
    tolerance
        Share of the range of the steering values to which the stated error must fall.
    limit
        Points in any case.
    """
    total = len(alpha) * len(beta)
    if limit >= total and (total <= SMALL_GRID or min(len(alpha), len(beta)) < START_PER_AXIS):
        return exact(alpha, beta)
    if limit < START or total <= SMALL_GRID or min(len(alpha), len(beta)) < START_PER_AXIS:
        return _Even((len(alpha), len(beta)), limit)
    return adaptive(alpha, beta, tolerance, limit, log_tolerance=None)


class _Even:
    """Evenly spaced lines of the grid, ends and middle included, all at once."""

    def __init__(self, shape: tuple[int, int], limit: int) -> None:
        self.error = self.relative_error = self.log_error = float("nan")
        each = int(limit ** (1 / sum(count > 1 for count in shape)) + 1e-9)
        if each >= 3:
            lines = [_spread(count, each) for count in shape]
            self._indices = [(i, j) for i in lines[0] for j in lines[1]]
        else:
            middle = [(count - 1) // 2 for count in shape]
            corners = [(i, j) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1)]
            self._indices = list(dict.fromkeys([(middle[0], middle[1]), *corners]))[:limit]
        self.expected = len(self._indices)

    def ahead(self, count: int) -> list[Index]:
        """Nothing comes after them."""
        return []

    def batches(self, losses: Losses) -> Iterator[list[Index]]:
        """All of them."""
        yield self._indices


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` (3 or more) of `count` indices, the middle one of them."""
    middle = (count - 1) // 2
    if count <= wanted:
        return list(range(count))
    found = [round(place * (count - 1) / (wanted - 1)) for place in range(wanted)]
    found[min(range(wanted), key=lambda place: abs(found[place] - middle))] = middle
    return sorted(set(found))
