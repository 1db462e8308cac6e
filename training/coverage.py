"""What a mask leaves of each layer: its density, filters without a weight, classes without an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from training import masks


def layer_counts(mask: Mapping[str, Tensor], ever_active: Mapping[str, Tensor]) -> dict[str, dict[str, int]]:
    """Of every masked layer by name: weights, kept ones, those ever kept, filters, and filters without any.

    A filter is a row of the weight: what feeds one output channel, or one unit of a linear layer.
    """
    return {
        name: {
            "weights": part.numel(),
            "kept": int(part.sum()),
            "ever_active": int(ever_active[name].sum()),
            "filters": len(part),
            "dead_filters": len(empty_rows(part)),
        }
        for name, part in mask.items()
    }


def dense_layers(model: nn.Module, mask: Mapping[str, Tensor]) -> dict[str, int]:
    """Weights of the convolutions and linear layers that have no mask, by name."""
    return {name: weight.numel() for name, weight in masks.prunable(model).items() if name not in mask}


def classes_without_input(model: nn.Module, mask: Mapping[str, Tensor]) -> list[int]:
    """Classes whose logit depends on no weight of the last layer: it's a constant, whatever the image."""
    names = list(masks.prunable(model))
    return empty_rows(mask[names[-1]]) if names and names[-1] in mask else []


def empty_rows(part: Tensor) -> list[int]:
    """Rows of a layer's mask in which no weight is kept."""
    return [int(row) for row in (~part.flatten(1).any(dim=1)).nonzero().flatten()]


def coverage_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A result's layers to read: densities, dead filters, classes without an input."""
    layers, dense = metrics["layers"], metrics["dense_layers"]
    if not layers:
        return [f"density       1 in all {len(dense)} layers"]
    shares = [f"{_short(name)} {one['kept'] / one['weights']:.3g}" for name, one in layers.items()]
    lines = [f"density       {', '.join(shares)}"]
    if dense:
        count = sum(dense.values())
        lines.append(f"kept dense    {_names(list(dense))} ({count} weights, not counted above)")
    dead = {name: one["dead_filters"] for name, one in layers.items() if one["dead_filters"]}
    filters = sum(one["filters"] for one in layers.values())
    where = f": {', '.join(f'{_short(name)} {count}' for name, count in dead.items())}" if dead else ""
    lines.append(f"dead filters  {sum(dead.values())} of {filters}{where}")
    empty = metrics["classes_without_input"]
    named = f": {', '.join(map(str, empty))}; their logits are constant" if empty else ""
    return [*lines, f"no input      {len(empty)} classes{named}"]


def _names(names: Sequence[str]) -> str:
    return ", ".join(_short(name) for name in names)


def _short(name: str) -> str:
    return name.removesuffix(".weight")
