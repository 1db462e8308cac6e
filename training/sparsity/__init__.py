"""Sparsity methods by name: one file and one line of the table each."""

from __future__ import annotations

from training.sparsity.base import SparsityMethod
from training.sparsity.dense import Dense
from training.sparsity.random import Random

__all__ = ["METHODS", "Dense", "Random", "SparsityMethod"]

METHODS: dict[str, type[SparsityMethod]] = {
    "dense": Dense,
    "random": Random,
}
