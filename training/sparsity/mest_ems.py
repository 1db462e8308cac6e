"""MEST with elastic mutation under a soft memory bound (EM&S): train with more weights, prune at the end.

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
class MestEms(Mest):
    """Prune each layer to sparsity, then grow to sparsity − stage and train with that.

    The third stage begins with pruning to sparsity, whether an interval begins there or not; then the mask
    stays. The first and the second keep sparsity − stage throughout.
    """

    published: ClassVar[dict[float, Stages]] = {
        0.9: (0.05, 0.025, 0.0),
        0.95: (0.05, 0.025, 0.0),
        0.98: (0.05, 0.02, 0.0),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages is not None and (self.stages[2] != 0 or max(self.stages) > self.sparsity):
            raise UserError(
                f"stages {self.stages}: expected shares up to the sparsity {self.sparsity}, the last one 0"
            )

    def sparsities(self, change: float) -> tuple[float, float]:
        """As wanted, then less."""
        return self.sparsity, max(0.0, self.sparsity - change)

    def update_due(self, moment: Moment) -> bool:
        """At the beginning of each interval while the stage mutates anything, and of each stage."""
        if moment.step in self.switch_steps(moment):
            return True
        return begins_interval(moment, self.interval) and self.change(moment) > 0
