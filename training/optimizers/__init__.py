"""Optimizers by name: one file and one line of the table each."""

from __future__ import annotations

from training.optimizers.base import OptimizerConfig
from training.optimizers.fsam import FriendlySAM, FriendlySAMConfig
from training.optimizers.s2sam import S2SAM, S2SAMConfig
from training.optimizers.sam import SAM, ASAMConfig, SAMConfig
from training.optimizers.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "S2SAM",
    "SAM",
    "SGD",
    "ASAMConfig",
    "FriendlySAM",
    "FriendlySAMConfig",
    "OptimizerConfig",
    "S2SAMConfig",
    "SAMConfig",
]

OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SGD,
    "sam": SAMConfig,
    "asam": ASAMConfig,
    "fsam": FriendlySAMConfig,
    "s2sam": S2SAMConfig,
}
