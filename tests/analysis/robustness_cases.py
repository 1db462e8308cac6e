"""Results with answers that are drawn, for tests of tables and files."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.robustness.corruption_names import BENCHMARK
from analysis.robustness.result import Robustness


def drawn(number: int = 0, count: int = 40, share: float = 0.6, **run: Any) -> Robustness:
    """Answers to the 15 corruptions, right with probability `share`."""
    draw = np.random.default_rng(number)
    facts = {"method": "rigl", "sparsity": 0.9, "optimizer": "sgd", "seed": 0} | run
    return Robustness(
        name=f"net{number}",
        file=f"net{number}.pt",
        sha256=f"{number:064x}",
        corruptions=BENCHMARK,
        sources=("generated",) * 15,
        places=np.arange(count, dtype=np.int64),
        labels=np.arange(count, dtype=np.int64) % 10,
        clean=draw.random(count) < 0.9,
        correct=draw.random((15, 5, count)) < share,
        done=np.ones((15, 5), bool),
        settings={"images": "a", "recipe": {"seed": 0}},
        about={"architecture": "resnet20", "run": facts},
    )
