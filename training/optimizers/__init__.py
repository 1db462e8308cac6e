"""Optimizers by name: one file and one line of the table each."""

from __future__ import annotations

from training.optimizers.base import OptimizerConfig
from training.optimizers.sgd import SGD

__all__ = ["OPTIMIZERS", "SGD", "OptimizerConfig"]

OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SGD,
}
