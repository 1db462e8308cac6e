"""Whether a result is of the run whose name its file carries. Needs no torch.

Results say of their checkpoint, as ``about.checkpoint``, its SHA-256 and the metrics of its training; rows of
``results.csv`` have the same metrics. Where the checkpoint itself is here, its SHA-256 decides instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

from figures.networks import MODELS, split_network

TOLD = ("test_accuracy", "test_loss", "validation_accuracy", "sparsity", "kept_weights", "examples_trained")
"""Metrics that two trainings hardly have in common, and that a checkpoint and its row must."""
DIGITS = 1e-5  # a row has six of them


def checkpoint_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a result says of its checkpoint; empty where it doesn't."""
    found = about.get("checkpoint")
    return found if isinstance(found, Mapping) else {}


def sha256_told(about: Mapping[str, Any]) -> str:
    """SHA-256 of the checkpoint; empty where the result doesn't say."""
    return str(checkpoint_of(about).get("sha256") or "")


def contradiction(about: Mapping[str, Any], row: Mapping[str, str]) -> str:
    """The first metric that a result's checkpoint and a row tell otherwise; empty where there is none."""
    metrics = checkpoint_of(about).get("metrics")
    if not isinstance(metrics, Mapping):
        return ""
    for key in TOLD:
        value, text = metrics.get(key), row.get(key)
        if not text or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not _close(value, float(text)):
            return f"{key.replace('_', ' ')} {str(value)[:12]}, in results.csv {text}"
    return ""


def _close(first: float, second: float) -> bool:
    try:
        return isclose(first, second, rel_tol=DIGITS, abs_tol=DIGITS)
    except OverflowError:  # a whole number that no float holds
        return False


def other_network(about: Mapping[str, Any], network: str) -> str:
    """Says that the architecture isn't that of MODEL-DATA, where both are known ones; empty otherwise."""
    told, (model, _) = str(about.get("architecture") or "").replace(":", "-"), split_network(network)
    same = model == told or model.startswith(f"{told}_")  # resnet32_wide is a resnet32 of other widths
    return "" if same or not {told, model} <= MODELS.keys() else f"architecture {told}"
