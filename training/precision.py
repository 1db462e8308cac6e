"""What float32 means on a GPU, and the same bits twice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from landscape.gpu_numerics import gpu_numerics

Precision = Literal["float32", "tf32", "bfloat16"]


def numerics(precision: Precision) -> AbstractContextManager[None]:
    """TF32 only where it is asked for, and cuDNN's deterministic algorithms; see `gpu_numerics`.

    A resumed run ends with the same bits only if the algorithms don't add in another order each time.
    """
    return gpu_numerics(precision == "tf32")


def forward_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The forward pass inside runs in bfloat16 where that is safe, if asked for; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
