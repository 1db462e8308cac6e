"""Round which GPUs of a machine jobs go that run at the same time, each a process of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from landscape.errors import UserError


def check_device(device: str) -> None:
    """Refuse what is no device's name, before anything is loaded that knows which there are; UserError."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise UserError(f"--device {device}: expected auto, cpu, cuda or cuda:N")


def devices_for(device: str, at_a_time: int) -> list[str]:
    """Where jobs of which some run at a time are to compute: each GPU here, unless one is named."""
    if device not in ("auto", "cuda") or at_a_time == 1:
        return [device]
    import torch  # takes seconds

    count = torch.cuda.device_count()
    return [f"cuda:{number}" for number in range(count)] if count > 1 else [device]


def least_used(devices: Sequence[str], used: Iterable[str]) -> str:
    """The one on which the fewest jobs run; of these the first."""
    jobs = Counter(used)
    return min(devices, key=lambda one: jobs[one])
