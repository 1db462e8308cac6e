"""Where eigenvalues are computed, and how well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landscape.errors import UserError


@dataclass(frozen=True)
class Plan:
    """Where eigenvalues are computed, and how well.

    Attributes
    ----------
    points_limit
        Points per plane at most.
    tolerance
        Share of the range of log λmax to which its stated error must fall.
    eigenvalue_tolerance, max_products, seed
        See `analysis.curvature.extremes.extremes`.
    """

    points_limit: int = 60
    tolerance: float = 0.05
    eigenvalue_tolerance: float = 0.01
    max_products: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points_limit < 1:
            raise UserError(f"points_limit must be at least 1, got {self.points_limit}")
        if not 0 < self.tolerance < 1:
            raise UserError(
                f"tolerance must lie between 0 and 1 (a share of the range), got {self.tolerance}"
            )
        if not 0 < self.eigenvalue_tolerance < 1:
            raise UserError(f"eigenvalue_tolerance must lie between 0 and 1, got {self.eigenvalue_tolerance}")
        if self.max_products < 1:
            raise UserError(f"max_products must be at least 1, got {self.max_products}")

    def settings(self) -> dict[str, Any]:
        """What of it determines the numbers; JSON types."""
        return {
            "points": {"limit": self.points_limit, "tolerance": self.tolerance},
            "eigenvalues": {"tolerance": self.eigenvalue_tolerance, "max_products": self.max_products},
            "seed": self.seed,
        }
