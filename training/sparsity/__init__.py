"""Sparsity methods by name: one file and one line of the table each."""

from __future__ import annotations

from training.sparsity.base import MaskedMethod, SparsityMethod
from training.sparsity.chase import Chase
from training.sparsity.chex import Chex
from training.sparsity.dense import Dense
from training.sparsity.dsr import Dsr
from training.sparsity.grasp import GraSP
from training.sparsity.lt import LotteryTicket
from training.sparsity.magnitude import Magnitude
from training.sparsity.mest_em import MestEm
from training.sparsity.mest_ems import MestEms
from training.sparsity.random import Random
from training.sparsity.rigl import Rigl
from training.sparsity.safe import Safe
from training.sparsity.set_evolution import Set
from training.sparsity.snip import Snip
from training.sparsity.synflow import SynFlow

__all__ = ["METHODS", "Dense", "MaskedMethod", "Random", "SparsityMethod"]

METHODS: dict[str, type[SparsityMethod]] = {
    "dense": Dense,
    "random": Random,
    "magnitude": Magnitude,
    "lt": LotteryTicket,
    "snip": Snip,
    "grasp": GraSP,
    "synflow": SynFlow,
    "set": Set,
    "dsr": Dsr,
    "rigl": Rigl,
    "mest_em": MestEm,
    "mest_ems": MestEms,
    "safe": Safe,
    "chex": Chex,
    "chase": Chase,
}
