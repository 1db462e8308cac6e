"""The network on sparse kernels, where weights are zero on the whole plane and the kernels are faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.engine.weights import Weights

if TYPE_CHECKING:  # LLVM and its compiler are loaded only where there is something to compile
    from landscape.sparse.choice import Sparse
    from landscape.sparse.inference import SparseNet


def sparse_network(
    module: nn.Module, weights: Weights, inputs: list[Tensor], dtype: torch.dtype, sparse: Sparse
) -> SparseNet | str:
    """The network on sparse kernels, or the reason why not.

    Parameters
    ----------
    module, weights
        The engine's own copy, and what moves it: a weight that is zero at the centre and in all directions
        is never computed with.
    inputs
        Examples of what the network is called with.
    """
    if sparse == "off":
        return "sparse kernels are switched off"
    if weights.start.device.type != "cpu":
        return f"the kernels are for CPUs, not {weights.start.device.type}"
    if dtype not in (torch.float32, torch.float64):
        return f"the kernels compute in float32 and float64, not {str(dtype).removeprefix('torch.')}"
    from landscape.sparse.choice import reason_against, reason_against_network

    kept = weights.support()
    reason = reason_against(kept)
    if reason is not None:
        return reason
    from landscape.sparse.inference import SparseNet
    from landscape.sparse.machine import host
    from landscape.sparse.trace import CannotRun, trace

    try:
        if len({one.shape[1:] for one in inputs}) != 1:
            return "its inputs have several sizes"
        traced = trace(module, inputs[0])
        reason = reason_against_network(traced, kept, sparse)
        return reason or SparseNet(module, kept, inputs[0], host(), traced)
    except CannotRun as error:
        return str(error)


def described(net: SparseNet) -> Mapping[str, Any]:
    """What determines the last bits, for the settings."""
    from landscape.sparse.kernels import FOLDED_VERSION

    return {"lanes": net.lanes, "kernels": FOLDED_VERSION}
