"""What float32 means on a GPU, and the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


@contextmanager
def numerics(precision: Precision) -> Iterator[None]:
    """TF32 only where it is asked for, and cuDNN's deterministic algorithms; afterwards as before.

    A resumed run ends with the same bits only if the algorithms don't add in another order each time.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic)
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    cudnn.deterministic = True
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic = before


def forward_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The forward pass inside runs in bfloat16 where that is safe, if asked for; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
