"""What a run leaves behind: its checkpoint with mask statistics, and snapshots on the way."""

from __future__ import annotations

from typing import Any

from landscape.checkpoint.format import Checkpoint
from training import coverage, masks
from training.checkpoint import environment
from training.models import full_arguments
from training.run import Run


def checkpoint_of(run: Run, metrics: dict[str, Any]) -> Checkpoint:
    """The model as it is now, on the CPU, with everything known about the run."""
    data = run.data
    return Checkpoint(
        architecture=run.config.model,
        arguments=full_arguments(run.config.model, run.config.model_arguments(data.num_classes)),
        state_dict={name: value.cpu() for name, value in run.model.state_dict().items()},
        mask={name: part.cpu() for name, part in run.mask.items()},
        data={
            "name": data.name,
            "mean": list(data.mean),
            "std": list(data.std),
            "num_classes": data.num_classes,
            "sha256": data.sha256,
            "test_sha256": data.test_sha256,
            "selection": data.selection(run.config.seed),
            **({} if data.images is None else {"images": data.images}),
            **({} if data.left_out is None else {"left_out": data.left_out}),
            **({} if data.classes is None else {"classes": list(data.classes)}),
        },
        config=run.config.to_dict(data.name),
        metrics=metrics,
        environment=environment(run.device) | _computed(run),
    )


def _computed(run: Run) -> dict[str, Any]:
    """With what the steps were computed."""
    graph = {"cuda_graph": run.passes.about} if run.device.type == "cuda" else {}
    lanes = {"lanes": run.lanes} if run.lanes > 1 else {}
    return {"kernels": _kernels(run), **graph, **lanes}


def _kernels(run: Run) -> str:
    path = run.path
    if path is None:
        return f"dense: {run.dense_because}"
    return f"kept weights only, {path['lanes']} lanes, version {path['kernels']}"


def final_metrics(run: Run, test_loss: float, test_accuracy: float) -> dict[str, Any]:
    """Sum up the run, whose test split was measured once."""
    last = run.history[-1]
    return {
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "test_examples": len(run.data.test),
        "validation_accuracy": last["validation_accuracy"],
        "validation_loss": last["validation_loss"],
        "train_loss": last["train_loss"],
        **mask_metrics(run),
        "epochs_trained": len(run.history),
        "examples_trained": _total(run, "examples"),
        **_flops(run),
        "seconds": sum(record["seconds"] for record in run.history),
    }


def _total(run: Run, key: str) -> int | None:
    """Over all epochs of all rounds; None when an earlier version, which didn't count, began the run."""
    counted = all(key in record for record in run.history)
    return sum(record[key] for record in run.history) if counted else None


def _flops(run: Run) -> dict[str, int | None]:
    """Of one image through the result, and of the training; each beside the dense network's.

    The training's are those of every forward and backward pass of its steps and changes of the mask, in all
    rounds; images that a method looked at before the first step, validation and test don't count. The dense
    training has one round of one pass a step.
    """
    forward = run.forward_flops
    return {
        "flops": forward.under(run.mask),
        "flops_dense": forward.dense,
        "training_flops": _total(run, "flops"),
        "training_flops_dense": 3 * forward.dense * len(run.data.train) * run.config.epochs,
    }


def mask_metrics(run: Run) -> dict[str, Any]:
    """Sparsity by its two denominators, the exploration rate, and what is left of each layer.

    ``sparsity`` is the pruned share of the masked tensors, as the method's authors count, and
    ``sparsity_overall`` that of all parameters: layers kept dense, biases and normalization included. For the
    rest see `exploration` and ``training.coverage``.
    """
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    maskable = sum(part.numel() for part in run.mask.values())
    pruned = maskable - masks.kept(run.mask)
    return {
        "sparsity": masks.sparsity(run.mask),
        "sparsity_overall": pruned / parameters,
        "exploration": exploration(run),
        "parameters": parameters,
        "kept_weights": masks.kept(run.mask),
        "prunable_weights": sum(weight.numel() for weight in masks.prunable(run.model).values()),
        "layers": coverage.layer_counts(run.mask, run.ever_active),
        "dense_layers": coverage.dense_layers(run.model, run.mask),
        "classes_without_input": coverage.classes_without_input(run.model, run.mask),
    }


def exploration(run: Run) -> float:
    """Share of the masked tensors' weights that were ever active; 1 without masks.

    The in-time over-parameterization rate of Liu et al., "Do We Actually Need Dense Over-Parameterization?"
    (2021).
    """
    maskable = sum(part.numel() for part in run.mask.values())
    return masks.kept(run.ever_active) / maskable if maskable else 1.0
