"""Which part of a surface is measured, and how: the grid points inside a span, of one split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import get_args

import numpy as np
import numpy.typing as npt

from analysis.roughness.heights import FloatArray, Heights, Reference, heights, trapezoid_weights
from landscape.checks.arguments import number
from landscape.errors import UserError
from landscape.surface import Surface


@dataclass(frozen=True)
class Region:
    """Which grid points are looked at, and how.

    Attributes
    ----------
    surface, split
        What is measured, on which examples.
    log, reference
        Of loss or log loss; heights above the mean or the least-squares plane.
    rows, columns
        Shape ``[alpha]`` and ``[beta]``: True inside the region.
    """

    surface: Surface
    split: str
    log: bool
    reference: Reference
    rows: npt.NDArray[np.bool_]
    columns: npt.NDArray[np.bool_]

    def cut(self, grid: FloatArray) -> FloatArray:
        """The region's part of an array ``[alpha, beta, ...]``."""
        return grid[self.rows][:, self.columns]

    @property
    def alpha(self) -> FloatArray:
        """Coordinates inside."""
        return self.surface.alpha[self.rows]

    @property
    def beta(self) -> FloatArray:
        """Coordinates inside."""
        return self.surface.beta[self.columns]

    @property
    def losses(self) -> list[FloatArray]:
        """Per plane, shape ``[alpha, beta]``."""
        return [self.cut(plane.splits[self.split].metrics["loss"].values) for plane in self.surface.planes]

    @property
    def computed(self) -> list[npt.NDArray[np.bool_]]:
        """Per plane, shape ``[alpha, beta]``."""
        return [plane.computed[self.rows][:, self.columns] for plane in self.surface.planes]

    def heights(self, loss: FloatArray) -> Heights:
        """Heights of a loss on the region, shape ``[alpha, beta]``."""
        values = np.log(loss) if self.log else loss
        return heights(self.alpha, self.beta, values, self.reference)

    @property
    def weights(self) -> FloatArray:
        """Shape ``[alpha, beta]``: each point's share of the area (trapezoid rule)."""
        across = trapezoid_weights(self.beta) if self.surface.dim == 2 else np.ones(1)
        shares: FloatArray = np.outer(trapezoid_weights(self.alpha), across)
        return shares

    def within(self, limit: float) -> Region:
        """The part with ``|alpha|, |beta| < limit``, the same on both sides whatever the rounding."""
        limit *= 1 - 1e-9
        rows = self.rows & (np.abs(self.surface.alpha) < limit)
        columns = self.columns & (np.abs(self.surface.beta) < limit)
        return replace(self, rows=rows, columns=columns)

    @property
    def measurable(self) -> bool:
        """Whether it has a length or an area."""
        return len(self.alpha) > 1 and (self.surface.dim == 1 or len(self.beta) > 1)


def split_name(surface: Surface, split: str | None) -> str:
    """`split`, or the first; UserError where the surface doesn't have it."""
    if split is None:
        return surface.splits[0]
    if split not in surface.splits:
        raise UserError(f"{surface.label}: has no split {split!r}; it has {', '.join(surface.splits)}")
    return split


def select_region(
    surface: Surface, split: str | None, *, log: bool, reference: Reference, span: float | None
) -> Region:
    """The grid points with ``|alpha|, |beta| <= span``.

    Raises
    ------
    UserError
        For an unknown reference or split, a span that is none, and where the points make no area or line.
    """
    if reference not in get_args(Reference):
        raise UserError(f"unknown reference {reference!r}; expected one of {', '.join(get_args(Reference))}")
    span = None if span is None else number("span", span)
    reach = float(max(np.abs(surface.alpha).max(), np.abs(surface.beta).max()))
    if span is not None and not 0 < span <= reach * (1 + 1e-9):
        raise UserError(
            f"{surface.label}: span {span:g} asked for, expected more than 0 and at most {reach:g}"
        )
    limit = (inf if span is None else span) * (1 + 1e-9)
    rows, columns = np.abs(surface.alpha) <= limit, np.abs(surface.beta) <= limit
    region = Region(surface, split_name(surface, split), log, reference, rows, columns)
    if not region.measurable:
        within = "" if span is None else f" within span {span:g}"
        raise UserError(
            f"{surface.label}: {rows.sum()}×{columns.sum()} grid points{within}; roughness needs an area or "
            "a line, at least 2 points along each axis"
        )
    return region
