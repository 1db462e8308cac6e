"""The metrics of a finished run, as everything that reads its ``final.pt`` takes them for granted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isnan
from typing import Any

from landscape.errors import UserError

_SHARES = ("test_accuracy", "validation_accuracy", "sparsity", "sparsity_overall", "exploration")
_LOSSES = ("test_loss", "validation_loss", "train_loss")
_COUNTS = (
    *(
        "test_examples",
        "parameters",
        "kept_weights",
        "prunable_weights",
        "epochs_trained",
        "examples_trained",
    ),
    *("flops", "flops_dense", "training_flops", "training_flops_dense", "shrunk_flops", "shrunk_parameters"),
)
_PARTS = ("dense_layers", "channels", "channels_dense")  # counts by name
_NOT_ZERO = ("test_examples", "flops_dense", "training_flops_dense")
_LARGEST = 10**30  # of a count: more operations than any training takes, and still a number of seconds
_WITH = {  # what else is there where one of these is
    "flops": ("flops_dense", "training_flops", "training_flops_dense"),
    "shrunk_flops": ("shrunk_parameters", "channels", "channels_dense", "flops_dense"),
    "classes_without_input": ("layers",),
    "dense_layers": ("layers", "classes_without_input"),
}
_IN_LAYERS = {  # and in every layer
    "classes_without_input": ("dead_filters",),
    "dense_layers": ("weights", "kept", "filters"),
}
SUMMED_UP = (
    *("test_accuracy", "test_examples", "test_loss", "sparsity", "sparsity_overall", "parameters"),
    *("layers", "epochs_trained", "seconds"),
)
"""What a training says at its end, of whatever version its result is."""


def check_metrics(metrics: Mapping[str, Any], source: object, needed: Collection[str] = ()) -> None:
    """Refuse what no training leaves; None and NaN say that a number isn't known.

    Raises
    ------
    UserError
        In one line, also where one of `needed` isn't known.
    """
    try:
        for name in needed:
            if metrics.get(name) is None:
                raise ValueError(f"{name} is missing")
        for name, others in _WITH.items():
            for other in others if name in metrics else ():
                if other not in metrics:
                    raise ValueError(f"{name} is there without {other}")
        for name in (*_SHARES, *_LOSSES, *_COUNTS, "seconds"):
            _check_number(name, metrics.get(name))
        _check_parts(metrics)
    except ValueError as error:
        raise UserError(
            f"{source}: its metrics aren't those of a training ({error}); remove it, and train the run again"
        ) from error


def _check_number(name: str, value: Any) -> None:
    whole = name in _COUNTS
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{name} is {str(value)[:40]!r}; expected a {'whole number' if whole else 'number'}")
    if name in _LOSSES or (isinstance(value, float) and isnan(value)):
        return
    if value < (name in _NOT_ZERO) or value > (1 if name in _SHARES else _LARGEST):
        raise ValueError(f"{name} is {str(value)[:40]}, which can't be")


def _check_parts(metrics: Mapping[str, Any]) -> None:
    """Layers and channels by name, and classes."""
    for name in ("layers", *_PARTS):
        if not isinstance(metrics.get(name, {}), Mapping):
            raise ValueError(f"{name} is {str(metrics[name])[:40]!r}; expected an object")
    for name, layer in metrics.get("layers", {}).items():
        if not isinstance(layer, Mapping):
            raise ValueError(f"layer {str(name)[:40]!r} is no object")
        needed = [one for key, ones in _IN_LAYERS.items() for one in ones if key in metrics]
        _check_counts(f"layer {str(name)[:40]!r}", {**dict.fromkeys(needed), **layer})
        if layer.get("weights") == 0:
            raise ValueError(f"layer {str(name)[:40]!r} has no weights")
    for name in _PARTS:
        _check_counts(name, metrics.get(name, {}))
    if "shrunk_flops" in metrics and not sum(metrics["channels_dense"].values()):
        raise ValueError("channels_dense are none")
    if not isinstance(metrics.get("classes_without_input", []), list):
        raise ValueError("classes_without_input is no list")


def _check_counts(where: str, counts: Mapping[Any, Any]) -> None:
    for name, value in counts.items():
        if type(value) is not int or not 0 <= value <= _LARGEST:
            raise ValueError(f"{str(name)[:40]!r} of {where} is {str(value)[:40]!r}; expected a count")
