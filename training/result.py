"""What a run leaves behind: its checkpoint with mask statistics, and snapshots on the way."""

from __future__ import annotations

from typing import Any

from landscape.checkpoint.format import Checkpoint
from training import masks
from training.checkpoint import environment
from training.evaluation import evaluate
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
        },
        config=run.config.to_dict(data.name),
        metrics=metrics,
        environment=environment(run.device),
    )


def final_metrics(run: Run) -> dict[str, Any]:
    """Measure the test split, once, and sum up the run."""
    test_loss, test_accuracy = evaluate(run.model, run.data.test)
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
        "seconds": sum(record["seconds"] for record in run.history),
    }


def mask_metrics(run: Run) -> dict[str, Any]:
    """Sparsity by its two denominators, the exploration rate, and the counts of each layer.

    ``sparsity`` is the pruned share of the masked tensors, ``sparsity_overall`` of all parameters,
    biases and normalization included. ``exploration`` is the share of the masked tensors' weights that
    were ever active, the in-time over-parameterization rate of Liu et al., "Do We Actually Need Dense
    Over-Parameterization?" (2021).
    """
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    maskable = sum(part.numel() for part in run.mask.values())
    pruned = maskable - masks.kept(run.mask)
    return {
        "sparsity": masks.sparsity(run.mask),
        "sparsity_overall": pruned / parameters,
        "exploration": masks.kept(run.ever_active) / maskable if maskable else 1.0,
        "parameters": parameters,
        "kept_weights": masks.kept(run.mask),
        "prunable_weights": sum(weight.numel() for weight in masks.prunable(run.model).values()),
        "layers": {
            name: {
                "weights": part.numel(),
                "kept": int(part.sum()),
                "ever_active": int(run.ever_active[name].sum()),
            }
            for name, part in run.mask.items()
        },
    }
