"""Training: config and data to a checkpoint, going on after any interruption.

Bit-identical on one machine with one number of threads: all randomness is drawn from generators named by the
seed, the epoch and the step, and ``last.pt`` holds everything else after each epoch, and in long ones every
so often.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from landscape.checkpoint.format import Checkpoint
from landscape.errors import UserError
from landscape.keeping.lock import owned
from landscape.sparse.choice import Sparse
from training import masks
from training.captured import Graphs
from training.checkpoint import LEFTOVER_SECONDS, RunFolder
from training.config import RunConfig
from training.data import Images, TrainingData, check_held_out, generator_for
from training.distributed import World
from training.evaluation import evaluate
from training.kept import KeptForward
from training.precision import numerics
from training.result import checkpoint_of, exploration, final_metrics
from training.run import Run, Within, start_run
from training.schedule import Epoch
from training.shrunk import with_shrunk
from training.step import begin_round, prune_last, train_step
from training.timing import TimedBatches, clock_of
from training.trajectory import save_snapshot

_LOOKED_AT = 256  # training images, after an epoch without a held-out part
_CHECK_EVERY = 50  # steps between looks at the loss: each look makes a GPU wait
_CHECK_PHOTOGRAPHS = 5  # whose steps are so long that it doesn't matter
SAVE_EVERY = 600.0  # seconds


class Reporter(Protocol):
    """What the loop tells whoever watches; `epochs` is that of the whole run, over all rounds."""

    def begin(self, epochs: int, done: int) -> None:
        """The run starts or goes on; it has so many epochs in all, and `done` are saved."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """`step` of `steps` in this epoch (from 1) are done; `loss` is the mean of the latest ones."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is finished and saved."""

    def saved(self, epochs: int, step: int) -> None:
        """The state after `step` more steps than `epochs` whole epochs is saved."""

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
    save_every
        Seconds after which the state is saved within an epoch; 0 saves after whole epochs only.
    graphs
        Replay forward and backward pass as one CUDA graph where that gives the same bits ("auto"), or "off".
    lanes
        How many runs take turns in this process; kept with the result, whose seconds are everybody's.
    """

    world: World = field(default_factory=World)
    compiled: bool = False
    record_every: int = 0
    sparse: Sparse = "auto"
    save_every: float = SAVE_EVERY
    graphs: Graphs = "auto"
    lanes: int = 1


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
    with surroundings(config, device):
        steps = training(config, data, folder, device, reporter, extras)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: Checkpoint = end.value
                return found


@contextmanager
def surroundings(config: RunConfig, device: torch.device) -> Iterator[None]:
    """What holds for the whole process while a run's steps are made, and is as before in the end."""
    gpus = [device] if device.type == "cuda" else []
    with numerics(config.precision), torch.random.fork_rng(devices=gpus):  # which every step seeds
        yield


def training(
    config: RunConfig,
    data: TrainingData,
    folder: RunFolder,
    device: torch.device,
    reporter: Reporter,
    extras: Extras,
) -> Generator[None, None, Checkpoint]:
    """As `train`, step by step, each of them within `surroundings`: other runs may make theirs in between.

    Nothing of a step hangs on what was computed before it but the run's own state.
    """
    world = extras.world
    if config.precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32: a format of GPUs, this run is on {device.type}; use float32")
    world.check_same("their images (SHA-256)", data.sha256, "give all of them the same --data")
    finished = world.by_first(lambda: _finished(folder, data))
    if finished is not None:
        world.by_first(lambda: _tidy(folder))
        return finished
    if not folder.last.exists():
        check_held_out(data, config.validation)
    with ExitStack() as held:
        run = start_run(
            config, data, folder, device, world, extras.compiled, extras.sparse, extras.graphs
        )  # bad settings claim no folder
        run.lanes = extras.lanes
        world.by_first(lambda: held.enter_context(owned(folder.file)))
        world.by_first(folder.claim)
        _go_on(run)
        started = time.time()
        world.by_first(lambda: folder.sweep(time.time() - LEFTOVER_SECONDS))
        reporter.begin(len(run.plan), run.epoch)
        while run.epoch < len(run.plan):
            yield from _epoch(run, reporter, extras)
        result = _finish(run, reporter)
        world.by_first(lambda: folder.sweep(started))  # younger files would be another process's
        return result


def _tidy(folder: RunFolder) -> None:
    """Remove what a process left that was killed after its last write: half-written files, its lock."""
    with suppress(UserError), owned(folder.file):  # unless another one is at it
        folder.sweep(time.time() - LEFTOVER_SECONDS)


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
        0 if state is None else _place(state),
        "put the folder on a disk that all share, or copy it to every machine",
    )
    if state is not None:
        run.world.by_all(lambda: run.restore(state))


def _place(state: Mapping[str, Any]) -> object:
    """Epochs and steps of a state that isn't checked yet."""
    epoch, within = state.get("epoch"), state.get("within")
    return f"{epoch} and {within.get('step')} steps" if isinstance(within, dict) else epoch


def _finish(run: Run, reporter: Reporter) -> Checkpoint:
    measured = evaluate_all(run, run.data.test)
    return run.world.by_first(lambda: _written(run, reporter, *measured))


def evaluate_all(run: Run, images: Images, kept: KeptForward | None = None) -> tuple[float, float]:
    """Mean loss and accuracy: photographs by all processes, others, which are few, by the first one."""
    if images.streamed:
        return evaluate(run.model, images, kept, run.world)
    return run.world.by_first(lambda: evaluate(run.model, images, kept))


def _written(run: Run, reporter: Reporter, test_loss: float, test_accuracy: float) -> Checkpoint:
    metrics = final_metrics(run, test_loss, test_accuracy)
    if not math.isfinite(metrics["test_loss"]):  # of finite weights: they were looked at after the epoch
        raise UserError(
            f"the test loss is {metrics['test_loss']} after epoch {run.epoch}, the last one, whose state is "
            f"in {run.folder.last}; {_ADVICE}"
        )
    checkpoint = checkpoint_of(run, metrics)
    if run.config.method.structured:
        try:
            checkpoint, small = with_shrunk(run, checkpoint)
        except UserError as error:  # what was trained is worth more than its smaller copy
            reporter.note(f"{run.folder.shrunk} isn't written: {error}")
        else:
            run.folder.save_shrunk(small)
    run.folder.save_log(run.history)  # a kill may have come between the last state and its log
    run.folder.save_final(checkpoint)
    return checkpoint


def _epoch(run: Run, reporter: Reporter, extras: Extras) -> Iterator[None]:
    """Train one epoch of the plan and save the state after it."""
    epoch = run.plan[run.epoch]
    if epoch.opens_round and run.within is None:
        begin_round(run, epoch)
    record = yield from _train_epoch(run, epoch, reporter, extras)
    started, held_out = time.perf_counter(), len(run.data.validation) > 0
    looked_at, kept = run.data.train.first(_LOOKED_AT), None
    if held_out:
        looked_at, kept = run.data.validation, run.kept
    loss, accuracy = evaluate_all(run, looked_at, kept)

    def close() -> dict[str, Any]:
        what = "validation loss" if held_out else f"loss of {_LOOKED_AT} training images"
        _check_finite(what, loss, run)
        if held_out:
            record.update(validation_loss=loss, validation_accuracy=accuracy)
        bad = not_finite(run.model)
        if bad:
            raise UserError(f"{bad} is not finite after epoch {run.epoch + 1}; {_advice(run)}")
        record["seconds"] += time.perf_counter() - started
        return record

    run.history.append(run.world.by_first(close))
    run.epoch += 1
    run.save()
    for text in run.notes:
        reporter.note(text)
    reporter.epoch(run.history[-1])


def _train_epoch(
    run: Run, epoch: Epoch, reporter: Reporter, extras: Extras
) -> Generator[None, None, dict[str, Any]]:
    """One pass over the training images; returns the line of ``metrics.jsonl``, validation still missing.

    It goes on where a saved state was in the middle of it.
    """
    started = time.perf_counter()
    config, steps = run.config, run.steps_per_epoch
    run.model.train()
    skipped = max(0, config.method.rewind_step - epoch.number * steps) if epoch.round else 0
    done = run.within or Within(skipped, torch.zeros(steps, device=run.device))
    run.within, run.changed, run.flops = None, done.changed, done.flops
    losses = done.losses.clone()
    if not run.world.first:
        losses.zero_()  # those before are in the first process's sums
    shuffled = run.data.train.shuffled(
        config.batch_size,
        generator_for(config.seed, "epoch", run.epoch),
        config.augment,
        start=done.step,
        part=run.world.part,
    )
    together = run.world.together(shuffled, fallible=run.data.train.streamed)
    batches = TimedBatches(together, clock_of(run.device))
    save = _Saving(run, done, batches, started, extras.save_every)
    with nullcontext() if run.kept is None else run.kept.beside():
        examples = yield from _steps(run, epoch, batches, losses, reporter, extras.record_every, done, save)
    if run.epoch + 1 == len(run.plan):
        prune_last(run, epoch)
    trained = done.seconds + time.perf_counter() - started
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
        "lr": run.lr(epoch, (epoch.number + 1) * steps - 1),
        "seconds": trained,
        "data_share": (done.reading + batches.seconds) / trained,
    }


class _Saving:
    """Saves the state within an epoch, when that much time has gone by; nothing that is computed hangs on it.

    A state holds the weights after a whole step, and `losses` summed over the processes.
    """

    def __init__(self, run: Run, done: Within, batches: TimedBatches, started: float, every: float) -> None:
        self.run, self.done, self.batches = run, done, batches
        self.started, self.last, self.every = started, started, every

    def after(self, step: int, losses: Tensor, examples: int) -> bool:
        """Save after so many steps of the epoch, if it is time; whether it was."""
        run, now = self.run, time.perf_counter()
        if not self.every or step >= len(losses) or not run.world.decide(now - self.last >= self.every):
            return False
        run.within = Within(
            step,
            run.world.sum(losses).clone(),
            examples,
            run.changed,
            run.flops,
            self.done.seconds + now - self.started,
            self.done.reading + self.batches.seconds,
        )
        bad = not_finite(run.model)
        if bad:  # a state from which nothing can go on would replace a good one
            raise UserError(f"{bad} is not finite in epoch {run.epoch + 1}, step {step}; {_advice(run)}")
        run.save()
        run.within, self.last = None, time.perf_counter()
        return True


def _steps(
    run: Run,
    epoch: Epoch,
    batches: TimedBatches,
    losses: Tensor,
    reporter: Reporter,
    record_every: int,
    done: Within,
    save: _Saving,
) -> Generator[None, None, int]:
    """The epoch's steps from those that are `done`, their losses into `losses`; images trained on."""
    steps, rewind_step = len(losses), run.config.method.rewind_step
    size, total = run.config.batch_size, len(run.data.train)
    every = _CHECK_PHOTOGRAPHS if run.data.train.streamed else _CHECK_EVERY
    examples, checked = done.examples, done.step
    for number, (images, labels) in enumerate(batches, done.step):
        step, count = epoch.number * steps + number, min(size, total - number * size)
        if step == rewind_step and not epoch.round and len({one.round for one in run.plan}) > 1:
            run.rewind = {name: value.clone() for name, value in run.model.state_dict().items()}
        if record_every and (run.epoch * steps + number) % record_every == 0:
            _record(run, run.epoch * steps + number)
        train_step(run, epoch, step, images, labels, losses[number], count)
        examples += count
        if (number + 1) % every == 0 or number + 1 == steps:
            mean = _finite_mean(run, losses, checked, number + 1)
            checked = number + 1
            reporter.step(run.epoch + 1, number + 1, steps, mean)
        if save.after(number + 1, losses, examples):
            reporter.saved(run.epoch, number + 1)
        yield
    return examples


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
    if run.folder.last.exists() and not run.epoch:
        good = f"{run.folder.last} is of the first epoch"
    return f"last good checkpoint: {good}; {_ADVICE}"
