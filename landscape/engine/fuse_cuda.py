"""Convolution, bias, residual addition and ReLU as one cuDNN operation each, for a folded network on a GPU.

There convolutions of such networks wait for memory: a bias, a sum or a ReLU of its own reads and writes the
whole activation once more. ``aten::cudnn_convolution_relu`` and ``cudnn_convolution_add_relu`` are PyTorch's,
made for its frozen TorchScript; both end in a ReLU, so a convolution that none follows stays as it is.

What they take from the process, by PyTorch's source (`aten/src/ATen/native/cudnn/ConvShared.cpp`,
`Conv_v8.cpp`): whether algorithms are chosen by timing (``cudnn.benchmark``), and whether float32 may be TF32
(``cudnn.conv.fp32_precision``, or ``cudnn.allow_tf32``), both as `landscape.gpu_numerics` sets them. **Not
``cudnn.deterministic``**: they always pass "no". cuDNN's documentation names no forward convolution among the
routines whose bits may change between runs; that is all there is to rely on, so equal bits are asked for
before the network is used (`network._steady`). Two more things are looked at there:

- Without a residual the operand of the sum is the output itself, not yet written, times zero. Were it read, a
  NaN that an earlier point left in memory would be in every later one.
- A ReLU that drops NaN would make numbers of a network that has diverged. PyTorch asks cuDNN to keep it. An
  infinite activation may become the largest float32, of which the next layer makes infinity again.

No GPU has run any of this yet.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from landscape.engine.fold import FoldedConv, FoldedNet
from landscape.engine.fuse_chains import Chain, fuse_chains

_OLDEST = 8300  # an operand of the sum that is the convolution's input, too, was summed wrongly before
_DTYPES = (torch.float32, torch.bfloat16)  # of float64 the sum and the ReLU would be computed in float32


def available(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has the operations for `dtype`; ROCm's MIOpen has others."""
    cudnn = torch.backends.cudnn
    if dtype not in _DTYPES or torch.version.hip is not None:
        return False
    if not cudnn.enabled or not cudnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        version = cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError:  # another cuDNN than the one that PyTorch was built with
        return False
    return version is not None and version >= _OLDEST


def fuse(net: FoldedNet, example: Tensor) -> int:
    """Fuse what can be fused, in place; see `landscape.engine.fuse_chains.fuse_chains`.

    Weights and biases stay in the memory that `FoldedNet.refresh` writes, in channels-last: a captured graph
    reads them there. Every result is in new memory, so nothing that is read later is overwritten.
    """
    return fuse_chains(net, example, _call)


def _call(graph: fx.Graph, _conv: FoldedConv, chain: Chain) -> fx.Node | None:
    if chain.relu is None:
        return None
    x, weight, bias, *settings = chain.first.args
    if chain.other is None:
        operation = torch.ops.aten.cudnn_convolution_relu.default
        return graph.call_function(operation, (x, weight, bias, *settings))
    operation = torch.ops.aten.cudnn_convolution_add_relu.default
    return graph.call_function(operation, (x, weight, chain.other, 1.0, bias, *settings))
