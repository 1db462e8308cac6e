"""Points a second by the size of batches, with convolutions fused and not: what the shared cache is worth.

A batch whose activations stay in the L2 cache spares the memory, which is what surfaces wait for by estimate;
a large one keeps more of the device busy. Which is better is for a GPU to say; `choose_batch_size` doesn't
ask for the cache as long as none has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from unittest import mock

import torch
from torch import Tensor, nn

from landscape.engine import Engine, fuse_cuda
from landscape.examples import Examples
from landscape.losses import classification

_SHARES = (1, 8, 32)  # of the default, which has 256 MiB in the largest activation: 32 and 8 MiB
_POINT = (0.1, -0.05)


def by_batches(
    model: nn.Module,
    examples: Examples,
    along: Sequence[Mapping[str, Tensor]],
    device: torch.device,
    dtypes: Sequence[str],
    seconds: Callable[[Callable[[], object]], float],
) -> Iterator[tuple[str, str]]:
    """What was measured, and what was found; `seconds` says how long a call takes."""

    def engine(dtype: str, size: int | None, fused: bool) -> Engine:
        with nullcontext() if fused else mock.patch.object(fuse_cuda, "available", return_value=False):
            return Engine(
                *(model, {"test": examples}, classification, along),
                **{"device": device, "dtype": dtype, "batch_size": size, "sparse": "off"},
            )

    cuda = device.type == "cuda"
    cache = torch.cuda.get_device_properties(device).L2_cache_size if cuda else 0
    for dtype in dict.fromkeys(dtypes):
        usual = None
        for share in _SHARES:
            for fused in (True, False) if cuda else (True,):
                one = engine(dtype, usual and max(1, usual // share), fused)
                usual = usual or one.about["batch_size"]
                took = seconds(lambda one=one: one.evaluate(_POINT))  # type: ignore[misc]
                why = one.about["unfused_because"]
                yield (
                    f"{dtype}, {one.about['batch_size']} at once, {one.about['fused']} convolutions fused"
                    + (f" ({why})" if why else ""),
                    f"{1 / took:.4g} points/s; CUDA graph: {one.about['cuda_graph']}"
                    + (f"; L2 cache {cache / 2**20:.4g} MiB" if cuda else ""),
                )
