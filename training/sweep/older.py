"""What results of earlier versions don't say of themselves, from the rest of their checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape.checkpoint.format import decode
from landscape.errors import UserError
from training.coverage import empty_rows


def completed(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metrics of a finished run, with filters and classes without a weight, and the images it spent.

    What can't be known stays away: the images of a run that used all there were, or was rewound.
    """
    metrics: dict[str, Any] = dict(content["metrics"])
    if "classes_without_input" in metrics or not isinstance(content.get("sparse"), dict):
        return metrics
    try:
        checkpoint = decode(content)
    except UserError:
        return metrics  # whoever needs its weights will say what is wrong with them
    rows = {name: empty_rows(part) for name, part in checkpoint.mask.items()}
    layers = metrics.get("layers")
    if isinstance(layers, dict) and layers.keys() == rows.keys():
        metrics["layers"] = {
            name: {**layers[name], "filters": len(checkpoint.mask[name]), "dead_filters": len(rows[name])}
            for name in layers
        }
        weights = [name for name, value in checkpoint.state_dict.items() if value.ndim > 1]
        metrics["classes_without_input"] = rows.get(weights[-1], []) if weights else []
    examples, epochs = checkpoint.config.get("examples"), metrics.get("epochs_trained")
    method = checkpoint.config.get("method")
    rewound = isinstance(method, dict) and method.get("rewind_step")
    if isinstance(examples, int) and isinstance(epochs, int) and not rewound:
        metrics.setdefault("examples_trained", examples * epochs)
    return metrics
