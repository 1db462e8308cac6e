"""What a surface file remembers of the run: digests of its inputs, versions, hardware."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sharpscape


def digest(
    tensors: Mapping[str, Tensor], first: tuple[str, tuple[int, ...], Iterable[Tensor]] | None = None
) -> str:
    """Short SHA-256 over names, types, shapes and bytes, on whatever device the tensors are.

    `first` is a uint8 tensor before the others, in parts: its name, its shape, and the parts.
    """
    sha = hashlib.sha256()
    if first is not None:
        name, shape, parts_of_it = first
        sha.update(f"{name} {torch.uint8} {shape}\n".encode())
        for part in parts_of_it:
            sha.update(part.contiguous().numpy().tobytes())
    for name, value in tensors.items():
        if value.layout != torch.strided:
            places = value.detach().cpu().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
            parts = {"places": places.indices(), "values": places.values()}
            sha.update(f"{name} {tuple(value.shape)} {digest(parts)}\n".encode())
            continue
        flat = value.detach().cpu().contiguous()
        sha.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        sha.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def describe_run(params: Mapping[str, Tensor], engine: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of parameters, engine, start time, versions and hardware; JSON types only."""
    return {
        "parameters": sum(value.numel() for value in params.values()),
        "nonzero_parameters": sum(int(torch.count_nonzero(value)) for value in params.values()),
        "engine": dict(engine),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "sharpscape": sharpscape.version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "hardware": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": _gpu(engine["device"]),
        },
    }


def _gpu(device: str) -> str | None:
    """Name of the GPU that computed; one that didn't isn't even asked, which would take memory of it."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None
