"""One step of a run: the closure that every optimizer gets, and changes of the mask."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.data import generator_for
from training.precision import forward_in
from training.run import Run
from training.schedule import Epoch, lr_factor
from training.sparsity.base import Moment, Situation


class Closure:
    """Loss and gradients of one batch at the present weights; see ``training.optimizers.base``.

    Parameters
    ----------
    run
        The training.
    images, labels
        The whole batch; this process computes its part of it, in ``accumulate`` pieces.
    loss_out
        Filled with this process's share of the batch's mean loss, at the first call.
    """

    def __init__(self, run: Run, images: Tensor, labels: Tensor, loss_out: Tensor) -> None:
        self.run, self.loss_out = run, loss_out
        world, pieces = run.world, run.config.accumulate
        self.whole = len(labels) < world.size  # too few to share: every process computes all
        self.count = len(labels)
        mine, true = world.part(images), world.part(labels)
        pieces = min(pieces, len(true))
        self.pieces = list(zip(mine.tensor_split(pieces), true.tensor_split(pieces), strict=True))
        self.fresh = True

    def __call__(self, sync: bool = True) -> Tensor:
        """Zero the gradients, fill them, mask them; `sync=False` keeps them to this process's part."""
        loss = self.gradients(sync, dense=False)
        if self.run.config.optimizer.masks_gradients:
            self.run.applied.to_gradients()
        return loss

    def gradients(self, sync: bool = True, dense: bool = True) -> Tensor:
        """The same without masking; where `dense`, gradients of pruned weights are not left out."""
        run = self.run
        forward = run.forward if dense or run.kept is None else run.kept
        run.optimizer.zero_grad()
        total = torch.zeros((), device=run.device)  # of the losses of this process's images
        # Averaging over processes divides by their number, where it is the sum of the parts that is wanted.
        share = 1 if self.whole or not sync else run.world.size
        count = self.count if sync or self.whole else sum(len(labels) for _, labels in self.pieces)
        for number, (images, labels) in enumerate(self.pieces):
            last = number == len(self.pieces) - 1
            with nullcontext() if sync and last else run.world.without_sync(run.forward):
                with forward_in(run.config.precision, run.device):
                    logits = forward(images)
                loss = F.cross_entropy(
                    logits.float(), labels, reduction="sum", label_smoothing=run.config.label_smoothing
                )
                (loss * (share / count)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        run.count(self.count, dense_gradient=dense)
        if self.fresh:
            self.loss_out.copy_(total / (self.count * (run.world.size if self.whole else 1)))
            self.fresh = False
        return total / count


def train_step(run: Run, epoch: Epoch, step: int, images: Tensor, labels: Tensor, loss_out: Tensor) -> None:
    """Step `step` (from 0) of the epoch's round; afterwards pruned weights are exactly 0.

    Where the method takes the dense gradient of the batch to change the mask, that is the whole step.
    """
    config, method = run.config, run.config.method
    closure = Closure(run, images, labels, loss_out)
    moment = Moment(step, epoch.epochs * run.steps_per_epoch, run.steps_per_epoch)
    if method.update_due(moment):
        if method.gradient == "dense":
            with nullcontext() if run.kept is None else run.kept.without():
                closure.gradients()
        _change_mask(run, epoch, moment)
        if method.gradient == "dense":
            return
    lr = config.optimizer.lr * lr_factor(step, run.steps_per_epoch, epoch.epochs, config.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.step(closure)  # type: ignore[arg-type]  # torch says float; a tensor doesn't wait for a GPU
    run.applied.to_weights()


def _change_mask(run: Run, epoch: Epoch, moment: Moment) -> None:
    method = run.config.method
    now = Situation(
        model=run.model,
        mask=run.mask,
        moment=moment,
        gradients={} if method.gradient == "none" else run.gradients(),
        source=run.data.train,
        generator=generator_for(run.config.seed, "mask", epoch.round, moment.step + 1),
        memory=run.memory,
    )
    for mask in method.update_mask(now):
        run.use(mask)
    run.write(method.restored(now, run.mask))


def begin_round(run: Run, epoch: Epoch) -> None:
    """Prune what the last round trained, go back to the early weights, start a new optimizer."""
    mask = run.config.method.next_round(run.model, run.mask, epoch.round)
    run.model.load_state_dict(run.rewind)
    run.optimizer = run.config.optimizer.build_at(run.model, run.config.method.rewind_step)
    run.optimizer.zero_grad()
    run.memory.clear()
    run.use(mask)
