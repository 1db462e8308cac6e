"""Training: config and data to a checkpoint, going on after any interruption.

Bit-identical on one machine with one number of threads: all randomness is drawn from generators named by the
seed and the epoch, and ``last.pt`` holds everything else after each epoch.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from landscape.checkpoint.format import Checkpoint
from landscape.errors import UserError
from landscape.keeping.lock import owned
from landscape.sparse.choice import Sparse
from training import masks
from training.checkpoint import LEFTOVER_SECONDS, RunFolder
from training.config import RunConfig
from training.data import TrainingData, generator_for
from training.distributed import World
from training.evaluation import evaluate
from training.precision import numerics
from training.result import checkpoint_of, exploration, final_metrics
from training.run import Run, start_run
from training.schedule import Epoch, lr_factor
from training.shrunk import with_shrunk
from training.step import begin_round, train_step
from training.timing import TimedBatches, clock_of
from training.trajectory import save_snapshot

_LOOKED_AT = 256  # training images, after an epoch without a held-out part
_CHECK_EVERY = 50  # steps between looks at the loss: each look makes a GPU wait


class Reporter(Protocol):
    """What the loop tells whoever watches; `epochs` is that of the whole run, over all rounds."""

    def begin(self, epochs: int, done: int) -> None:
        """The run starts or goes on; it has so many epochs in all, and `done` are saved."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """`step` of `steps` in this epoch (from 1) are done; `loss` is the mean of the latest ones."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is finished and saved."""

    def note(self, text: str) -> None:
        """Something that the user should know, once."""


@dataclass(frozen=True)
class Extras:
    """What doesn't belong to a run's settings: it changes no weight, or its last bits at most.

    Attributes
    ----------
    world
        The processes that train together.
    compiled
        Let torch.compile fuse the forward and the backward pass.
    record_every
        Keep the weights after every so many steps; 0 keeps none.
    sparse
        Compute with kept weights only: "auto" where that is faster, "on", or "off".
    """

    world: World = field(default_factory=World)
    compiled: bool = False
    record_every: int = 0
    sparse: Sparse = "auto"


def train(
    config: RunConfig,
    data: TrainingData,
    folder: RunFolder,
    device: torch.device,
    reporter: Reporter,
    extras: Extras = Extras(),  # frozen
) -> Checkpoint:
    """Train from the beginning or from ``last.pt`` to the end; write and return the final checkpoint.

    Nothing is selected: the weights are those after the last epoch, and the test part is measured once,
    at the end.

    Raises
    ------
    UserError
        When the folder holds another run, the loss stops being finite, or the method leaves a layer empty
        although its settings forbid that.
    """
    world = extras.world
    if config.precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32: a format of GPUs, this run is on {device.type}; use float32")
    world.check_same("their images (SHA-256)", data.sha256, "give all of them the same --data")
    finished = world.by_first(lambda: _finished(folder, data))
    if finished is not None:
        world.by_first(lambda: folder.sweep(time.time() - LEFTOVER_SECONDS))
        return finished
    with numerics(config.precision), ExitStack() as held:
        run = start_run(
            config, data, folder, device, world, extras.compiled, extras.sparse
        )  # bad settings claim no folder
        world.by_first(lambda: held.enter_context(owned(folder.file)))
        world.by_first(folder.claim)
        _go_on(run)
        started = time.time()
        world.by_first(lambda: folder.sweep(time.time() - LEFTOVER_SECONDS))
        reporter.begin(len(run.plan), run.epoch)
        while run.epoch < len(run.plan):
            _epoch(run, reporter, extras.record_every)
        result = world.by_first(lambda: _finish(run))
        world.by_first(lambda: folder.sweep(started))  # younger files would be another process's
        return result


def _finished(folder: RunFolder, data: TrainingData) -> Checkpoint | None:
    """The result that is there, refused if it's of other images; early ones don't name their test images."""
    finished = folder.finished()
    if finished is None:
        return None
    text = f"{folder.path} holds a finished run of other {data.name}"
    if finished.data.get("sha256") != data.sha256:
        raise UserError(f"{text} images; choose another --output")
    if finished.data.get("test_sha256", data.test_sha256) != data.test_sha256:
        raise UserError(f"{text} test images; choose another --output")
    return finished


def _go_on(run: Run) -> None:
    """Restore the saved state if there is one; every process reads it, from the same file or a copy of it."""
    state = run.world.by_all(lambda: run.folder.load_state(run.device))
    run.world.check_same(
        f"the epochs that {run.folder.last} has",
        0 if state is None else state.get("epoch"),
        "put the folder on a disk that all share, or copy it to every machine",
    )
    if state is not None:
        run.world.by_all(lambda: run.restore(state))


def _finish(run: Run) -> Checkpoint:
    metrics = final_metrics(run)
    if not math.isfinite(metrics["test_loss"]):  # of finite weights: they were looked at after the epoch
        raise UserError(
            f"the test loss is {metrics['test_loss']} after epoch {run.epoch}, the last one, whose state is "
            f"in {run.folder.last}; {_ADVICE}"
        )
    checkpoint = checkpoint_of(run, metrics)
    if run.config.method.structured:
        checkpoint, small = with_shrunk(run, checkpoint)
        run.folder.save_shrunk(small)
    run.folder.save_log(run.history)  # a kill may have come between the last state and its log
    run.folder.save_final(checkpoint)
    return checkpoint


def _epoch(run: Run, reporter: Reporter, record_every: int) -> None:
    """Train one epoch of the plan and save the state after it."""
    epoch = run.plan[run.epoch]
    if epoch.opens_round:
        begin_round(run, epoch)
    record = _train_epoch(run, epoch, reporter, record_every)

    def close() -> dict[str, Any]:
        started = time.perf_counter()
        if len(run.data.validation):
            loss, accuracy = evaluate(run.model, run.data.validation, run.kept)
            _check_finite("validation loss", loss, run)
            record.update(validation_loss=loss, validation_accuracy=accuracy)
        else:
            loss, _ = evaluate(run.model, run.data.train.first(_LOOKED_AT))
            _check_finite(f"loss of {_LOOKED_AT} training images", loss, run)
        bad = not_finite(run.model)
        if bad:
            raise UserError(f"{bad} is not finite after epoch {run.epoch + 1}; {_advice(run)}")
        record["seconds"] += time.perf_counter() - started
        return record

    run.history.append(run.world.by_first(close))
    run.epoch += 1
    run.world.by_first(lambda: run.folder.save_state(run.state()))
    for text in run.notes:
        reporter.note(text)
    reporter.epoch(run.history[-1])


def _train_epoch(run: Run, epoch: Epoch, reporter: Reporter, record_every: int) -> dict[str, Any]:
    """One pass over the training images; returns the line of ``metrics.jsonl``, validation still missing."""
    started = time.perf_counter()
    config, steps = run.config, run.steps_per_epoch
    run.model.train()
    run.changed = run.flops = 0
    losses = torch.zeros(steps, device=run.device)
    shuffled = run.data.train.shuffled(
        config.batch_size, generator_for(config.seed, "epoch", run.epoch), config.augment
    )
    batches = TimedBatches(shuffled, clock_of(run.device))
    with nullcontext() if run.kept is None else run.kept.beside():
        skipped, examples = _steps(run, epoch, batches, losses, reporter, record_every)
    trained = time.perf_counter() - started
    return {
        "epoch": run.epoch + 1,
        "round": epoch.round + 1,
        "examples": examples,
        "flops": run.flops,
        "train_loss": float(run.world.sum(losses)[skipped:].mean()),
        "validation_loss": None,  # stays without a held-out part
        "validation_accuracy": None,
        "sparsity": masks.sparsity(run.mask),
        "exploration": exploration(run),
        "grown": run.changed,
        "lr": config.optimizer.lr
        * lr_factor((epoch.number + 1) * steps - 1, steps, epoch.epochs, config.warmup),
        "seconds": trained,
        "data_share": batches.seconds / trained,
    }


def _steps(
    run: Run, epoch: Epoch, batches: TimedBatches, losses: Tensor, reporter: Reporter, record_every: int
) -> tuple[int, int]:
    """The epoch's steps, their losses into `losses`; how many steps were left out, and images trained on."""
    steps, rewind_step = len(losses), run.config.method.rewind_step
    skipped = max(0, rewind_step - epoch.number * steps) if epoch.round else 0
    examples = 0
    for number, (images, labels) in enumerate(batches):
        step = epoch.number * steps + number
        if number < skipped:
            continue
        if step == rewind_step and not epoch.round and len({one.round for one in run.plan}) > 1:
            run.rewind = {name: value.clone() for name, value in run.model.state_dict().items()}
        if record_every and (run.epoch * steps + number) % record_every == 0:
            _record(run, run.epoch * steps + number)
        train_step(run, epoch, step, images, labels, losses[number])
        examples += len(labels)
        if (number + 1) % _CHECK_EVERY == 0 or number + 1 == steps:
            first = max(number - number % _CHECK_EVERY, skipped)
            mean = _finite_mean(run, losses, first, number + 1)
            reporter.step(run.epoch + 1, number + 1, steps, mean)
    return skipped, examples


def _record(run: Run, step: int) -> None:
    run.world.by_first(lambda: save_snapshot(run.folder.path, step, checkpoint_of(run, {"step": step})))


def _finite_mean(run: Run, losses: Tensor, first: int, end: int) -> float:
    """Mean of the latest losses; stops the run at the first one that isn't finite."""
    latest = run.world.sum(losses[first:end])
    bad = (~latest.isfinite()).nonzero()
    if len(bad):
        at = int(bad[0])
        place = f"in epoch {run.epoch + 1}, step {first + at + 1}"
        raise UserError(f"the loss became {float(latest[at])} {place}; {_advice(run)}")
    return float(latest.mean())


def _check_finite(what: str, value: float, run: Run) -> None:
    """Before the state is saved: the last update of an epoch shows in no training loss."""
    if not math.isfinite(value):
        raise UserError(f"the {what} became {value} after epoch {run.epoch + 1}; {_advice(run)}")


def not_finite(model: nn.Module) -> str:
    """Name of the first parameter or buffer that holds NaN or infinity; empty when all are finite."""
    values = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in values.values()]).tolist()  # waits once
    return next((name for name, one in zip(values, finite, strict=True) if not one), "")


_ADVICE = "choose a lower --lr or a longer --warmup, and another --output"


def _advice(run: Run) -> str:
    """What there is, before the epoch that has just failed, and what to do."""
    good = f"{run.folder.last} has epoch {run.epoch}" if run.epoch else "no epoch was finished"
    return f"last good checkpoint: {good}; {_ADVICE}"
