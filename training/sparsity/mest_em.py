"""MEST with elastic mutation (EM): prune a little more than wanted, grow back at random.

Yuan et al., "MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from landscape.errors import UserError
from training.sparsity.base import Moment
from training.sparsity.mest import Mest, Stages
from training.sparsity.prune_grow import begins_interval


@dataclass(frozen=True)
class MestEm(Mest):
    """Prune each layer to sparsity + stage, then grow back to sparsity."""

    published: ClassVar[dict[float, Stages]] = {
        0.9: (0.02, 0.01, 0.0),
        0.95: (0.01, 0.005, 0.0),
        0.98: (0.002, 0.001, 0.0),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for change in self.stages or ():
            if self.sparsity + change >= 1:
                raise UserError(
                    f"stages {change}: leaves nothing at sparsity {self.sparsity}; "
                    f"expected shares below {1 - self.sparsity:g}"
                )

    def sparsities(self, change: float) -> tuple[float, float]:
        """More than wanted, then as wanted."""
        return self.sparsity + change, self.sparsity

    def update_due(self, moment: Moment) -> bool:
        """At the beginning of each interval, while the stage mutates anything."""
        inside = moment.step < moment.steps
        return inside and begins_interval(moment, self.interval) and self.change(moment) > 0
