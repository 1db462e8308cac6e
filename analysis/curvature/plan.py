"""Where eigenvalues are computed, and how well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landscape.checks.arguments import number, whole
from landscape.errors import UserError


@dataclass(frozen=True)
class Plan:
    """Where eigenvalues are computed, and how well.

    Attributes
    ----------
    max_points
        Points per plane at most.
    tolerance
        Share of the range of log λmax to which its stated error must fall.
    eigenvalue_tolerance, max_products, seed
        See `analysis.curvature.extremes.extremes`.
    """

    max_points: int = 60
    tolerance: float = 0.05
    eigenvalue_tolerance: float = 0.01
    max_products: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_points", 1), ("seed", 0), ("max_products", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))  # of Python, for JSON
        if not 0 < number("tolerance", self.tolerance) < 1:
            raise UserError(
                f"tolerance must lie between 0 and 1 (a share of the range), got {self.tolerance}"
            )
        if not 0 < number("eigenvalue_tolerance", self.eigenvalue_tolerance) < 1:
            raise UserError(f"eigenvalue_tolerance must lie between 0 and 1, got {self.eigenvalue_tolerance}")
        object.__setattr__(self, "tolerance", float(self.tolerance))
        object.__setattr__(self, "eigenvalue_tolerance", float(self.eigenvalue_tolerance))

    def settings(self) -> dict[str, Any]:
        """What of it determines the numbers; JSON types."""
        return {
            "points": {"limit": self.max_points, "tolerance": self.tolerance},
            "eigenvalues": {"tolerance": self.eigenvalue_tolerance, "max_products": self.max_products},
            "seed": self.seed,
        }
