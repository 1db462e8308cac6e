"""Which device a name stands for, and whether it is there."""

from __future__ import annotations

import torch

from landscape.errors import UserError

KINDS = ("cpu", "cuda")
"""What the toolkit computes on; others lack float64, graphs or operations that it needs."""


def choose_device(device: str) -> str:
    """The device that "auto" or a name stands for; UserError when it isn't there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(checked_device(device))


def free_bytes(device: torch.device | str) -> int:
    """What may be allocated on a GPU now, what PyTorch holds without need included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def kind_of(device: str) -> str:
    """What of a device a result hangs on: which of several GPUs computed it is no matter."""
    return torch.device(device).type


def checked_device(device: torch.device | str) -> torch.device:
    """A device that is there and that the toolkit computes on.

    Raises
    ------
    UserError
        For any other, before anything is computed.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N") from error
    if found.type not in KINDS:
        raise UserError(f"device {str(found)!r}: only CPUs and CUDA are supported; use --device cpu")
    if found.type == "cpu":
        return found
    if not torch.cuda.is_available():
        raise UserError(f"device {str(found)!r}: CUDA isn't available here; use --device cpu")
    count = torch.cuda.device_count()
    if found.index is not None and found.index >= count:
        there = "cuda:0 is" if count == 1 else f"cuda:0 to cuda:{count - 1} are"
        raise UserError(f"device {str(found)!r}: only {there} here")
    return found
