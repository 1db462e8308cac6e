"""Results of several runs in the layout of the paper's Table 5. Needs no torch.

Ji et al. (2024) put, for each network and method, accuracy on the clean test images and under corruption side
by side, trained the original way and with S2-SAM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any, NamedTuple

import numpy as np

from analysis.robustness.images_interval import FloatArray, over_images
from analysis.robustness.result import Robustness, check_same_images, recipe, run_facts
from analysis.statistics.uncertainty import Estimate
from landscape.errors import UserError

ORIGINAL = "sgd"


@dataclass(frozen=True)
class Row:
    """Runs of one network, method, sparsity and optimizer, trained alike.

    Attributes
    ----------
    network, method, sparsity, optimizer
        As the checkpoints say; "" and NaN where they don't.
    recipe
        Every other setting of the training, as `analysis.robustness.result.recipe`.
    results
        One per seed, in the order of the seeds.
    clean, corrupted
        Mean accuracies over the seeds, fractions: without corruption, and over the 15 corruptions of the
        benchmark at five severities. Intervals over images, the seeds' mean per image; they don't cover the
        chance of training.
    gain
        Corrupted accuracy minus that of the original optimizer's runs with the same seeds and recipe, paired
        by image; None for these themselves and where there are none.
    source
        "files", "generated" or both: only "files" can be compared with published numbers.
    """

    network: str
    method: str
    sparsity: float
    optimizer: str
    recipe: Mapping[str, Any]
    results: tuple[Robustness, ...]
    clean: Estimate
    corrupted: Estimate
    gain: Estimate | None
    source: str


class _Kind(NamedTuple):
    """What runs of one row have in common; sparsity and recipe as text, so that NaN equals itself."""

    network: str
    method: str
    sparsity: str
    recipe: str
    optimizer: str


_Groups = Mapping[_Kind, Mapping[object, Robustness]]


def rows(results: Sequence[Robustness]) -> list[Row]:
    """Group results by network, method, sparsity, recipe and optimizer, the original optimizer first.

    Raises
    ------
    UserError
        When they aren't of the same images, corrupted alike; when an optimizer's own settings differ.
    """
    for pair in combinations(results, 2):
        check_same_images(*pair)
    groups: dict[_Kind, dict[object, Robustness]] = {}
    for one in results:
        kind, seed = _kind(one), run_facts(one).get("seed", one.sha256)
        if seed in groups.setdefault(kind, {}):
            raise UserError(f"{one.name} and {groups[kind][seed].name} are the same cell of the table")
        first = next(iter(groups[kind].values()), one)
        if run_facts(first).get("own") != run_facts(one).get("own"):
            told = " and ".join(str(run_facts(which).get("own")) for which in (first, one))
            raise UserError(
                f"{first.name} and {one.name} were trained with other settings of {kind.optimizer} ({told}): "
                "a mean over their seeds would be of neither; keep them in folders of their own"
            )
        groups[kind][seed] = one
    order = sorted(groups, key=lambda kind: (*kind[:-1], kind.optimizer != ORIGINAL, kind.optimizer))
    return [_row(kind, groups) for kind in order]


def _kind(one: Robustness) -> _Kind:
    run = run_facts(one)
    sparsity = run.get("sparsity")
    return _Kind(
        str(one.about.get("architecture") or ""),
        str(run.get("method") or ""),
        repr(float(sparsity) if sparsity is not None else nan),
        json.dumps(recipe(one), sort_keys=True, default=str),
        str(run.get("optimizer") or ""),
    )


def _row(kind: _Kind, groups: _Groups) -> Row:
    found = groups[kind]
    seeds = sorted(found, key=str)
    chosen = tuple(found[one] for one in seeds)
    plain = groups.get(kind._replace(optimizer=ORIGINAL))
    gain = None
    if plain is not None and kind.optimizer != ORIGINAL:
        parts = [_difference(plain[one], found[one]) for one in seeds if one in plain]
        gain = _over_seeds(parts, -1.0) if parts else None
    return Row(
        kind.network,
        kind.method,
        float(kind.sparsity),
        kind.optimizer,
        recipe(chosen[0]),
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
