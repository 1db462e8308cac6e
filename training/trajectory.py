"""Weights along a training, for the plane of its path: one sparse checkpoint for each recorded step."""

from __future__ import annotations

from pathlib import Path

from landscape.checkpoint.format import Checkpoint, encode
from landscape.files import atomic_path
from training.checkpoint import save

FOLDER = "trajectory"


def snapshot_path(run_folder: Path, step: int) -> Path:
    """Where the weights after `step` updates of the whole run stand; names sort by step."""
    return run_folder / FOLDER / f"step-{step:08d}.pt"


def save_snapshot(run_folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write one; a resumed run writes the same bits again."""
    path = snapshot_path(run_folder, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save(encode(checkpoint), temporary)
