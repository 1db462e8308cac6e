"""The forward pass of a training on kept weights only, where the sparse kernels can do it and are faster.

Whether a run has it is decided before the first step, and stays so when it goes on after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import UserError
from landscape.sparse.choice import Sparse, check_choice, reason_against_network
from landscape.sparse.machine import missing
from landscape.threads import one_thread, threads
from training.masks import Mask
from training.sparsity.dense import Dense

if TYPE_CHECKING:
    from landscape.sparse.batch import SparseTraining
    from training.config import RunConfig


class KeptForward:
    """``model(images)`` in training mode, computed with kept weights only.

    Gradients of pruned weights are 0. With "auto" a mask that keeps too much for the kernels is computed with
    densely, which depends on nothing but the mask. So is, with "on" too, every step in which a batch norm is
    in evaluation mode: the kernels know the batch's statistics only. After `use` come new lists.

    Parameters
    ----------
    model, mask
        The network, in training mode, and its first mask.
    images
        One or more normalized images ``[N, C, H, W]``, for their shape.

    Raises
    ------
    landscape.sparse.trace.CannotRun
        When the kernels can't run it.
    """

    def __init__(self, model: nn.Module, mask: Mask, images: Tensor, sparse: Sparse) -> None:
        from landscape.sparse.batch import SparseTraining
        from landscape.sparse.machine import host
        from landscape.sparse.trace import trace

        self.model, self.mask, self.images, self.sparse = model, mask, images, sparse
        self.traced, self.machine, self.kind = trace(model, images), host(), SparseTraining
        self.lanes = self.machine.lanes("float")
        self.threads = torch.get_num_threads()
        self.kind(model, {}, images, self.machine, traced=self.traced)  # what can't run is known now
        self._norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
        self._net: Callable[[Tensor], Tensor] | None = None

    def use(self, mask: Mask) -> None:
        """Another mask holds from now on."""
        self.mask, self._net = mask, None

    def __call__(self, images: Tensor) -> Tensor:
        """The network's output; moves running statistics as the network does."""
        if any(not one.training and one.running_mean is not None for one in self._norms):
            with self.without():
                dense: Tensor = self.model(images)
            return dense
        if self._net is None:
            self._net = self.model if self._is_dense() else self._built()
        return self._net(images)

    def _is_dense(self) -> bool:
        """Whether the present mask keeps too much."""
        return reason_against_network(self.traced, self.mask, self.sparse) is not None

    def evaluating(self) -> Callable[[Tensor], Tensor]:
        """The network as it is now, for evaluation; it must be in evaluation mode."""
        if self._is_dense():
            return self.model
        from landscape.sparse.inference import SparseNet

        net = SparseNet(self.model, self.mask, self.images, self.machine, self.traced)
        return partial(net.in_threads, self.threads)

    def _built(self) -> SparseTraining:
        return self.kind(
            self.model, self.mask, self.images, self.machine, traced=self.traced, threads=self.threads
        )

    def beside(self) -> AbstractContextManager[None]:
        """For what PyTorch computes beside the kernels: in one thread, so that theirs have the cores."""
        return nullcontext() if self._is_dense() else one_thread()

    def without(self) -> AbstractContextManager[None]:
        """For a step that the network itself computes."""
        return threads(self.threads)

    def described(self) -> dict[str, int]:
        """What determines the last bits."""
        from landscape.sparse.kernels import VERSION

        return {"lanes": self.lanes, "kernels": VERSION}


def choose(
    model: nn.Module, mask: Mask, images: Tensor, sparse: Sparse, against: str | None
) -> KeptForward | str:
    """The forward pass on kept weights, or the reason why there is only the dense one.

    Parameters
    ----------
    model
        In training mode.
    images
        One or more of the training images.
    against
        What else of the run is against it, or None.

    Raises
    ------
    UserError
        Where it is asked for and impossible.
    """
    check_choice(sparse)
    if sparse == "off":
        return "sparse kernels are switched off"
    reason = against or missing()
    if reason is None:
        from landscape.sparse.trace import CannotRun

        try:
            return KeptForward(model, mask, images, sparse)
        except CannotRun as error:
            reason = str(error)
    if sparse == "on":
        raise UserError(f"--sparse on: {reason}; choose auto or off")
    return reason


def obstacle(config: RunConfig, device: str, processes: int, compiled: bool) -> str | None:
    """What of a run's settings is against the kernels."""
    if isinstance(config.method, Dense):
        return "no weight is pruned"
    if device != "cpu":
        return f"the kernels are for CPUs, not {device}"
    if processes > 1:
        return "several processes train together"
    if compiled:
        return "torch.compile is in charge"
    if config.precision != "float32":
        return f"the kernels compute in float32, not {config.precision}"
    if not config.optimizer.masks_gradients:
        return "the optimizer perturbs pruned weights, too"
    return None


def check_same_path(
    begun: Mapping[str, Any] | None, now: Mapping[str, Any] | None, place: object, reason: str
) -> None:
    """Refuse to go on with other rounding than a run began with.

    Parameters
    ----------
    begun, now
        `KeptForward.described`, or None for the dense forward pass.
    place
        The state's file.
    reason
        Why the present one is dense, if it is.
    """
    if begun == now:
        return
    texts = [
        "dense"
        if one is None
        else f"on sparse kernels ({one.get('lanes')} lanes, version {one.get('kernels')})"
        for one in (begun, now)
    ]
    because = f" ({reason})" if now is None and reason else ""
    raise UserError(
        f"{place}: the run began {texts[0]}, this one would go on {texts[1]}{because}; a run keeps to one: "
        "go on as it began, or choose another --output"
    )
