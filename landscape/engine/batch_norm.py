"""Running statistics re-estimated at each point, the other convention in the literature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from landscape.checks.determinism import relative_difference
from landscape.engine.totals import batch_values
from landscape.errors import UserError
from landscape.losses import Loss

BATCH_SIZE = 256

Norm: TypeAlias = _BatchNorm | _InstanceNorm
_FROZEN = "Frozen"  # torchvision's, detectron2's and others', which are constant on purpose
_UNUSED = 1e-6  # relative: so little does a loss change where statistics that it doesn't use do
_TOO_FEW = {  # of torch's norms
    "more than 1 value per channel": "batch norm has no statistics of a single example; give more examples",
    "more than 1 spatial element": "instance norm has no statistics of a single pixel; give larger inputs",
}


class Recalibration:
    """Averages batch statistics over fixed batches, each batch counting equally.

    As ``update_bn`` of stochastic weight averaging (Izmailov et al. 2018, section 3.2); only batch norm, and
    instance norm that keeps statistics, is in training mode meanwhile. Norms that no batch passes keep what
    they hold.

    Parameters
    ----------
    module
        The caller's own copy, in evaluation mode; its norms' counts of batches move to the CPU.
    loss
        Runs the module's forward pass; its value is not used.
    batches
        Near-equal ones of about `BATCH_SIZE` examples where the engine chooses.
    """

    def __init__(self, module: nn.Module, loss: Loss, batches: Sequence[Any]) -> None:
        self.module = module
        self.loss = loss
        self.batches = batches
        self._held = dict(_statistics(module))
        self.norms: dict[str, Norm] = {
            name: one
            for name, one in module.named_modules()
            if name in self._held and isinstance(one, _BatchNorm | _InstanceNorm) and one.track_running_stats
        }
        self._before = {name: _copied(self._held[name]) for name in self.norms}
        self._unused: set[str] = set()
        for norm in self.norms.values():
            norm.momentum = None  # cumulative average, for which each forward pass reads how many came before
            count = norm.num_batches_tracked
            # From a GPU it would wait for it; old files have none.
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long) if count is None else count.cpu()

    def run(self) -> None:
        """Replace the running statistics by those of the present weights.

        Raises
        ------
        UserError
            When there are too few examples for statistics, or the loss uses statistics of a layer that it
            doesn't call, so that they can't be estimated.
        """
        if not self._held:
            return
        with self._training(), torch.no_grad():
            for batch in self.batches if self.norms else ():
                self.loss(self.module, batch)
        idle = [name for name, one in self.norms.items() if not one.num_batches_tracked]
        for name in idle:
            _put(self._held[name], self._before[name])
        asked = {*idle, *(self._held.keys() - self.norms.keys())} - self._unused
        if asked:
            self._refuse_used(sorted(asked))
            self._unused |= asked

    @contextmanager
    def _training(self) -> Iterator[None]:
        """The norms begin anew, and collect."""
        try:
            with ExitStack() as hooks:
                for norm in self.norms.values():
                    norm.reset_running_stats()
                    norm.train()
                    if isinstance(norm, _InstanceNorm):  # which doesn't count, nor know a cumulative average
                        hooks.callback(norm.register_forward_pre_hook(_count).remove)
                yield
        except ValueError as error:
            why = next((text for words, text in _TOO_FEW.items() if words in str(error)), None)
            if why is None:
                raise
            raise UserError(f"{why}, or keep the running statistics with --batch-norm fixed") from error
        finally:
            for norm in self.norms.values():
                norm.eval()

    def _refuse_used(self, names: Sequence[str]) -> None:
        """UserError where the loss is another with other statistics of a layer that wasn't estimated."""
        expected = self._loss()
        for name in names:
            held, before = self._held[name], _copied(self._held[name])
            mean, variance = before
            _put(held, (mean + mean.abs() + 1, 4 * variance + 1))
            changed = relative_difference(expected, self._loss()) > _UNUSED
            _put(held, before)
            if changed:
                raise UserError(
                    f"the running statistics of {name!r} can't be re-estimated: the loss uses them without "
                    "calling that layer in training mode (F.batch_norm with them, TorchScript, a class of "
                    "one's own?); call the layer, or keep them with --batch-norm fixed"
                )

    def _loss(self) -> Tensor:
        with torch.no_grad():
            return batch_values(self.loss(self.module, self.batches[0])).values["loss"].clone()


def _statistics(module: nn.Module) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Running mean and variance by layer, of whatever class; not of those that are meant to be constant."""
    for name, one in module.named_modules():
        held: Mapping[str, Tensor] = dict(one.named_buffers(recurse=False))
        kind = getattr(one, "original_name", type(one).__name__)
        if "running_mean" in held and "running_var" in held and _FROZEN not in kind:
            yield name, (held["running_mean"], held["running_var"])


def _count(norm: nn.Module, _: Any) -> None:
    """Before each batch: the share that it has in a cumulative average."""
    assert isinstance(norm, _InstanceNorm)
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        norm.momentum = 1 / int(norm.num_batches_tracked)


def _copied(statistics: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return statistics[0].clone(), statistics[1].clone()


def _put(statistics: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        for one, value in zip(statistics, values, strict=True):
            one.copy_(value)
