"""Results of several runs in the layout of the paper's Table 5. Needs no torch.

Ji et al. (2024) put, for each network and method, accuracy on the clean test images and under corruption side
by side, trained the original way and with S2-SAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from analysis.robustness.images_interval import FloatArray, over_images
from analysis.robustness.result import Robustness, check_same_images, run_facts
from analysis.statistics.uncertainty import Estimate
from landscape.errors import UserError

ORIGINAL = "sgd"


@dataclass(frozen=True)
class Row:
    """Runs of one network, method, sparsity and optimizer.

    Attributes
    ----------
    network, method, sparsity, optimizer
        As the checkpoints say; "" and NaN where they don't.
    results
        One per seed, in the order of the seeds.
    clean, corrupted
        Mean accuracies over the seeds, fractions: without corruption, and over the 15 corruptions of the
        benchmark at five severities. Intervals over images, the seeds' mean per image; they don't cover the
        chance of training.
    gain
        Corrupted accuracy minus that of the original optimizer's runs with the same seeds, paired by image;
        None for these themselves and where there are none.
    source
        "files", "generated" or both: only "files" can be compared with published numbers.
    """

    network: str
    method: str
    sparsity: float
    optimizer: str
    results: tuple[Robustness, ...]
    clean: Estimate
    corrupted: Estimate
    gain: Estimate | None
    source: str


def rows(results: Sequence[Robustness]) -> list[Row]:
    """Group results by network, method, sparsity and optimizer, the original optimizer first.

    Raises
    ------
    UserError
        When they aren't of the same images, corrupted alike.
    """
    for one in results[1:]:
        check_same_images(results[0], one)
    groups: dict[tuple[str, str, float, str], dict[object, Robustness]] = {}
    for one in results:
        run = run_facts(one)
        sparsity = run.get("sparsity")
        key = (
            str(one.about.get("architecture") or ""),
            str(run.get("method") or ""),
            float(sparsity) if sparsity is not None else nan,
            str(run.get("optimizer") or ""),
        )
        key = next((known for known in groups if repr(known) == repr(key)), key)  # NaN is no key of itself
        seed = run.get("seed", one.sha256)
        if seed in groups.setdefault(key, {}):
            raise UserError(f"{one.name} and {groups[key][seed].name} are the same cell of the table")
        groups[key][seed] = one
    order = sorted(groups, key=lambda key: (key[0], key[1], repr(key[2]), key[3] != ORIGINAL, key[3]))
    return [_row(key, groups) for key in order]


def _row(
    key: tuple[str, str, float, str], groups: dict[tuple[str, str, float, str], dict[object, Robustness]]
) -> Row:
    network, method, sparsity, optimizer = key
    found = groups[key]
    seeds = sorted(found, key=str)
    chosen = tuple(found[one] for one in seeds)
    plain = next((known for known in groups if repr(known) == repr((*key[:3], ORIGINAL))), None)
    gain = None
    if plain is not None and optimizer != ORIGINAL:
        pairs = [(groups[plain][one], found[one]) for one in seeds if one in groups[plain]]
        parts = [_difference(*pair) for pair in pairs]
        gain = _over_seeds(parts, -1.0) if parts else None
    return Row(
        network,
        method,
        sparsity,
        optimizer,
        chosen,
        _over_seeds([one.per_image(()) for one in chosen]),
        _over_seeds([one.per_image() for one in chosen]),
        gain,
        ", ".join(sorted({one.source for one in chosen})),
    )


def _difference(first: Robustness, second: Robustness) -> FloatArray | None:
    shares = first.per_image(), second.per_image()
    return None if shares[0] is None or shares[1] is None else shares[1] - shares[0]


def _over_seeds(parts: Sequence[FloatArray | None], low: float = 0.0) -> Estimate:
    """The mean over the seeds of a number per image; NaN where one seed lacks it."""
    known = [one for one in parts if one is not None]
    if len(known) < len(parts):
        return Estimate(nan)
    return over_images(np.mean(known, axis=0), low, 1.0)
