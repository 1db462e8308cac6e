"""Which images of a training split a run trained on and which it held out: drawn by seed.

Training draws by these functions and states the result in its checkpoint; whoever evaluates the checkpoint
takes the images from there, or draws them again where an older checkpoint states only the seed.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.images import ImageSet


def generator_for(seed: int, *purpose: int | str) -> torch.Generator:
    """Return the CPU generator of one purpose, say ``generator_for(seed, "order", epoch)``.

    Different purposes are independent streams (numpy's SeedSequence), so no state must be saved.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32]
    for part in purpose:
        words.append(
            part if isinstance(part, int) else int.from_bytes(hashlib.sha256(part.encode()).digest()[:4])
        )
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Ascending indices of the held-out images: ``round(share * n)`` of each class's n, drawn by `seed`."""
    generator = generator_for(seed, "hold out")
    parts = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = torch.randperm(len(members), generator=generator, device="cpu").numpy()
        parts.append(members[order[: round(share * len(members))]])
    return np.sort(np.concatenate(parts))


def balanced_subset(
    labels: NDArray[np.int64], among: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """`count` of the indices `among`, ascending, drawn by `seed`: class counts differ by 1 at the most.

    A class with too few images gives all it has; the others make up for it.
    """
    generator = generator_for(seed, "subset")
    classes = [among[labels[among] == label] for label in np.unique(labels[among])]
    shuffled = [one[torch.randperm(len(one), generator=generator, device="cpu").numpy()] for one in classes]
    turns = np.concatenate([np.arange(len(one)) for one in shuffled])  # an image's turn in its class
    return np.sort(np.concatenate(shuffled)[np.argsort(turns, kind="stable")[:count]])


def fingerprint(data: ImageSet) -> str:
    """SHA-256 of labels and pixels in their order: indices into the data mean nothing without it."""
    digest = hashlib.sha256(np.ascontiguousarray(data.labels).data)
    digest.update(np.ascontiguousarray(data.images).data)
    return digest.hexdigest()
