"""Training: config and data to a checkpoint, going on after any interruption.

Bit-identical on one machine with one number of threads: all randomness is drawn from generators named by the
seed and the epoch, and ``last.pt`` holds everything else after each epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.checkpoint_format import Checkpoint
from landscape.errors import UserError
from training import masks
from training.checkpoint import RunFolder, environment
from training.config import RunConfig
from training.data import Images, TrainingData, generator_for
from training.masks import Mask
from training.models import build_model, full_arguments
from training.sparsity.base import Moment

_CHECK_EVERY = 50  # steps between looks at the loss: each look makes a GPU wait
_EVALUATION_BATCH = 250


class Reporter(Protocol):
    """What the loop tells whoever watches."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """`step` of `steps` in this epoch (from 1) are done; `loss` is the mean of the latest ones."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is finished and saved."""


@dataclass
class Run:
    """A training in progress; everything that changes during it."""

    config: RunConfig
    data: TrainingData
    folder: RunFolder
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    mask: Mask
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return math.ceil(len(self.data.train) / self.config.batch_size)


def train(
    config: RunConfig,
    data: TrainingData,
    folder: RunFolder,
    device: torch.device,
    reporter: Reporter,
) -> Checkpoint:
    """Train from the beginning or from ``last.pt`` to the end; write and return the final checkpoint.

    Nothing is selected: the weights are those after the last epoch, and the test part is measured once,
    at the end.

    Raises
    ------
    UserError
        When the folder holds another run, or the loss stops being finite.
    """
    run = _start(config, data, folder, device)  # first, so that bad settings don't claim the folder
    folder.claim()
    finished = folder.load_final()
    if finished is not None:
        return finished
    _resume(run)
    while run.epoch < config.epochs:
        record = _train_epoch(run, reporter)
        run.history.append(record)
        run.epoch += 1
        run.folder.save_state(_state(run))
        reporter.epoch(record)
    checkpoint = _final(run)
    folder.save_final(checkpoint)
    return checkpoint


def _start(config: RunConfig, data: TrainingData, folder: RunFolder, device: torch.device) -> Run:
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        torch.manual_seed(generator_for(config.seed, "weights").initial_seed())
        model = build_model(config.model, **config.model_arguments(data.num_classes))
    model = model.to(device).to(memory_format=torch.channels_last)
    mask = config.method.init_mask(model, data.train.draw, generator_for(config.seed, "mask"))
    masks.check(model, mask)
    masks.apply_to_weights(model, mask)
    return Run(config, data, folder, device, model, config.optimizer.build(model), mask)


def _resume(run: Run) -> None:
    state = run.folder.load_state(run.device)
    if state is None:
        return
    if state["data_sha256"] != run.data.sha256:
        raise UserError(
            f"{run.folder.path}: the run was started with other {run.data.name} images or another order"
        )
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.mask, run.epoch, run.history = state["mask"], state["epoch"], state["history"]


def _state(run: Run) -> dict[str, Any]:
    return {
        "epoch": run.epoch,
        "history": run.history,
        "model": run.model.state_dict(),
        "mask": run.mask,
        "optimizer": run.optimizer.state_dict(),
        "data_sha256": run.data.sha256,
    }


def _train_epoch(run: Run, reporter: Reporter) -> dict[str, Any]:
    """One pass over the training images; returns the line of ``metrics.jsonl``."""
    started = time.perf_counter()
    run.model.train()
    steps = run.steps_per_epoch
    losses = torch.zeros(steps, device=run.device)
    batches = _Timed(
        run.data.train.shuffled(
            run.config.batch_size, generator_for(run.config.seed, "epoch", run.epoch), run.config.augment
        )
    )
    for step, (images, labels) in enumerate(batches):
        _train_step(run, run.epoch * steps + step, images, labels, losses[step])
        if (step + 1) % _CHECK_EVERY == 0 or step + 1 == steps:
            first = step - step % _CHECK_EVERY
            reporter.step(run.epoch + 1, step + 1, steps, _finite_mean(run, losses, first, step + 1))
    trained = time.perf_counter() - started
    validation_loss, validation_accuracy = evaluate(run.model, run.data.validation)
    return {
        "epoch": run.epoch + 1,
        "train_loss": float(losses.mean()),
        "validation_loss": validation_loss,
        "validation_accuracy": validation_accuracy,
        "sparsity": masks.sparsity(run.mask),
        "lr": run.config.optimizer.lr * lr_factor(run.config, (run.epoch + 1) * steps - 1, steps),
        "seconds": time.perf_counter() - started,
        "data_share": batches.seconds / trained,
    }


def _train_step(run: Run, step: int, images: Tensor, labels: Tensor, loss_out: Tensor) -> None:
    """One update; afterwards pruned weights are exactly 0. The loss is written into `loss_out`."""
    config = run.config
    lr = config.optimizer.lr * lr_factor(config, step, run.steps_per_epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = lr

    def closure() -> float:
        run.optimizer.zero_grad()
        loss = F.cross_entropy(run.model(images), labels, label_smoothing=config.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        masks.apply_to_gradients(run.model, run.mask)
        loss_out.copy_(loss.detach())
        return loss_out  # type: ignore[return-value]  # torch's stubs say float, a tensor doesn't wait for a GPU

    run.optimizer.step(closure)
    masks.apply_to_weights(run.model, run.mask)
    moment = Moment(step + 1, config.epochs * run.steps_per_epoch, run.steps_per_epoch)
    changed = config.method.update_mask(
        run.model, run.mask, moment, run.data.train.draw, generator_for(config.seed, "mask", step + 1)
    )
    if changed is not None:
        masks.check(run.model, changed)
        run.mask = changed
        masks.apply_to_weights(run.model, run.mask)
        masks.apply_to_state(run.optimizer, run.model, run.mask)


def lr_factor(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step (from 0) over its peak: linear warm-up, then half a cosine to 0."""
    warmup, total = config.warmup * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (math.floor(warmup) + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _finite_mean(run: Run, losses: Tensor, first: int, end: int) -> float:
    """Mean of the latest losses; stops the run at the first one that isn't finite."""
    bad = (~losses[first:end].isfinite()).nonzero()
    if len(bad):
        step = first + int(bad[0]) + 1
        good = f"{run.folder.last} has epoch {run.epoch}" if run.epoch else "no epoch was finished"
        raise UserError(
            f"the loss became {float(losses[step - 1])} in epoch {run.epoch + 1}, step {step}; "
            f"last good checkpoint: {good}; choose a lower --lr or a longer --warmup, and another --output"
        )
    return float(losses[first:end].mean())


def evaluate(model: nn.Module, images: Images) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in evaluation mode, NaN for an empty set."""
    training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    with torch.inference_mode():
        for batch, labels in images.in_order(_EVALUATION_BATCH):
            logits = model(batch)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    model.train(training)
    count = len(images) or math.nan
    return float(loss) / count, int(right) / count


def _final(run: Run) -> Checkpoint:
    test_loss, test_accuracy = evaluate(run.model, run.data.test)
    data, last = run.data, run.history[-1]
    return Checkpoint(
        architecture=run.config.model,
        arguments=full_arguments(run.config.model, run.config.model_arguments(data.num_classes)),
        state_dict=dict(run.model.state_dict()),
        mask=run.mask,
        data={
            "name": data.name,
            "mean": list(data.mean),
            "std": list(data.std),
            "num_classes": data.num_classes,
            "sha256": data.sha256,
            "selection": {
                "split": "train",
                "rule": "last epoch; held-out images are only reported",
                "seed": run.config.seed,
                "held_out": torch.from_numpy(data.held_out).to(torch.int32),
            },
        },
        config=run.config.to_dict(data.name),
        metrics={
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "test_examples": len(data.test),
            "validation_accuracy": last["validation_accuracy"],
            "validation_loss": last["validation_loss"],
            "train_loss": last["train_loss"],
            "sparsity": last["sparsity"],
            "kept_weights": masks.kept(run.mask),
            "prunable_weights": sum(weight.numel() for weight in masks.prunable(run.model).values()),
            "seconds": sum(record["seconds"] for record in run.history),
        },
        environment=environment(run.device),
    )


class _Timed:
    """Passes batches on and adds up the seconds spent on making them."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            started = time.perf_counter()
            batch = next(self.batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch
