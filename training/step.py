"""One step of a run: the closure that every optimizer gets, and changes of the mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.data import generator_for
from training.optimizers.perturbing import Perturbing
from training.precision import forward_in
from training.run import Run
from training.schedule import Epoch
from training.sparsity.base import Moment, Situation


class Part(NamedTuple):
    """What one process has of a batch.

    Attributes
    ----------
    images, labels
        ``[N, 3, H, W]`` and ``[N]``.
    total
        Images of the whole batch, over all processes.
    others, share
        Where images were mixed: labels of those that were added, and the share of `labels`.
    """

    images: Tensor
    labels: Tensor
    total: int
    others: Tensor | None = None
    share: float = 1.0

    def mixed(self, share: float) -> Part:
        """Each image with the one as far from the end (Zhang et al., "mixup", 2018): the order is random."""
        images = self.images.lerp(self.images.flip(0), 1 - share)
        return self._replace(images=images, others=self.labels.flip(0), share=share)

    def pieces(self, number: int) -> list[Part]:
        """Cut into so many, or as many as there are images."""
        number = min(number, len(self.labels))
        images, labels = self.images.tensor_split(number), self.labels.tensor_split(number)
        none: tuple[Tensor | None, ...] = (None,) * number
        others = none if self.others is None else self.others.tensor_split(number)
        return [
            self._replace(images=one, labels=two, others=three)
            for one, two, three in zip(images, labels, others, strict=True)
        ]

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Sum of the cross-entropies, in float32."""
        logits = logits.float()
        found = F.cross_entropy(logits, self.labels, reduction="sum", label_smoothing=smoothing)
        if self.others is None:
            return found
        added = F.cross_entropy(logits, self.others, reduction="sum", label_smoothing=smoothing)
        return self.share * found + (1 - self.share) * added


class Closure:
    """Loss and gradients of one batch at the present weights; see ``training.optimizers.base``.

    Parameters
    ----------
    run
        The training.
    batch
        This process's part of it, which is computed in ``accumulate`` pieces.
    loss_out
        Filled with this process's share of the batch's mean loss, at the first call.

    Attributes
    ----------
    then
        What is called, in turn, once the gradients are there.
    """

    def __init__(self, run: Run, batch: Part, loss_out: Tensor) -> None:
        self.run, self.batch, self.loss_out = run, batch, loss_out
        self.whole = batch.total < run.world.size  # too few to share: every process computes all
        self.count = batch.total
        self.fresh = True
        self.then: list[Callable[[], None]] = []

    def __call__(self, sync: bool = True) -> Tensor:
        """Zero the gradients, fill them, mask them; `sync=False` keeps them to this process's part."""
        loss = self.gradients(sync, dense=False)
        if self.run.config.optimizer.masks_gradients:
            self.run.applied.to_gradients()
        for work in self.then:
            work()
        return loss

    def gradients(self, sync: bool = True, dense: bool = True) -> Tensor:
        """The same without masking; where `dense`, gradients of pruned weights are not left out."""
        run = self.run
        forward = run.forward if dense or run.kept is None else run.kept
        run.optimizer.zero_grad()
        # Averaging over processes divides by their number, where it is the sum of the parts that is wanted.
        share = 1 if self.whole or not sync else run.world.size
        count = self.count if sync or self.whole else len(self.batch.labels)
        compute = partial(self._passes, forward, sync, share / count)
        total = run.passes(compute, self.batch.images, self.batch.labels)
        run.count(self.count, dense_gradient=dense)
        if self.fresh:
            self.loss_out.copy_(total / (self.count * (run.world.size if self.whole else 1)))
            self.fresh = False
        return total / count

    def _passes(
        self,
        forward: Callable[[Tensor], Tensor],
        sync: bool,
        scale: float,
        images: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Add gradients of `scale` times the losses of this process's images; returns the losses' sum."""
        run = self.run
        total = torch.zeros((), device=run.device)
        pieces = self.batch._replace(images=images, labels=labels).pieces(run.config.accumulate)
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            with nullcontext() if sync and last else run.world.without_sync(run.forward):
                with forward_in(run.config.precision, run.device):
                    logits = forward(piece.images)
                loss = piece.loss(logits, run.config.label_smoothing)
                (loss * scale).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total


def train_step(
    run: Run,
    epoch: Epoch,
    step: int,
    images: Tensor,
    labels: Tensor,
    loss_out: Tensor,
    count: int | None = None,
) -> None:
    """Step `step` (from 0) of the epoch's round; afterwards pruned weights are exactly 0.

    Where the method takes the dense gradient of the batch to change the mask, that is the whole step.
    `images` and `labels` are this process's part of a batch of `count`, of all where there is one process.

    What layers draw, such as dropout, they draw from torch's global generator, which is seeded for each step
    and process, so that a run that goes on in the middle draws the same.
    """
    config, method = run.config, run.config.method
    batch = Part(images, labels, len(labels) if count is None else count)
    if config.mixup:
        torch.manual_seed(generator_for(config.seed, "mixup", epoch.round, step).initial_seed())
        batch = batch.mixed(float(torch.distributions.Beta(config.mixup, config.mixup).sample()))
    torch.manual_seed(generator_for(config.seed, "layers", epoch.round, step, run.world.rank).initial_seed())
    closure = Closure(run, batch, loss_out)
    moment = Moment(step, epoch.epochs * run.steps_per_epoch, run.steps_per_epoch)
    if method.update_due(moment):
        if method.gradient == "dense":
            with nullcontext() if run.kept is None else run.kept.without():
                closure.gradients()
        _change_mask(run, epoch, moment)
        if method.gradient == "dense":
            return
    for group in run.optimizer.param_groups:
        group["lr"] = run.lr(epoch, step)
    pulled = method.pull(run.model, run.memory, moment)
    weights: dict[Tensor, Tensor] = {run.model.get_parameter(name): one for name, one in pulled.items()}
    kept = method.gradient == "last" and not config.optimizer.keeps_gradients
    with (
        before_update(run.optimizer, closure, run.keep_gradients) if kept else nullcontext(),
        pulling(run.optimizer, closure, weights),
    ):
        run.optimizer.step(closure)  # type: ignore[arg-type]  # torch says float; a tensor doesn't wait
    run.applied.to_weights()


@contextmanager
def pulling(optimizer: Any, closure: Closure, pulled: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Inside, a step adds tensors to the gradients it updates weights by, not to those it perturbs by."""

    def add() -> None:
        for weight, one in pulled.items():
            if weight.grad is None:
                weight.grad = one
            else:
                weight.grad += one

    with before_update(optimizer, closure, add) if pulled else nullcontext():
        yield


@contextmanager
def before_update(optimizer: Any, closure: Closure, work: Callable[[], None]) -> Iterator[None]:
    """Inside, a step does `work` when the gradients are there that it updates weights by."""
    if isinstance(optimizer, Perturbing):  # whose base gets the gradients as they are in the end
        handle = optimizer.base.register_step_pre_hook(lambda *_: work())
        try:
            yield
        finally:
            handle.remove()
    else:
        closure.then.append(work)
        yield


def prune_last(run: Run, epoch: Epoch) -> None:
    """After the last step of the run: the masks that some methods make then."""
    steps = epoch.epochs * run.steps_per_epoch
    now = _situation(run, epoch, Moment(steps, steps, run.steps_per_epoch))
    found = run.config.method.last_masks(now)
    for mask in found:
        run.use(mask)
    if found:
        run.write(run.config.method.restored(now, run.mask))


def _change_mask(run: Run, epoch: Epoch, moment: Moment) -> None:
    method = run.config.method
    now = _situation(run, epoch, moment)
    for mask in method.update_mask(now):
        run.use(mask)
    run.write(method.restored(now, run.mask))


def _situation(run: Run, epoch: Epoch, moment: Moment) -> Situation:
    method = run.config.method
    return Situation(
        model=run.model,
        mask=run.mask,
        moment=moment,
        gradients={} if method.gradient == "none" else run.gradients(),
        source=run.data.train,
        generator=generator_for(run.config.seed, "mask", epoch.round, moment.step + 1),
        memory=run.memory,
    )


def begin_round(run: Run, epoch: Epoch) -> None:
    """Prune what the last round trained, go back to the early weights, start a new optimizer."""
    mask = run.config.method.next_round(run.model, run.mask, epoch.round)
    run.model.load_state_dict(run.rewind)
    run.optimizer = run.config.optimizer.build_at(run.model, run.config.method.rewind_step)
    run.optimizer.zero_grad()
    run.memory.clear()
    run.use(mask)
