"""Running statistics re-estimated at each point, the other convention in the literature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import UserError
from landscape.losses import Loss

BATCH_SIZE = 256


class Recalibration:
    """Averages batch statistics over fixed batches, each batch counting equally.

    As ``update_bn`` of stochastic weight averaging (Izmailov et al. 2018, section 3.2); only batch norm is in
    training mode meanwhile.

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
        self.norms = _norms(module.modules())
        for norm in self.norms:
            norm.momentum = None  # cumulative average, for which each forward pass reads how many came before
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.cpu()  # from a GPU it would wait for it

    def run(self) -> None:
        """Replace the running statistics by those of the present weights."""
        try:
            for norm in self.norms:
                norm.reset_running_stats()
                norm.train()
            with torch.no_grad():
                for batch in self.batches if self.norms else ():
                    self.loss(self.module, batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm
                raise
            raise UserError(
                "batch norm has no statistics of a single example; give more examples, or keep the running "
                "statistics with --batch-norm fixed"
            ) from error
        finally:
            for norm in self.norms:
                norm.eval()


def _norms(modules: Iterable[nn.Module]) -> list[_BatchNorm]:
    return [one for one in modules if isinstance(one, _BatchNorm) and one.track_running_stats]
